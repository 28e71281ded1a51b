"""The bytes of a task's files: read and stored at the gateway by the address in the task, without a key."""

from __future__ import annotations

import hashlib
import os
import time
from collections.abc import MutableMapping
from http.client import HTTPException
from typing import Any, Final, Protocol
from urllib.error import HTTPError, URLError
from urllib.parse import quote, urlencode
from urllib.request import Request, urlopen

from pydantic_core import from_json

from contracts.ownership import CONTENT
from stageline_kit.outcomes import Failed, Queued, TryAgain

PATH: Final = "/v1/tasks/"
TIMEOUT_S: Final = 60.0
TRIES: Final = 4
PAUSE_S: Final = 0.5
MOST_PAUSE_S: Final = 5.0
AGAIN_S: Final = 15.0
"""Seconds until a task comes again that the gateway did not answer. It uses up no attempt."""
PASSING: Final = frozenset({429, 500, 502, 503, 504})
NO_ADDRESS: Final = (
    "The task has no address for files: the orchestrator and the gateway need STAGELINE_TASK_KEY_FILE, and the orchestrator "
    "STAGELINE_PUBLIC_URL."
)


class TaskObjects(Protocol):
    """Where the objects of a task are."""

    def read(self, blob_name: str) -> bytes:
        """The bytes of an object. Raises `TryAgain`, and `Queued` while it cannot be asked."""
        ...

    def store(self, file_name: str, data: bytes, content_type: str, category: str | None) -> dict[str, Any]:
        """Store a file; returns its entry for `outputs` of a result. Raises `TryAgain`, `Queued` or `Failed`."""
        ...


class GatewayObjects:
    """The objects behind the address `url` of a task. Passing faults are tried again for some seconds; then the task waits (`Queued`).

    Where the gateway has another address for this program than the public one, `STAGELINE_URL` in the environment is that address.
    """

    def __init__(self, url: str | None) -> None:
        own = os.environ.get("STAGELINE_URL")
        self.url = f"{own.rstrip('/')}{url[url.rindex(PATH) :]}" if own and url is not None and PATH in url else url

    def read(self, blob_name: str) -> bytes:
        """The bytes of an object, compared with the hash in its name. Raises `TryAgain`: the next attempt has a new address."""
        data = self._ask("GET", f"/objects/{quote(blob_name)}")
        name = CONTENT.fullmatch(blob_name)
        if name is not None and hashlib.sha256(data).hexdigest() != name["sha256"]:
            raise TryAgain("object_damaged", f"The bytes of {blob_name} are not those that its name says.")
        return data

    def store(self, file_name: str, data: bytes, content_type: str, category: str | None) -> dict[str, Any]:
        """Store a file of the task's job. Raises `Failed` where it is refused for good, e.g. for its size, and `TryAgain`."""
        query = f"?{urlencode({'category': category})}" if category is not None else ""
        stored: dict[str, Any] = from_json(self._ask("PUT", f"/outputs/{quote(file_name, safe='')}{query}", data, content_type))
        return stored

    def _ask(self, method: str, path: str, data: bytes | None = None, content_type: str | None = None) -> bytes:
        if self.url is None:
            raise TryAgain("no_address", NO_ADDRESS)
        headers = {"Content-Type": content_type} if content_type is not None else {}
        said = ""
        for attempt in range(TRIES):
            if attempt:
                time.sleep(min(MOST_PAUSE_S, PAUSE_S * 2**attempt))
            try:
                with urlopen(Request(self.url + path, data, headers, method=method), timeout=TIMEOUT_S) as answer:
                    found: bytes = answer.read()
                    return found
            except HTTPError as error:
                with error:
                    said = f"{error.code} {error.read(500).decode('utf-8', 'replace')}"
                if error.code not in PASSING:
                    raise _refused(method, path, error.code, said) from error
            except (URLError, HTTPException, OSError) as error:
                said = str(error)
        raise Queued(AGAIN_S, "dependency_unavailable", f"The gateway does not answer {method} of an object: {said}")


class HeldObjects:
    """Objects in memory, for tests of actions: name → bytes. What an action stores is added under its file name."""

    def __init__(self, objects: MutableMapping[str, bytes]) -> None:
        self.objects = objects

    def read(self, blob_name: str) -> bytes:
        """The bytes. Raises `TryAgain` for a name that is not there."""
        if blob_name not in self.objects:
            raise TryAgain("object_unreadable", f"There is no object {blob_name}.")
        return self.objects[blob_name]

    def store(self, file_name: str, data: bytes, content_type: str, category: str | None) -> dict[str, Any]:
        """Keep the bytes under `file_name`."""
        self.objects[file_name] = data
        digest = hashlib.sha256(data).hexdigest()
        found = {
            "file_name": file_name, "blob_name": f"tenant-1/{digest[:2]}/{digest}", "size": len(data), "sha256": digest,
            "content_type": content_type,
        }  # fmt: skip
        return found if category is None else {**found, "category": category}


def _refused(method: str, path: str, status: int, said: str) -> Failed | TryAgain:
    if method == "PUT" and status != 404:
        return Failed("output_refused", f"The gateway refuses the output {path.rpartition('/')[2]}: {said}")
    return TryAgain("object_unreadable", f"The gateway answers {said}. The next attempt has a new address.")
