"""Settings of a worker."""

from __future__ import annotations

import base64
import os
from pathlib import Path

from pydantic import Field

from shared.errors import Stop
from shared.settings import Settings, read_secret


class WorkerSettings(Settings):
    """`STAGELINE_ACTIONS` (JSON list) limits what this worker serves; empty serves every built-in action."""

    actions: tuple[str, ...] = ()
    concurrency: int = Field(default_factory=lambda: max(2, os.cpu_count() or 2), ge=1, le=1000)
    max_file_bytes: int = Field(default=100 << 20, ge=1)
    child_memory_bytes: int = Field(default=2 << 30, ge=256 << 20)
    child_cpu_s: int = Field(default=600, ge=1)
    signing_key_file: Path | None = None
    """A PKCS#12 file with the key and certificate that `pdf.sign` signs with. Without one the action fails with that reason."""
    signing_password_file: Path | None = None
    signing_tenants: tuple[str, ...] = ("default",)
    """Tenants whose documents may be signed (JSON list): a key belongs to one company, not to every tenant."""

    def signing(self) -> dict[str, str]:
        """`key` (Base64) and `key_password`; empty without a key. Raises `Stop` for a named file that cannot be read."""
        if self.signing_key_file is None:
            return {}
        try:
            key = base64.b64encode(self.signing_key_file.read_bytes()).decode()
        except OSError as error:
            raise Stop("secret_file", f"{self.signing_key_file}: {error.strerror}") from error
        password = self.signing_password_file
        return {"key": key} | ({"key_password": read_secret(password)} if password is not None else {})
