"""Freeze this tree as a release that the evolution tests run beside later ones: `python -m tests.evolution.snapshot 0.3.0`."""

from __future__ import annotations

import argparse
import subprocess
import tomllib
import zipfile
from pathlib import Path

ROOT = Path(__file__).parents[2]
RELEASES = Path(__file__).parent / "releases"
PACKAGES = ("contracts", "shared", "services", "stageline_kit")
"""What the services of a release import."""
LEFT_OUT = ("contracts/registry/",)
SUFFIXES = (".py", ".yaml", ".lock")
SAME_TIME = (2026, 1, 1, 0, 0, 0)
"""Every file's time in the archive, so that the same tree makes the same bytes."""


def release_file(version: str) -> Path:
    """Where the snapshot of a release lies."""
    return RELEASES / f"{version}.zip"


def sources() -> list[str]:
    """Committed files that a service of this tree may read, relative to the root."""
    listed = subprocess.run(["git", "ls-files", "--", *PACKAGES], cwd=ROOT, check=True, capture_output=True, text=True)
    return sorted(name for name in listed.stdout.split() if name.endswith(SUFFIXES) and not name.startswith(LEFT_OUT))


def write(version: str, again: bool = False) -> Path:
    """Write the snapshot of `version`, which must be this tree's. Raises `SystemExit` for another, or where one exists."""
    path = release_file(version)
    here = tomllib.loads((ROOT / "pyproject.toml").read_text())["project"]["version"]
    if version != here:
        raise SystemExit(f"this tree is {here}, not {version}; see pyproject.toml")
    if path.exists() and not again:
        raise SystemExit(f"{path.name} exists, and a release never changes; --again replaces one that was not published")
    path.parent.mkdir(exist_ok=True)
    with zipfile.ZipFile(path, "w", zipfile.ZIP_DEFLATED, compresslevel=9) as archive:
        for name in sources():
            entry = zipfile.ZipInfo(name, SAME_TIME)
            entry.compress_type = zipfile.ZIP_DEFLATED
            archive.writestr(entry, (ROOT / name).read_bytes())
    return path


if __name__ == "__main__":
    parser = argparse.ArgumentParser(prog="python -m tests.evolution.snapshot", description=__doc__)
    parser.add_argument("version")
    parser.add_argument("--again", action="store_true", help="replace a snapshot that was not published")
    given = parser.parse_args()
    print(write(given.version, given.again).relative_to(ROOT))
