"""Kafka's jars, pinned by hash, downloaded once by jgo from Maven Central and kept in the user's cache."""

from __future__ import annotations

import hashlib
import os
import shutil
from collections.abc import Sequence
from concurrent.futures import ThreadPoolExecutor
from importlib.resources import files
from pathlib import Path

from shared.errors import Stop


def pinned(lock: str = "kafka.lock") -> list[tuple[str, str]]:
    """(`group:artifact:version`, SHA-256) of every jar in a lock file; `kafka.lock` is the broker's class path."""
    lines = files("shared.embedded").joinpath(lock).read_text().splitlines()
    return [(coordinate, digest.removeprefix("sha256:")) for coordinate, digest in map(str.split, filter(None, lines))]


def cache_folder() -> Path:
    """`$STAGELINE_CACHE`, else `$XDG_CACHE_HOME/stageline`, else `~/.cache/stageline`."""
    root = os.environ.get("STAGELINE_CACHE")
    return Path(root) if root else Path(os.environ.get("XDG_CACHE_HOME") or Path.home() / ".cache") / "stageline"


def missing() -> list[str]:
    """Coordinates of the broker's jars that are not in the cache."""
    folder = cache_folder() / "kafka"
    return [coordinate for coordinate, digest in pinned() if not (folder / f"{digest}.jar").exists()]


def ensure_jars(pins: Sequence[tuple[str, str]] | None = None) -> list[Path]:
    """Paths of all jars; missing ones are downloaded. Raises `Stop` when that fails or a hash differs."""
    folder = cache_folder() / "kafka"
    pins = pinned() if pins is None else pins
    try:
        folder.mkdir(parents=True, exist_ok=True)
        with ThreadPoolExecutor(8) as pool:
            return list(pool.map(lambda pin: _ensure(folder, *pin), pins))
    except OSError as error:
        raise Stop("cache_unwritable", f"cannot keep the jars in {folder}: {error.strerror or error}") from error


def _ensure(folder: Path, coordinate: str, digest: str) -> Path:
    target = folder / f"{digest}.jar"
    if target.exists():
        return target
    source = _download(coordinate)
    data = source.read_bytes()
    if hashlib.sha256(data).hexdigest() != digest:
        raise Stop("hash_mismatch", f"{coordinate}: what was downloaded is not what is pinned")
    part = target.with_suffix(f".{os.getpid()}.part")
    shutil.copyfile(source, part)
    part.replace(target)
    return target


def _download(coordinate: str) -> Path:
    # Imported here, because only a first start needs these slow imports.
    from jgo.maven import MavenContext
    from requests.exceptions import RequestException

    group, artifact, version = coordinate.split(":")
    try:
        found = MavenContext().project(group, artifact).at_version(version).artifact().resolve()
    except (RequestException, RuntimeError, ValueError) as error:
        # RequestException is an OSError too, and must not be reported as a full disk.
        raise Stop("no_network", f"the first start needs the network once: {coordinate} could not be fetched") from error
    if not found:
        raise Stop("no_network", f"the first start needs the network once: {coordinate} could not be fetched")
    return Path(found)
