"""`python -m cli.local.keys DIR`: the secrets of a deployment, made once: `postgres` (a password) and `admin` (the first key)."""

from __future__ import annotations

import os
import secrets
import sys
from pathlib import Path

from shared.web.key_format import new_key

SERVICE_UID = 10001
"""Whom the image runs as (Dockerfile)."""


def write_once(path: Path, value: str, mode: int) -> None:
    """Write a secret unless it is there already."""
    if not path.exists():
        part = path.with_suffix(".part")
        part.write_text(value + "\n")
        part.chmod(mode)
        part.rename(path)


def main(folder: Path, objects: Path = Path("/objects")) -> None:
    """Make what is missing in `folder`; hand the object folder, if there is one, to the services' user."""
    # Read by PostgreSQL's user and by ours; the volume is mounted nowhere else.
    write_once(folder / "postgres", secrets.token_urlsafe(32), 0o444)
    write_once(folder / "admin", new_key(), 0o440)
    if os.getuid() == 0:
        os.chown(folder / "admin", SERVICE_UID, SERVICE_UID)
        if objects.is_dir():
            os.chown(objects, SERVICE_UID, SERVICE_UID)


if __name__ == "__main__":
    main(Path(sys.argv[1]))
