"""References to remote files: a worker fetches them, the gateway only checks their addresses."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any
from urllib.parse import unquote, urlsplit

from contracts import FileRef, derived
from services.ingest.adapters.gateway import Gateway
from services.ingest.adapters.store.reservations import Place, remote_place
from services.ingest.core.file_names import clean_name
from services.ingest.http.errors import ApiError
from shared.objects.containers import SCHEME


def remote_file(root: str, index: int, url: str, metadata: Any) -> FileRef:
    """The reference of file `index` (from 0) at an http(s) URL or in a container. Raises 400 naming the field."""
    try:
        parts = urlsplit(url)
        name = clean_name(unquote(parts.path))
    except ValueError as error:
        raise ApiError(400, f"urls.{index}: {error}", "urls") from None
    if (parts.scheme not in ("http", "https") or not parts.hostname) and not url.startswith(SCHEME):
        raise ApiError(400, f"urls.{index}: an http or https URL is expected", "urls")
    return FileRef(file_id=derived(root, "file", index), file_name=name or f"file-{index + 1}", url=url, metadata=metadata)


def remote_places(gateway: Gateway, files: Sequence[FileRef]) -> list[Place]:
    """What files that a worker downloads take of the quotas. Their sizes are counted once they are known."""
    return [remote_place(file.file_id, gateway.settings.max_file_bytes) for file in files if file.url is not None]
