"""Connection settings of the Kafka cluster (addresses, TLS, SASL), shared by every client of a process."""

from __future__ import annotations

import ssl
from functools import cached_property
from pathlib import Path
from typing import Any, Literal

from pydantic import Field, SecretStr
from pydantic_settings import BaseSettings, SettingsConfigDict

from shared.errors import Stop


class KafkaAccess(BaseSettings):
    """`KAFKA_*` in the environment, named as Kafka's own clients name them. Passwords may come from files."""

    model_config = SettingsConfigDict(env_prefix="KAFKA_", frozen=True, extra="ignore", ignored_types=(cached_property,))

    bootstrap_servers: str = "127.0.0.1:29092"
    """Addresses of the brokers, separated by commas."""
    security_protocol: Literal["PLAINTEXT", "SSL", "SASL_PLAINTEXT", "SASL_SSL"] = "PLAINTEXT"
    """How clients connect: with or without TLS, with or without a user."""
    sasl_mechanism: Literal["PLAIN", "SCRAM-SHA-256", "SCRAM-SHA-512"] = "SCRAM-SHA-512"
    """How a user proves its password."""
    sasl_username: str | None = None
    """User of this service, where the protocol is SASL."""
    sasl_password: SecretStr | None = None
    """Password of the user. A file is safer."""
    sasl_password_file: Path | None = None
    """A file with the password of the user."""
    ssl_cafile: Path | None = None
    """A file with the authorities that signed the brokers' certificates. By default the system's."""
    ssl_certfile: Path | None = Field(default=None)
    """A file with this service's certificate, for mutual TLS. Needs `KAFKA_SSL_KEYFILE`."""
    ssl_keyfile: Path | None = None
    """A file with the key of that certificate."""

    @cached_property
    def options(self) -> dict[str, Any]:
        """Keyword arguments for any aiokafka client. Raises `Stop` naming the setting that is missing or the file that cannot be read."""
        found: dict[str, Any] = {"bootstrap_servers": self.bootstrap_servers.split(",")}
        if self.security_protocol != "PLAINTEXT":
            found["security_protocol"] = self.security_protocol
        if self.security_protocol.endswith("SSL"):
            found["ssl_context"] = self._tls()
        if self.security_protocol.startswith("SASL"):
            found |= {
                "sasl_mechanism": self.sasl_mechanism, "sasl_plain_username": self.sasl_username,
                "sasl_plain_password": self._password(),
            }  # fmt: skip
        return found

    def _tls(self) -> ssl.SSLContext:
        try:
            context = ssl.create_default_context(cafile=str(self.ssl_cafile) if self.ssl_cafile else None)
            if self.ssl_certfile:
                context.load_cert_chain(self.ssl_certfile, self.ssl_keyfile)
        except (OSError, ssl.SSLError) as error:
            raise Stop("kafka_tls", f"KAFKA_SSL_*: {error}") from error
        return context

    def _password(self) -> str:
        if not self.sasl_username:
            raise Stop("kafka_sasl", f"KAFKA_SASL_USERNAME is needed for {self.security_protocol}")
        if self.sasl_password is not None:
            return self.sasl_password.get_secret_value()
        if self.sasl_password_file is None:
            raise Stop("kafka_sasl", "KAFKA_SASL_PASSWORD or KAFKA_SASL_PASSWORD_FILE is needed")
        try:
            return self.sasl_password_file.read_text().strip()
        except OSError as error:
            raise Stop("kafka_sasl", f"{self.sasl_password_file}: {error.strerror}") from error
