"""ZIP archives of stored objects, built while they are sent: nothing is buffered or kept."""

from __future__ import annotations

import zipfile
from collections.abc import AsyncIterator, Sequence
from typing import Any

from services.ingest.adapters.gateway import Gateway
from services.ingest.core.file_names import clean_name
from shared.objects.object_store import ObjectMissing

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
    found = [(f"{n + 1}-{clean_name(output['file_name'])}", output["blob_name"]) for n, output in enumerate(job_outputs)]
    taken = {path.casefold() for path, _ in found}
    for record in files:
        # Producers on the topics choose file names freely; unpacking must not write outside the target folder.
        folder = clean_name(record["file_name"]).strip(". ") or record["id"]
        if folder.casefold() in taken:
            folder = f"{folder}-{record['id']}"
        taken.add(folder.casefold())
        found += [(f"{folder}/{name}", record[blob]) for blob, name in FILE_PARTS if record[blob]]
        outputs = enumerate(record.get("outputs") or ())
        found += [(f"{folder}/{n + 1}-{clean_name(output['file_name'])}", output["blob_name"]) for n, output in outputs]
    return found


async def zip_stream(gateway: Gateway, entries: Sequence[tuple[str, str]]) -> AsyncIterator[bytes]:
    """The archive's bytes, entries stored without compression. Objects that were erased meanwhile are left out."""
    out = _Buffer()
    with zipfile.ZipFile(out, "w", zipfile.ZIP_STORED) as target:  # type: ignore[call-overload]
        for path, blob in entries:
            try:
                _, chunks = await gateway.objects.stream_object(blob)
            except ObjectMissing:
                continue
            with target.open(zipfile.ZipInfo(path), "w", force_zip64=True) as entry:
                async for chunk in chunks:
                    entry.write(chunk)
                    yield out.take()
    yield out.take()
