"""ZIP archives of stored objects, built while they are sent: nothing is buffered or kept."""

from __future__ import annotations

import json
import zipfile
from collections.abc import AsyncIterator, Mapping, Sequence
from typing import Any

from services.ingest.core.file_names import path_part
from shared.objects.access import ObjectMissing
from shared.objects.object_store import TenantObjects
from shared.objects.verified_reads import ObjectDamaged

FILE_PARTS = (("text_blob", "text.txt"), ("result_blob", "result.json"))


class _Buffer:
    """Bytes that a `ZipFile` wrote and `take` has not returned yet."""

    def __init__(self) -> None:
        self.chunks: list[bytes] = []

    def write(self, data: bytes) -> int:
        self.chunks.append(bytes(data))
        return len(data)

    def flush(self) -> None:
        """`ZipFile` requires this method."""

    def take(self) -> bytes:
        data, self.chunks = b"".join(self.chunks), []
        return data


def entries_of(files: Sequence[dict[str, Any]], job_outputs: Sequence[dict[str, Any]] = ()) -> list[tuple[str, str]]:
    """(path, object) of all results: outputs of the job at the top, then a folder per file. Equal folder names get the file's id
    as a suffix."""
    found = [(f"{n + 1}-{path_part(output['file_name'])}", output["blob_name"]) for n, output in enumerate(job_outputs)]
    taken = {path.casefold() for path, _ in found}
    for record in files:
        # Producers on the topics choose file names freely; unpacking must not write outside the target folder.
        folder = path_part(record["file_name"]).strip(". ") or record["id"]
        if folder.casefold() in taken:
            folder = f"{folder}-{record['id']}"
        taken.add(folder.casefold())
        found += [(f"{folder}/{name}", record[blob]) for blob, name in FILE_PARTS if record[blob]]
        outputs = enumerate(record.get("outputs") or ())
        found += [(f"{folder}/{n + 1}-{path_part(output['file_name'])}", output["blob_name"]) for n, output in outputs]
    return found


def manifest_of(result: Mapping[str, Any], entries: Sequence[tuple[str, str]]) -> bytes:
    """JSON: a job's result (`shared/web/result_table.py`), with the paths of the archive's entries. Names are as in `entries_of`."""
    return json.dumps({**result, "entries": [path for path, _ in entries]}, indent=1, ensure_ascii=False).encode()


async def zip_stream(
    objects: TenantObjects, entries: Sequence[tuple[str, str]], texts: Mapping[str, bytes] | None = None
) -> AsyncIterator[bytes]:
    """The archive's bytes: `texts` by path, then the entries, stored without compression. Objects that were erased meanwhile are left
    out.

    Raises `ObjectDamaged`: the archive then has no end.
    """
    out = _Buffer()
    with zipfile.ZipFile(out, "w", zipfile.ZIP_STORED) as target:  # type: ignore[call-overload]
        for path, content in (texts or {}).items():
            target.writestr(zipfile.ZipInfo(path), content)
            yield out.take()
        for path, blob in entries:
            try:
                _, chunks = await objects.stream_object(blob)
            except ObjectDamaged:
                raise
            except ObjectMissing:
                continue
            with target.open(zipfile.ZipInfo(path), "w", force_zip64=True) as entry:
                async for chunk in chunks:
                    entry.write(chunk)
                    yield out.take()
    yield out.take()
