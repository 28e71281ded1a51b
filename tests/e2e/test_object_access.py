"""Object-level authorization: for another tenant, every operation on an object answers as if the object did not exist."""

from __future__ import annotations

import re
from typing import Any

import pytest

from cli.client import Client
from shared import clock
from tests.e2e.test_accounts import new_tenant
from tests.e2e.test_gateway import ended, raw, session_with
from tests.e2e.test_uploads import TUS, begin
from tests.http_documents import all_paths

pytestmark = pytest.mark.kafka
OWN_NAMES = {
    "name",
    "user_name",
    "flow_id",
    "entry_id",
    "schedule",
    "at",
    "kind",
    "workflow",
    "number",
    "tenant_id",
    "connection_id",
}
"""Names in paths that each tenant gives by itself: another tenant's request makes or misses its own."""
CREATES = {"put", "post"}


async def objects(client: Client) -> dict[str, str]:
    """One object of each kind that a path may name, all of one tenant."""
    session = await session_with(client, "letter-offer.docx")
    job_id = (await client.call("POST", "/api/job/create", json={"session_id": session}))["job_id"]
    job = await ended(client, job_id)
    key = await client.call("POST", "/v1/keys", json={"user_name": "x", "role": "reader"})
    app = await client.call("POST", "/v1/applications", json={"user_name": "x"})
    bulk = await client.call(
        "POST", "/v1/bulk", json={"verb": "cancel", "filter": {"job_key": clock.new_root()}, "reason": "none"}
    )
    open_session = await session_with(client)
    upload = (await begin(client, open_session, 5)).rpartition("/")[2]
    shared = await client.call("POST", f"/api/file/share/{job['files'][0]['id']}")
    return {
        "session_id": open_session, "job_id": job_id, "file_id": job["files"][0]["id"], "key_id": key["key_id"], "secret_key": app["secret_key"],
        "bulk_id": bulk["id"], "upload_id": upload, "token": shared["url"].rpartition("/")[2], "company_id": "default", "tag_id": "letter",
        "metadata_id": "x", "key": "x", "result_id": "1", "share_id": shared["id"],
    }  # fmt: skip


async def test_no_tenant_reaches_another_tenants_objects(client: Client) -> None:
    mine = await objects(client)
    paths = await all_paths(client)
    _, admin, producer = await new_tenant(client)
    tried: list[str] = []
    async with admin, producer:
        for path, operations in paths.items():
            named = set(re.findall(r"{(\w+)}", path)) - OWN_NAMES
            if not named & {
                "session_id",
                "job_id",
                "file_id",
                "key_id",
                "secret_key",
                "bulk_id",
                "upload_id",
                "share_id",
            } or path.startswith("/silo/"):
                continue
            target = re.sub(r"{(\w+)}", lambda m: mine.get(m[1], "1"), path)
            for method in operations:
                more: dict[str, Any] = {"json": {}} if method in CREATES else {}
                status, body, _ = await raw(admin, method.upper(), target, headers=TUS, **more)
                # 400, 415 and 422: refused before the object was looked up.
                assert status in (400, 403, 404, 405, 409, 415, 422), (method, path, status, body)
                assert mine["job_id"] not in str(body).replace(target, "") or status == 404, (method, path, body)
                tried.append(f"{method} {path}")
    assert len(tried) >= 45, tried
    job = await client.call("GET", f"/v1/jobs/{mine['job_id']}")
    assert job["stage"] == "completed", "the objects are unchanged"
    assert (await raw(client, "HEAD", f"/v1/uploads/{mine['upload_id']}", headers=TUS))[0] == 200
