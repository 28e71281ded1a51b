"""Users and rights of an embedded broker: SASL on every listener, an authorizer, and the users that its storage begins with."""

from __future__ import annotations

import hashlib
import json
import secrets
from collections.abc import Iterable
from pathlib import Path

from shared.kafka.connection import KafkaAccess
from shared.kafka.credentials import ADMIN, Credentials, access_from, write_private

_LISTENERS = """\
listeners=CLIENT://127.0.0.1:{port},CONTROLLER://127.0.0.1:{controller}
advertised.listeners=CLIENT://127.0.0.1:{port}
inter.broker.listener.name=CLIENT
listener.security.protocol.map=CONTROLLER:SASL_PLAINTEXT,CLIENT:SASL_PLAINTEXT
sasl.enabled.mechanisms={mechanisms}
sasl.mechanism.inter.broker.protocol=SCRAM-SHA-512
listener.name.client.scram-sha-512.sasl.jaas.config=org.apache.kafka.common.security.scram.ScramLoginModule required \
username="{admin}" password="{password}";
listener.name.controller.sasl.enabled.mechanisms=PLAIN
sasl.mechanism.controller.protocol=PLAIN
listener.name.controller.plain.sasl.jaas.config=org.apache.kafka.common.security.plain.PlainLoginModule required \
username="controller" password="{own}" user_controller="{own}";
authorizer.class.name=org.apache.kafka.metadata.authorizer.StandardAuthorizer
super.users=User:{admin};User:controller
allow.everyone.if.no.acl.found=false
"""
_ONCE = """\
listener.name.client.plain.sasl.jaas.config=org.apache.kafka.common.security.plain.PlainLoginModule required user_{admin}="{once}";
"""


class BrokerSecurity:
    """What protects the broker in `folder`. `credentials` hold the passwords of `users`, and of the super user.

    Storage of an earlier release has no users. Then the super user's SCRAM password is unknown to the broker, and `once` is a password
    for SASL PLAIN that holds until the broker stops.
    """

    def __init__(self, folder: Path, credentials: Credentials, users: Iterable[str]) -> None:
        self.credentials = credentials
        self.users = [ADMIN, *users]
        self.once: str | None = None
        self._notes = folder / "users.json"

    def prepare(self, port: int, controller: int, new: bool) -> str:
        """Lines of `server.properties`. `new`: the storage will be formatted with `scram_users`."""
        self.once = (
            None if new or self._note().get(ADMIN) == _digest(self.credentials.password(ADMIN)) else secrets.token_urlsafe(32)
        )
        mechanisms = "SCRAM-SHA-512,PLAIN" if self.once else "SCRAM-SHA-512"
        lines = _LISTENERS.format(
            port=port, controller=controller, mechanisms=mechanisms, admin=ADMIN, password=self.credentials.password(ADMIN),
            # The broker is the one client of its controller, so a password for each start is enough.
            own=secrets.token_urlsafe(32),
        )  # fmt: skip
        return lines + (_ONCE.format(admin=ADMIN, once=self.once) if self.once else "")

    def scram_users(self) -> list[str]:
        """Arguments of `--add-scram` for new storage."""
        return [f'SCRAM-SHA-512=[name="{user}",password="{password}"]' for user, password in self._passwords().items()]

    def admin(self, bootstrap: str) -> KafkaAccess:
        """Connection of the super user to the running broker."""
        settings = self.credentials.settings(ADMIN, bootstrap)
        if self.once:
            del settings["KAFKA_SASL_PASSWORD_FILE"]
            settings |= {"KAFKA_SASL_MECHANISM": "PLAIN", "KAFKA_SASL_PASSWORD": self.once}
        return access_from(settings)

    def unknown(self) -> dict[str, str]:
        """User → password of those that the broker does not know, or knows with another password."""
        known = self._note()
        return {user: password for user, password in self._passwords().items() if known.get(user) != _digest(password)}

    def note(self, settled: str = "") -> None:
        """Keep in mind that the broker knows all users. `settled` names the rights and topics that it has."""
        known = {user: _digest(password) for user, password in self._passwords().items()}
        write_private(self._notes, json.dumps({"users": known, "settled": settled}, indent=1))

    @property
    def settled(self) -> str:
        """What `note` kept last."""
        return str(self._read().get("settled", ""))

    def _passwords(self) -> dict[str, str]:
        everyone = dict.fromkeys([*self.users, *self.credentials.known()])
        return {user: self.credentials.password(user) for user in everyone}

    def _note(self) -> dict[str, str]:
        found = self._read().get("users", {})
        return found if isinstance(found, dict) else {}

    def _read(self) -> dict[str, object]:
        try:
            found = json.loads(self._notes.read_text())
        except (OSError, ValueError):
            return {}
        return found if isinstance(found, dict) else {}


def _digest(password: str) -> str:
    return hashlib.sha256(password.encode()).hexdigest()
