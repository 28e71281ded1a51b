"""`python -m cli.local.keys DIR`: creates the secrets of a deployment once: `postgres` (a password) and `admin` (an API key)."""

from __future__ import annotations

import os
import secrets
import sys
from pathlib import Path

from shared.web.key_format import new_key

SERVICE_UID = 10001
"""The user id of the services in the image (Dockerfile)."""


def write_once(path: Path, value: str, mode: int) -> None:
    """Write `value` to `path` with the given mode, unless the file exists."""
    if not path.exists():
        part = path.with_suffix(".part")
        part.write_text(value + "\n")
        part.chmod(mode)
        part.rename(path)


def main(folder: Path, objects: Path = Path("/objects")) -> None:
    """Create missing secrets in `folder`. As root, give the object folder, if there is one, to the services' user."""
    # World-readable, because two different users read it: PostgreSQL's and the services'.
    write_once(folder / "postgres", secrets.token_urlsafe(32), 0o444)
    write_once(folder / "admin", new_key(), 0o440)
    if os.getuid() == 0:
        os.chown(folder / "admin", SERVICE_UID, SERVICE_UID)
        if objects.is_dir():
            os.chown(objects, SERVICE_UID, SERVICE_UID)


if __name__ == "__main__":
    main(Path(sys.argv[1]))
