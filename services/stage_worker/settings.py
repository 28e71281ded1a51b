"""Settings of a worker."""

from __future__ import annotations

import base64
import os
from pathlib import Path
from typing import Literal

from pydantic import Field

from shared.errors import Stop
from shared.settings import Settings, read_secret


class WorkerSettings(Settings):
    """What a worker needs beside the common settings. Sizes in bytes, times in seconds."""

    actions: tuple[str, ...] = ()
    """Actions that this worker serves. Empty serves every built-in action."""
    concurrency: int = Field(default_factory=lambda: max(2, os.cpu_count() or 2), ge=1, le=1000)
    """Tasks at a time. By default the number of cores, at least 2."""
    max_file_bytes: int = Field(default=100 << 20, ge=1)
    """Bytes of a downloaded file at most."""
    child_memory_bytes: int = Field(default=2 << 30, ge=256 << 20)
    """Memory of the process that opens a document."""
    child_cpu_s: int = Field(default=600, ge=1)
    """CPU seconds of the process that opens a document."""
    secrets_key_file: Path | None = None
    """A file with the key that opens secrets of tenants: the gateway's. Without one a step that names a secret fails."""
    test_actions: bool = False
    """Tests and benchmarks only: serve `test.outcome`, which takes time or fails as its step says."""
    sandbox: Literal["required", "best_effort"] = "required"
    """`required` refuses documents while this machine lacks a wall of the sandbox; `best_effort` reads them all the same.
    `stageline up` sets `best_effort`, images keep `required`. `stageline doctor` and the health page say which walls stand."""
    signing_key_file: Path | None = None
    """A PKCS#12 file with the key and certificate of `pdf.sign`. Without one that action fails with the reason."""
    signing_password_file: Path | None = None
    """A file with the password of the signing key."""
    signing_tenants: tuple[str, ...] = ("default",)
    """Tenants whose documents may be signed with that key."""

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
