"""`python -m cli.local.keys DIR`: creates the secrets of a deployment once: passwords, and `admin` (an API key).

A service's own secrets are in the folder of its name, those of programs outside in `programs`. The key that seals secrets of tenants
has a volume of its own, which the gateway and the workers alone mount. So has the key that signs the addresses in tasks: the gateway and
the orchestrator mount it.
"""

from __future__ import annotations

import os
import secrets
import sys
from pathlib import Path

from shared.kafka.acls import GROUPS
from shared.kafka.credentials import ADMIN, PROGRAMS, SERVICE_PREFIX
from shared.secret_box import new_box_key
from shared.task_grants import new_task_key
from shared.web.key_format import new_key

SERVICE_UID = 10001
"""The user id of the services in the image (Dockerfile)."""
DATABASE_SERVICES = ("ingest", "session", "job_orchestrator", "notifier")
"""Services with a database. The worker has none."""
JAAS = """\
internal.KafkaServer {{
  org.apache.kafka.common.security.plain.PlainLoginModule required
    username="broker" password="{broker}" user_broker="{broker}" user_{admin}="{password}";
  org.apache.kafka.common.security.scram.ScramLoginModule required;
}};
host.KafkaServer {{
  org.apache.kafka.common.security.scram.ScramLoginModule required;
}};
controller.KafkaServer {{
  org.apache.kafka.common.security.plain.PlainLoginModule required
    username="broker" password="{broker}" user_broker="{broker}";
}};
"""
"""What the brokers of docker-compose.yml know by themselves: each other, and the super user, who creates all other users."""


def write_once(path: Path, value: str, mode: int) -> None:
    """Write `value` to `path` with the given mode, unless the file exists."""
    if not path.exists():
        part = path.with_suffix(".part")
        part.write_text(value + "\n")
        part.chmod(mode)
        part.rename(path)


def kafka_files(folder: Path) -> dict[str, Path]:
    """Kafka user → the file with its password."""
    services = {SERVICE_PREFIX + service: folder / service / "kafka" for service in GROUPS}
    return services | {user: folder / "programs" / user for user in PROGRAMS} | {ADMIN: folder / "kafka-admin" / "password"}


def superuser_file(folder: Path) -> Path:
    """The password of the database's superuser, in a folder that no service mounts."""
    return folder / "database" / "postgres"


def database_files(folder: Path) -> dict[str, Path]:
    """Service → the file with the password of its user in the database."""
    return {service: folder / service / "database" for service in DATABASE_SERVICES}


def _keep_superuser(folder: Path) -> None:
    """Create the superuser's password, or take over that of a deployment of 0.3 or older."""
    path, old = superuser_file(folder), folder / "postgres"
    path.parent.mkdir(mode=0o755, exist_ok=True)
    # World-readable, because two different users read it: PostgreSQL's and that of the database's setup.
    write_once(path, old.read_text().strip() if old.exists() else secrets.token_urlsafe(32), 0o444)
    old.unlink(missing_ok=True)


def main(
    folder: Path,
    objects: Path = Path("/objects"),
    broker: Path = Path("/broker-keys"),
    sealing: Path = Path("/secrets"),
    tasks: Path = Path("/task-key"),
) -> None:
    """Create missing secrets in `folder`. As root, give the object folder, if there is one, to the services' user.

    `broker` is a folder for the brokers alone; where it does not exist, they are somebody else's. `sealing` is one for the key that
    seals secrets of tenants, `tasks` one for the key that signs the addresses in tasks.
    """
    _keep_superuser(folder)
    write_once(folder / "admin", new_key(), 0o440)
    ours = [folder / "admin"]
    for path in (*kafka_files(folder).values(), *database_files(folder).values()):
        path.parent.mkdir(mode=0o700, exist_ok=True)
        write_once(path, secrets.token_urlsafe(32), 0o400)
        ours += [path.parent, path]
    if sealing.is_dir():
        write_once(sealing / "key", new_box_key(), 0o440)
        ours.append(sealing / "key")
    if tasks.is_dir():
        write_once(tasks / "key", new_task_key(), 0o440)
        ours.append(tasks / "key")
    if broker.is_dir():
        password = kafka_files(folder)[ADMIN].read_text().strip()
        # World-readable in a folder that no other container mounts: the brokers' image has a user of its own.
        write_once(broker / "jaas.conf", JAAS.format(broker=secrets.token_urlsafe(32), admin=ADMIN, password=password), 0o444)
    if os.getuid() == 0:
        for path in ours:
            os.chown(path, SERVICE_UID, SERVICE_UID)
        if objects.is_dir():
            os.chown(objects, SERVICE_UID, SERVICE_UID)


if __name__ == "__main__":
    main(Path(sys.argv[1]))
