"""Passwords of Kafka users in files that their owner alone can read, and the settings that a client needs to use one."""

from __future__ import annotations

import os
import re
import secrets
from dataclasses import dataclass
from pathlib import Path

from shared.errors import Stop
from shared.kafka.connection import KafkaAccess

ADMIN = "admin"
"""The super user, who creates topics, users and rights."""
SERVICE_PREFIX = "stageline-"
"""A service's user is this and the service's name."""
PROGRAMS = {"producer": "producers", "consumer": "consumers", "worker": "workers", "operator": "operators", "letters": "letters"}
"""User of a program outside, or of the gateway for dead letters → its role in the topic table."""
LETTERS = "letters"
"""The user as which the gateway reads dead letters and sends them again."""
NAME = re.compile(r"[A-Za-z0-9][A-Za-z0-9._-]{0,99}")
"""Names of users that become file names here."""


@dataclass(frozen=True, slots=True)
class Credentials:
    """One password per user, as files named after the users in `folder`."""

    folder: Path

    def file(self, user: str) -> Path:
        """The file with the user's password. Raises `Stop` for a name that is no file name."""
        if not NAME.fullmatch(user):
            raise Stop("kafka_user", f"user: {user!r} has more than letters, digits, dot, dash and underscore")
        return self.folder / user

    def known(self) -> list[str]:
        """Users with a password."""
        return sorted(
            path.name for path in self.folder.glob("*") if NAME.fullmatch(path.name) and not path.name.endswith(".part")
        )

    def password(self, user: str) -> str:
        """The user's password, made if there is none. Raises `Stop` when the file can be neither read nor written."""
        path = self.file(user)
        try:
            if not path.exists():
                self.folder.mkdir(mode=0o700, parents=True, exist_ok=True)
                write_private(path, secrets.token_urlsafe(32) + "\n")
            return path.read_text().strip()
        except OSError as error:
            raise Stop("kafka_user", f"{path}: {error.strerror or error}") from error

    def forget(self, user: str) -> None:
        """Delete the user's password."""
        self.file(user).unlink(missing_ok=True)

    def settings(self, user: str, bootstrap: str) -> dict[str, str]:
        """`KAFKA_*` settings of a client that connects as `user`."""
        return {
            "KAFKA_BOOTSTRAP_SERVERS": bootstrap, "KAFKA_SECURITY_PROTOCOL": "SASL_PLAINTEXT", "KAFKA_SASL_MECHANISM": "SCRAM-SHA-512",
            "KAFKA_SASL_USERNAME": user, "KAFKA_SASL_PASSWORD_FILE": str(self.file(user).resolve()),
        }  # fmt: skip

    def access(self, user: str, bootstrap: str) -> KafkaAccess:
        """The same for clients of this process."""
        return access_from(self.settings(user, bootstrap))


def access_from(settings: dict[str, str]) -> KafkaAccess:
    """Connection settings from `KAFKA_*` names, without those of the environment."""
    given = {name.removeprefix("KAFKA_").lower(): value for name, value in settings.items()}
    return KafkaAccess(**{**{name: field.default for name, field in KafkaAccess.model_fields.items()}, **given})


def write_private(path: Path, text: str) -> None:
    """Write a file that its owner alone can read, from its first byte on. An existing file is replaced."""
    part = path.with_name(f"{path.name}.{os.getpid()}.part")
    part.unlink(missing_ok=True)
    with os.fdopen(os.open(part, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o600), "w") as stream:
        stream.write(text)
    part.replace(path)
