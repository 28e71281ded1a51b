"""Which pipeline the commands talk to: that of the environment, or the one that runs in a data directory."""

from __future__ import annotations

import json
import os
from dataclasses import dataclass
from pathlib import Path
from typing import Any
from urllib.parse import quote

import yarl


class CliError(Exception):
    """A sentence for the user, and the exit code: 1 failed, 2 wrong use, 3 unreachable, 4 not found, 5 refused."""

    def __init__(self, message: str, code: int) -> None:
        super().__init__(message)
        self.code = code


@dataclass(frozen=True)
class Target:
    """Base URLs of the gateway and the notifier, and the API key. An empty `notifier_url` is asked of the gateway.

    `restarts` is true when a supervisor here restarts a service that dies, so that waiting for it is worth while.
    """

    url: str
    notifier_url: str
    key: str
    restarts: bool = False
    memory: Path = Path(os.devnull)
    """The file that remembers `@last`."""


def read_state(data_dir: Path) -> dict[str, Any]:
    """The state file of the pipeline that runs in `data_dir`, or {} when there is none. Raises `CliError` (code 1) when it is damaged."""
    path = data_dir / "run" / "state.json"
    try:
        found = json.loads(path.read_text())
        if not isinstance(found, dict) or not isinstance(found["supervisor"], int) or not isinstance(found["url"], str):
            raise ValueError(path)
        return found
    except (FileNotFoundError, NotADirectoryError):
        return {}
    except OSError as error:
        raise CliError(f"{path}: {error.strerror}", 1) from None
    except (ValueError, KeyError):
        raise CliError(f"{path} is damaged: stop the pipeline's processes, remove this file and run `stageline up`", 1) from None


def is_alive(pid: int) -> bool:
    """True while a process has this id."""
    try:
        os.kill(pid, 0)
    except (ProcessLookupError, OverflowError):
        return False
    except PermissionError:
        return True
    return True


def find_target(data_dir: Path) -> Target:
    """The target from `STAGELINE_URL`, `STAGELINE_NOTIFIER_URL` and `STAGELINE_KEY`, else the pipeline that runs in `data_dir`.

    Raises `CliError` when there is no pipeline (code 3), no key (code 5), or an address is wrong (code 2).
    """
    url, notifier, key = (os.environ.get(f"STAGELINE_{n}") for n in ("URL", "NOTIFIER_URL", "KEY"))
    state = {} if url and notifier and key else read_state(data_dir)
    restarts = not url and bool(state) and is_alive(state["supervisor"])
    notifier = notifier or ("" if url and url != state.get("url") else state.get("notifier_url", ""))
    url = url or state.get("url")
    if key is None and state.get("key_file"):
        key = _key(Path(state["key_file"]))
    if not url:
        raise CliError(f"no pipeline runs in {data_dir}: start one with `stageline up`, or set STAGELINE_URL", 3)
    if not key:
        raise CliError("no key: set STAGELINE_KEY", 5)
    if not (key.isascii() and key.isprintable()) or " " in key:
        raise CliError("STAGELINE_KEY: a key has no spaces and no control characters", 2)
    url = _address("STAGELINE_URL", url)
    notifier = _address("STAGELINE_NOTIFIER_URL", notifier) if notifier else ""
    return Target(url, notifier, key, restarts, _memory(data_dir))


def _memory(data_dir: Path) -> Path:
    """Beside the pipeline's state where it runs here, else in the user's folder for state."""
    if (data_dir / "run").is_dir():
        return data_dir / "run" / "last-job.json"
    return Path(os.environ.get("XDG_STATE_HOME") or Path.home() / ".local" / "state") / "stageline" / "last-job.json"


def route(template: str, *segments: str) -> str:
    """A path whose `{}` are replaced by the segments, each quoted: `route("/v1/jobs/{}/why", job_id)`.

    Raises `CliError` (code 2) for a segment that no path can hold.
    """
    for segment in segments:
        if segment in ("", ".", ".."):
            raise CliError(f"{segment!r} is not a name", 2)
    # A name read from the command line can hold bytes that are not UTF-8.
    return template.format(*(quote(segment.encode(errors="surrogateescape"), safe="") for segment in segments))


def _key(path: Path) -> str:
    try:
        return path.read_text().strip()
    except (OSError, UnicodeDecodeError) as error:
        reason = error.strerror if isinstance(error, OSError) else "is not text"
        raise CliError(f"the key file {path}: {reason}", 5) from None


def _address(name: str, url: str) -> str:
    try:
        parsed = yarl.URL(url)
        if parsed.scheme in ("http", "https") and parsed.host and parsed.port:
            return url.rstrip("/")
    except ValueError:
        pass
    raise CliError(f"{name}: {url!r} is not an address, such as http://127.0.0.1:8080", 2)
