"""Resumable uploads (tus 1.0.0) into sessions, ranges of what was uploaded, all results as one archive."""

from __future__ import annotations

import asyncio
import base64
import hashlib
import io
import socket
import uuid
import zipfile
from typing import Any
from urllib.parse import urlsplit

import pytest

from cli.client import Client
from tests.conftest import SAMPLES
from tests.e2e.test_accounts import new_tenant
from tests.e2e.test_gateway import ended, raw, session_with
from tests.eventually import eventually

pytestmark = pytest.mark.kafka
INVOICE = (SAMPLES / "invoice-acme-2026-0042.pdf").read_bytes()
TUS = {"tus-resumable": "1.0.0"}
OCTETS = {**TUS, "content-type": "application/offset+octet-stream"}


def said(**pairs: str) -> str:
    return ",".join(f"{k} {base64.b64encode(v.encode()).decode()}" for k, v in pairs.items())


async def begin(client: Client, session: str, length: int | None, **headers: str) -> str:
    size = {"upload-defer-length": "1"} if length is None else {"upload-length": str(length)}
    about = {"upload-metadata": said(session_id=session, filename="invoice.pdf", filetype="application/pdf", metadata='{"n": 1}')}
    status, body, answer = await raw(client, "POST", "/v1/uploads", headers={**TUS, **size, **about, **headers})
    assert status == 201, body
    assert answer["Upload-Expires"].endswith("GMT")
    return urlsplit(answer["Location"]).path


async def bring(client: Client, path: str, offset: int, data: bytes, **headers: str) -> tuple[int, dict[str, str]]:
    status, _, answer = await raw(client, "PATCH", path, data=data, headers={**OCTETS, "upload-offset": str(offset), **headers})
    return status, answer


async def offset_of(client: Client, path: str) -> int:
    status, _, headers = await raw(client, "HEAD", path, headers=TUS)
    assert status == 200 and headers["Cache-Control"] == "no-store" and headers["Tus-Resumable"] == "1.0.0"
    return int(headers["Upload-Offset"])


async def test_the_servers_capabilities(client: Client) -> None:
    status, _, headers = await raw(client, "OPTIONS", "/v1/uploads")
    assert status == 204 and headers["Tus-Version"] == "1.0.0" and int(headers["Tus-Max-Size"]) > 1_000_000_000
    assert set(headers["Tus-Extension"].split(",")) >= {"creation", "checksum", "expiration", "termination", "concatenation"}


async def test_an_upload_in_pieces_becomes_a_file_of_its_session(client: Client) -> None:
    session = await session_with(client)
    path = await begin(client, session, len(INVOICE))
    assert await offset_of(client, path) == 0
    status, headers = await bring(client, path, 0, INVOICE[:700])
    assert status == 204 and headers["Upload-Offset"] == "700"
    assert (await bring(client, path, 0, INVOICE))[0] == 409, "the offset is not the upload's"
    status, headers = await bring(client, path, 700, INVOICE[700:])
    assert status == 204 and headers["Upload-Offset"] == str(len(INVOICE))
    file_id = headers["Stageline-File-Id"]
    record = await client.call("GET", f"/api/file/detail/{file_id}")
    assert (
        record["deferred_session_id"] == session
        and record["metadata"] == {"n": 1}
        and record["content_type"] == "application/pdf"
    )
    _, body, _ = await raw(client, "GET", f"/api/file/download/{file_id}")
    assert body == INVOICE
    job_id = (await client.call("POST", "/api/job/create", json={"session_id": session}))["job_id"]
    job = await ended(client, job_id)
    assert job["stage"] == "completed" and job["files"][0]["tag_name"] == "invoice"
    assert (await bring(client, path, len(INVOICE), b"x"))[0] == 409, "the upload is complete"
    status, archive, headers = await raw(client, "GET", f"/v1/jobs/{job_id}/results.zip")
    assert status == 200 and headers["Content-Type"] == "application/zip"
    with zipfile.ZipFile(io.BytesIO(archive)) as found:
        assert found.testzip() is None and found.namelist() == [
            "manifest.json",
            "invoice.pdf/text.txt",
            "invoice.pdf/result.json",
        ]
        assert b"INV-2026-0042" in found.read("invoice.pdf/text.txt")


async def test_a_broken_connection_keeps_the_received_bytes(client: Client) -> None:
    path = await begin(client, await session_with(client), 300_000)
    url = urlsplit(client.target.url)
    head = f"PATCH {path} HTTP/1.1\r\nHost: x\r\nAuthorization: Bearer {client.target.key}\r\nTus-Resumable: 1.0.0\r\nUpload-Offset: 0\r\n"
    with socket.create_connection((url.hostname, url.port)) as wire:
        wire.sendall(
            (head + "Content-Type: application/offset+octet-stream\r\nContent-Length: 300000\r\n\r\n").encode() + b"a" * 100_000
        )

    async def kept() -> int:
        return await offset_of(client, path)

    at = await eventually(kept, 10)
    assert 0 < at <= 100_000
    status, headers = await bring(client, path, await offset_of(client, path), b"b" * (300_000 - await offset_of(client, path)))
    assert status == 204 and headers["Stageline-File-Id"]


async def test_checksums(client: Client) -> None:
    path = await begin(client, await session_with(client), len(INVOICE))
    wrong = "sha1 " + base64.b64encode(hashlib.sha1(b"other").digest()).decode()
    assert (await bring(client, path, 0, INVOICE[:100], **{"upload-checksum": wrong}))[0] == 460
    assert await offset_of(client, path) == 0, "bytes with a wrong checksum are not kept"
    assert (await bring(client, path, 0, b"x", **{"upload-checksum": "crc32 AAAA"}))[0] == 400
    right = "sha256 " + base64.b64encode(hashlib.sha256(INVOICE).digest()).decode()
    status, headers = await bring(client, path, 0, INVOICE, **{"upload-checksum": right})
    assert status == 204 and headers["Stageline-File-Id"]


async def test_a_deferred_length(client: Client) -> None:
    path = await begin(client, await session_with(client), None)
    assert (await bring(client, path, 0, INVOICE[:10]))[0] == 204
    assert (await bring(client, path, 10, INVOICE[10:], **{"upload-length": "20"}))[0] == 413
    assert await offset_of(client, path) == 10
    early = await begin(client, await session_with(client), None)
    assert (await bring(client, early, 0, INVOICE[:10]))[0] == 204
    status, body, _ = await raw(client, "PATCH", early, data=b"", headers={**OCTETS, "upload-offset": "10", "upload-length": "9"})
    assert status == 400 and body["field"] == "Upload-Length", "less than has come"
    assert "Upload-Length" not in (await raw(client, "HEAD", early, headers=TUS))[2]
    other = await begin(client, await session_with(client), None)
    status, headers = await bring(client, other, 0, INVOICE, **{"upload-length": str(len(INVOICE))})
    assert status == 204 and headers["Stageline-File-Id"]


async def test_an_empty_upload_and_bytes_in_the_first_request(client: Client) -> None:
    session = await session_with(client)
    about = {"upload-metadata": said(session_id=session, filename="a.txt"), **OCTETS}
    status, _, headers = await raw(client, "POST", "/v1/uploads", headers={**about, "upload-length": "0"}, data=b"")
    assert status == 201 and headers["Stageline-File-Id"]
    status, _, headers = await raw(client, "POST", "/v1/uploads", headers={**about, "upload-length": "5"}, data=b"hello")
    assert status == 201 and headers["Upload-Offset"] == "5" and headers["Stageline-File-Id"]


async def test_parts_become_one(client: Client) -> None:
    session = await session_with(client)
    halves = [INVOICE[:1000], INVOICE[1000:]]
    paths = []
    for half in halves:
        status, _, headers = await raw(
            client,
            "POST",
            "/v1/uploads",
            headers={**OCTETS, "upload-concat": "partial", "upload-length": str(len(half))},
            data=half,
        )
        assert status == 201 and "Stageline-File-Id" not in headers
        paths.append(headers["Location"])
    about = {**TUS, "upload-metadata": said(session_id=session, filename="whole.pdf")}
    unfinished = await raw(client, "POST", "/v1/uploads", headers={**TUS, "upload-concat": "partial", "upload-length": "9"})
    bad = f"final;{paths[0]} {unfinished[2]['Location']}"
    assert (await raw(client, "POST", "/v1/uploads", headers={**about, "upload-concat": bad}))[0] == 409
    status, _, headers = await raw(client, "POST", "/v1/uploads", headers={**about, "upload-concat": f"final;{' '.join(paths)}"})
    assert status == 201
    _, body, _ = await raw(client, "GET", f"/api/file/download/{headers['Stageline-File-Id']}")
    assert body == INVOICE
    assert (await raw(client, "HEAD", urlsplit(paths[0]).path, headers=TUS))[0] == 404, "the parts are part of the final upload"


async def test_a_repeated_creation_makes_one_upload(client: Client) -> None:
    session, key = await session_with(client), uuid.uuid4().hex
    path = await begin(client, session, len(INVOICE), **{"idempotency-key": key})
    assert await begin(client, session, len(INVOICE), **{"idempotency-key": key}) == path
    assert (await bring(client, path, 0, INVOICE[:9]))[0] == 204
    about = {"upload-metadata": said(session_id=session, filename="a.txt"), "upload-length": "5"}
    used = await raw(client, "POST", "/v1/uploads", headers={**TUS, **about, "idempotency-key": key})
    assert used[0] == 409 and used[1]["field"] == "Idempotency-Key"
    assert await begin(client, session, len(INVOICE), **{"idempotency-key": key}) == path and await offset_of(client, path) == 9
    once = {**OCTETS, **about, "idempotency-key": uuid.uuid4().hex}
    answers = [await raw(client, "POST", "/v1/uploads", headers=once, data=b"hello") for _ in range(3)]
    assert len({(s, h["Location"], h["Upload-Offset"], h["Stageline-File-Id"]) for s, _, h in answers}) == 1
    assert (answers[0][0], answers[0][2]["Upload-Offset"]) == (201, "5")


async def test_a_repeated_concatenation_is_the_same_upload(client: Client) -> None:
    part = {**OCTETS, "upload-concat": "partial", "upload-length": "5", "idempotency-key": uuid.uuid4().hex}
    paths = {(await raw(client, "POST", "/v1/uploads", headers=part, data=b"hello"))[2]["Location"] for _ in range(2)}
    assert len(paths) == 1
    about = {
        "upload-metadata": said(session_id=await session_with(client), filename="a.txt"),
        "idempotency-key": uuid.uuid4().hex,
    }
    whole = {**TUS, **about, "upload-concat": f"final;{paths.pop()}"}
    answers = await asyncio.gather(*(raw(client, "POST", "/v1/uploads", headers=whole) for _ in range(3)))
    assert {status for status, _, _ in answers} == {201}
    assert len({(h["Location"], h["Stageline-File-Id"]) for _, _, h in answers}) == 1
    status, _, headers = await raw(client, "POST", "/v1/uploads", headers=whole)
    assert status == 201 and headers["Stageline-File-Id"] == answers[0][2]["Stageline-File-Id"]


async def test_an_upload_that_is_given_up(client: Client) -> None:
    path = await begin(client, await session_with(client), 10)
    await bring(client, path, 0, b"12345")
    status, _, headers = await raw(client, "POST", path, headers={**TUS, "x-http-method-override": "DELETE"})
    assert status == 204 and headers["Tus-Resumable"] == "1.0.0"
    assert (await raw(client, "HEAD", path, headers=TUS))[0] == 404 and (await raw(client, "DELETE", path, headers=TUS))[0] == 404


async def test_refused_requests(client: Client) -> None:
    session = await session_with(client)
    about = said(session_id=session, filename="a.txt")
    for headers, status in (
        ({"upload-length": "1", "upload-metadata": about}, 412), ({**TUS, "upload-metadata": about}, 400),
        ({**TUS, "upload-length": "x", "upload-metadata": about}, 400), ({**TUS, "upload-length": "1", "upload-metadata": "a !!!"}, 400),
        ({**TUS, "upload-length": "1"}, 404), ({**TUS, "upload-length": "1", "upload-metadata": said(session_id=session)}, 400),
        ({**TUS, "upload-length": str(1 << 40), "upload-metadata": about}, 413),
        ({**TUS, "upload-length": "1", "upload-defer-length": "1", "upload-metadata": about}, 400),
        ({**TUS, "upload-length": "1", "upload-metadata": said(session_id=session, filename="a", metadata="{")}, 400),
    ):  # fmt: skip
        found, body, answer = await raw(client, "POST", "/v1/uploads", headers=headers)
        assert found == status and body["detail"], (headers, found, body)
        assert answer["Tus-Resumable"] == "1.0.0" and ("Tus-Version" in answer) == (status == 412), headers
    for method, where, status in (
        ("HEAD", "/v1/uploads/none", 404),
        ("PUT", "/v1/uploads", 405),
        ("PATCH", "/v1/uploads/x", 415),
    ):
        found, _, answer = await raw(client, method, where, headers=TUS)
        assert (found, answer.get("Tus-Resumable")) == (status, "1.0.0")
    path = await begin(client, session, 5)
    assert (await raw(client, "PATCH", path, data=b"1", headers={**TUS, "upload-offset": "0"}))[0] == 415
    assert (await bring(client, path, 0, b"123456"))[0] == 413
    _, admin, producer = await new_tenant(client)
    async with admin, producer:
        assert (await raw(admin, "HEAD", path, headers=TUS))[0] == 404
        assert (await bring(producer, path, 0, b"1"))[0] == 404


async def test_a_session_that_closed_meanwhile(client: Client) -> None:
    session = await session_with(client, "letter-offer.docx")
    path = await begin(client, session, 5)
    await client.call("POST", "/api/job/create", json={"session_id": session})
    status, _, headers = await raw(client, "PATCH", path, data=b"12345", headers={**OCTETS, "upload-offset": "0"})
    assert status == 409
    status, _, headers = await raw(client, "HEAD", path, headers=TUS)
    assert status == 200 and headers["Stageline-Error"] == "closed"


async def test_a_local_folder_cannot_sign(client: Client) -> None:
    body: dict[str, Any] = {"session_id": await session_with(client), "file_name": "a.txt", "size": 5}
    status, answer, _ = await raw(client, "POST", "/v1/uploads/presigned", json=body)
    assert status == 409 and answer["type"].endswith("not_supported")


async def test_ranges_of_a_file(client: Client) -> None:
    session = await session_with(client, "invoice-acme-2026-0042.pdf")
    file_id = (await client.call("GET", f"/api/deferred/detail/{session}"))["files"][0]["id"]
    path = f"/api/file/download/{file_id}"
    status, body, headers = await raw(client, "GET", path)
    assert status == 200 and headers["Accept-Ranges"] == "bytes" and len(body) == int(headers["Content-Length"]) == len(INVOICE)
    status, body, part = await raw(client, "GET", path, headers={"range": "bytes=10-19"})
    assert status == 206 and body == INVOICE[10:20] and part["Content-Range"] == f"bytes 10-19/{len(INVOICE)}"
    status, body, _ = await raw(client, "GET", path, headers={"range": "bytes=-5", "if-range": headers["ETag"]})
    assert status == 206 and body == INVOICE[-5:]
    assert (await raw(client, "GET", path, headers={"range": "bytes=0-1", "if-range": '"other"'}))[0] == 200
    assert (await raw(client, "GET", path, headers={"if-none-match": headers["ETag"]}))[0] == 304
    status, _, outside = await raw(client, "GET", path, headers={"range": f"bytes={len(INVOICE)}-"})
    assert status == 416 and outside["Content-Range"] == f"bytes */{len(INVOICE)}"
