"""Settings from the environment, one frozen object per process; each service adds its own in `settings.py`."""

from __future__ import annotations

import os
from pathlib import Path

from pydantic import Field, IPvAnyNetwork, SecretStr, field_validator
from pydantic_settings import BaseSettings, SettingsConfigDict
from sqlalchemy.engine import make_url

from shared.errors import Stop
from shared.kafka.connection import KafkaAccess
from shared.net.networks import Networks, trusted_networks
from shared.net.origins import check_origin


class Settings(BaseSettings):
    """What every service needs. Names as in the environment: `STAGELINE_*`, and `KAFKA_*` for the cluster."""

    model_config = SettingsConfigDict(env_prefix="STAGELINE_", frozen=True, extra="ignore", populate_by_name=True)

    kafka: KafkaAccess = Field(default_factory=KafkaAccess)
    data_dir: Path = Path(".stageline")
    """Folder for everything that the local pipeline keeps."""
    database_url: SecretStr | None = None
    """`postgresql://user:password@host/database`; by default a SQLite file per service in the data directory."""
    object_store_url: str | None = None
    """`file:///…`, `s3://bucket`, `gs://…`, `az://…`; by default `objects/` in the data directory."""
    host: str = "127.0.0.1"
    """Address that this service listens on."""
    port: int = 0
    """Port of this service's HTTP: health checks, and its API where it has one. 0 takes a free port."""
    instance: str = Field(default_factory=lambda: f"{os.uname().nodename}-{os.getpid()}")
    """Name of this process in consumer groups, logs and traces. By default made of host name and process id. A name given here is kept over restarts."""
    partitions: int = Field(default=6, ge=1, le=1000)
    """Partitions of the hot topics when they are created. The number of processes of a service that can share the work."""
    task_partitions: int | None = Field(default=None, ge=1, le=1000)
    """Partitions of a task topic when it is created, by default `partitions`. So many workers can share the tasks of one action."""
    replication_factor: int = Field(default=1, ge=1, le=10)
    """Brokers that keep a copy of each topic, when topics are created."""
    session_timeout_ms: int = Field(default=6000, ge=1000, le=300_000)
    """Silence in milliseconds after which the partitions of a process go to another one. Brokers allow no less than their
    `group.min.session.timeout.ms`, by default 6,000; the embedded broker allows 1,000."""
    drain_timeout_s: float = Field(default=15, gt=0)
    """Seconds that a service has to finish its work after SIGTERM."""
    batch_records: int = Field(default=1000, ge=1, le=10_000)
    """Records of a batch at most. A batch also ends at 8 MiB."""
    park_limit: int = Field(default=50, ge=1)
    """Records that may be dead-lettered by an unexpected error within ten minutes before the process stops: so many mean a bug, not bad
    records."""
    log_level: str = "INFO"
    """`DEBUG`, `INFO`, `WARNING` or `ERROR`."""
    cors_origins: tuple[str, ...] = ()
    """Origins of pages and extensions that may call the HTTP APIs from a browser (JSON list, e.g. `["https://app.example.com",
    "chrome-extension://abcdefghijklmnopabcdefghijklmnop"]`); none by default."""
    allow_loopback: bool = False
    """Development only: webhooks and remote files may lie on this machine, over plain http."""
    trusted_networks: tuple[IPvAnyNetwork, ...] = ()
    """Internal networks (JSON list, e.g. `["10.20.0.0/16"]`) that webhooks and remote files may lie in; none by default."""

    @field_validator("cors_origins")
    @classmethod
    def _are_origins(cls, value: tuple[str, ...]) -> tuple[str, ...]:
        return tuple(map(check_origin, value))

    max_connections: int = Field(default=4096, ge=1)
    """Open HTTP connections of this process; fewer where the system allows fewer open files. One more gets 503 and is closed."""
    max_connections_per_address: int = Field(default=2048, ge=1)
    """The same for one address. Behind a proxy all connections have the proxy's address."""
    trusted_proxies: tuple[IPvAnyNetwork, ...] = ()
    """Proxies in front of this service (JSON list, e.g. `["127.0.0.1/32"]`), whose `X-Forwarded-For` and `X-Forwarded-Proto` count.
    Without them a caller's address is that of its connection."""

    @property
    def trusted(self) -> Networks:
        """Networks that the guard against internal addresses allows."""
        return trusted_networks(self.allow_loopback, self.trusted_networks)

    containers_file: Path | None = None
    """A JSON file with the containers that documents may be read from, e.g.
    `{"archive": {"source": "aws", "url": "s3://bucket", "tenants": ["default"]}}`."""

    seal_records: bool = False
    """Encrypt the records of each job with a key that its erasure destroys. Readers then need the topic `seal.keys`, or the kit."""
    create_topics: bool = True
    """Create missing topics at the start. Off where a service may not: then `stageline kafka apply` does it once."""
    database_password_file: Path | None = None
    """A file with the password for `database_url`, so that no secret need be in the environment."""

    @property
    def group_instance(self) -> str | None:
        """Group instance id (KIP-345) of a process whose name is configured: after a restart it keeps its partitions.

        None for a generated name, which never returns: its group would wait for it until its session ends.
        """
        return self.instance if "instance" in self.model_fields_set else None

    def database_for(self, service: str) -> str:
        """SQLAlchemy URL of the database that `service` alone opens: a SQLite file, or a PostgreSQL schema of its name."""
        if self.database_url is None:
            return f"sqlite:///{self.data_dir.resolve() / (service + '.db')}"
        url = make_url(self.database_url.get_secret_value())
        if url.get_backend_name() == "postgresql":
            if self.database_password_file is not None:
                url = url.set(password=read_secret(self.database_password_file))
            url = url.set(drivername="postgresql+asyncpg").update_query_dict({"schema": url.query.get("schema", service)})
        return url.render_as_string(hide_password=False)

    def objects_url(self) -> str:
        """URL of the object store."""
        return self.object_store_url or f"file://{self.data_dir.resolve() / 'objects'}"


def read_secret(path: Path) -> str:
    """The content of a secret's file, without white space around it. Raises `Stop` naming a file that cannot be read."""
    try:
        return path.read_text().strip()
    except OSError as error:
        raise Stop("secret_file", f"{path}: {error.strerror}") from error
