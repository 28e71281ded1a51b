"""Operations on many jobs: search, saved searches, bulk changes; workflows and schedules. Each also through the command line."""

from __future__ import annotations

import json
import uuid
from pathlib import Path
from typing import Any

import pytest
import yaml

from cli.client import Client, CliError
from cli.commands.submit import submit_files
from tests.conftest import SAMPLES, Pipeline
from tests.e2e.test_control import make, until_why
from tests.e2e.test_gateway import ended
from tests.eventually import eventually

pytestmark = pytest.mark.kafka


async def listed(client: Client, **query: Any) -> list[str]:
    found = await client.call("GET", "/v1/jobs", params=query)
    return [j["id"] for j in found["result"]]


async def test_jobs_are_found_by_their_properties(client: Client) -> None:
    files = [SAMPLES / "invoice-globex-117.pdf", SAMPLES / "locked-invoice.pdf"]
    mark = uuid.uuid4().hex
    job_id = await submit_files(client, files, {"workflow": "documents", "metadata": {"mark": mark, "case": 9}})
    await ended(client, job_id)
    key = await make(client, "noop-five", job_key=f"key-{mark}", metadata={"mark": mark})
    await ended(client, key)
    assert set(await listed(client, metadata=f"mark={mark}")) == {job_id, key}
    both = [("metadata", f"mark={mark}"), ("metadata", "case=9")]
    assert [j["id"] for j in (await client.call("GET", "/v1/jobs", params=both))["result"]] == [job_id]
    assert await listed(client, job_key=f"key-{mark}") == [key]
    for query in ({"file_name": "INVOICE-globex-117.pdf"}, {"error_code": "encrypted"}, {"tag": "invoice"}):
        assert await listed(client, metadata=f"mark={mark}", stage="completed", workflow="documents@1", **query) == [job_id], (
            query
        )

    async def indexed() -> bool:
        return await listed(client, text="globex", metadata=f"mark={mark}") == [job_id]

    await eventually(indexed, 20)
    assert await listed(client, metadata=f"mark={mark}", stage="failed") == []
    assert await listed(client, metadata=f"mark={mark}", in_stage_for_s=3600) == []
    for wrong, field in (
        ({"metadata": "x"}, "metadata"),
        ({"cursor": "!"}, "cursor"),
        ({"sort": "stage_since"}, "sort"),
        ({"unheard": 1}, "unheard"),
    ):
        with pytest.raises(CliError, match=field):
            await listed(client, **wrong)
    await client.call("PUT", f"/v1/queries/{mark}", json={"metadata": [f"mark={mark}"], "stage": ["completed"]})
    assert mark in [q["name"] for q in (await client.call("GET", "/v1/queries"))["result"]]
    assert len((await client.call("GET", f"/v1/queries/{mark}/jobs"))["result"]) == 2
    await client.call("DELETE", f"/v1/queries/{mark}")
    with pytest.raises(CliError, match="no saved search"):
        await client.call("GET", f"/v1/queries/{mark}/jobs")


async def test_pages_follow_each_other_without_gap_or_repeat(client: Client) -> None:
    mark = uuid.uuid4().hex
    made = [await make(client, "noop-five", metadata={"mark": mark}) for _ in range(7)]
    for sort, expected in (("created_at", made), ("-created_at", made[::-1])):
        found: list[str] = []
        cursor: str | None = None
        while True:
            query = {"metadata": f"mark={mark}", "limit": "3", "sort": sort, **({"cursor": cursor} if cursor else {})}
            page = await client.call("GET", "/v1/jobs", params=query)
            found += [j["id"] for j in page["result"]]
            cursor = page["next"]
            if cursor is None:
                break
        assert found == expected


async def test_a_job_is_made_once_per_id_and_key(client: Client) -> None:
    chosen = str(uuid.uuid1())
    body = {"job_id": chosen, "workflow": "noop-five", "metadata": {"a": 1}}
    first = await client.call("POST", "/v1/jobs", json=body, headers={"prefer": "wait=20"})
    assert first["job_id"] == chosen and first["stage"] == "completed"
    assert (await client.call("POST", "/v1/jobs", json=body))["job_id"] == chosen
    with pytest.raises(CliError, match="another body"):
        await client.call("POST", "/v1/jobs", json={**body, "metadata": {"a": 2}})
    with pytest.raises(CliError, match="version 1 or 7"):
        await client.call("POST", "/v1/jobs", json={**body, "job_id": str(uuid.uuid4())})
    other = await client.call("POST", "/v1/keys", json={"user_name": "o", "tenant_id": "other-tenant", "role": "producer"})
    headers = {"authorization": f"Bearer {other['key']}"}
    with pytest.raises(CliError, match="the id cannot be used"):
        await client.call("POST", "/v1/jobs", json=body, headers=headers)
    with pytest.raises(CliError, match="does not exist"):
        await client.call("GET", f"/v1/jobs/{chosen}/why", headers=headers)
    later = await make(client, "noop-five", start_at="2999-01-01T00:00:00Z")
    assert (await until_why(client, later, "start_at"))["changes_at"].startswith("2999-01-01")
    await client.call("POST", f"/v1/jobs/{later}/cancel")


async def test_a_verb_for_all_jobs_that_fit(client: Client, pipeline: Pipeline) -> None:
    mark = uuid.uuid4().hex
    jobs = [await make(client, "test-approval", metadata={"mark": mark}) for _ in range(60)]
    await until_why(client, jobs[-1], "waiting_for_approval")
    where = ["--where", f"metadata=mark={mark}", "--json"]
    dry = json.loads(pipeline.command("bulk", "start", "cancel", "--dry-run", *where).stdout)
    assert dry["count"] == 60 and len(dry["jobs"]) == 10
    done = pipeline.command("bulk", "start", "cancel", "--rate", "500", "--watch", "--reason", "tidy up", *where)
    assert done.returncode == 0, done.stderr
    run = json.loads(done.stdout)
    assert (run["state"], run["count"], run["done"], run["refused"]) == ("done", 60, 60, 0)
    assert len(await listed(client, metadata=f"mark={mark}", stage="cancelled", limit=100)) == 60
    again = json.loads(pipeline.command("bulk", "start", "cancel", "--rate", "500", "--watch", *where).stdout)
    assert (again["done"], again["refused"]) == (0, 60), "they have ended"
    assert run["id"] in pipeline.command("bulk", "list").stdout
    audit = pipeline.command("audit", "--limit", "500").stdout
    assert audit.count("tidy up") == 60


def test_workflows_are_published_shown_and_compared(pipeline: Pipeline, tmp_path: Path) -> None:
    name = f"letters-{uuid.uuid4().hex[:8]}"
    first = {"name": name, "version": 1, "steps": [{"name": "one", "action": "noop", "scope": "job"}]}
    second = {**first, "version": 2, "steps": [*first["steps"], {"name": "two", "action": "acme.stamp", "scope": "job"}]}  # type: ignore[misc]
    paths = []
    for n, body in enumerate((first, second)):
        paths.append(tmp_path / f"{n}.yaml")
        paths[-1].write_text(yaml.safe_dump(body))
    done = pipeline.command("workflows", "publish", *map(str, paths))
    assert done.returncode == 0 and f"published {name}@2" in done.stdout, done.stderr
    listed = pipeline.command("workflows", "list").stdout
    assert name in listed and "1, 2" in listed and "documents" in listed
    assert yaml.safe_load(pipeline.command("workflows", "show", f"{name}@1").stdout)["steps"][0]["name"] == "one"
    diff = pipeline.command("workflows", "diff", f"{name}@1", f"{name}@2")
    assert diff.returncode == 1 and "+  action: acme.stamp" in diff.stdout
    assert pipeline.command("workflows", "diff", f"{name}@2", str(paths[1])).returncode == 0
    paths[0].write_text(yaml.safe_dump({**first, "description": "other"}))
    changed = pipeline.command("workflows", "publish", str(paths[0]))
    assert changed.returncode == 5 and "cannot change" in changed.stderr
    made = pipeline.command("submit", "--url", "http://127.0.0.1:1/none.pdf", "--workflow", name)
    assert made.returncode == 0


async def test_a_draft_is_published_and_errors_are_reported(client: Client) -> None:
    name = f"draft-{uuid.uuid4().hex[:8]}"
    body = {"name": name, "version": 1, "steps": [{"name": "one", "action": "noop", "next": [{"status": "OK", "to": "nowhere"}]}]}
    await client.call("PUT", f"/v1/workflows/{name}/draft", json=body)
    with pytest.raises(CliError, match="nowhere"):
        await client.call("POST", f"/v1/workflows/{name}/publish")
    body["steps"][0].pop("next")  # type: ignore[index]
    await client.call("PUT", f"/v1/workflows/{name}/draft", json=body)
    assert (await client.call("POST", f"/v1/workflows/{name}/publish"))["version"] == 1
    with pytest.raises(CliError, match="no draft"):
        await client.call("GET", f"/v1/workflows/{name}/draft")


async def test_every_verb_is_a_command(client: Client, pipeline: Pipeline) -> None:
    def run(*words: str, code: int = 0) -> str:
        done = pipeline.command(*words)
        assert done.returncode == code, (words, done.stdout, done.stderr)
        return done.stdout + done.stderr

    job_id = await make(client, "test-approval")
    await until_why(client, job_id, "waiting_for_approval")
    assert "waits for an approval" in run("why", job_id)
    assert "paused by admin" in run("pause", job_id, "--reason", "look")
    assert "paused by admin: look" in run("why", job_id)
    run("resume", job_id)
    assert "no attempt of the job is in back-off" in run("retry", job_id, code=5)
    run("poke", job_id, "--step", "approve", "--data", '{"amount": 5}')
    assert (await ended(client, job_id))["stage"] == "completed"
    again = run("rerun", job_id, "--from", "send").strip()
    assert (await ended(client, again))["rerun_of"] == job_id
    assert "no such step" in run("rerun", job_id, "--from", "nowhere", code=2)
    other = await make(client, "test-approval")
    assert ": failed" in run("terminate", other, "--reason", "enough")
    assert ": cancelled" in run("cancel", await make(client, "test-approval"))
    run("control", "tenant:nobody", "--pause", "--reason", "unpaid")
    assert {"kind": "tenant", "name": "nobody"}.items() <= (await tenant_control(client)).items()
    run("control", "tenant:nobody", "--resume")
    assert "action:NAME or tenant:ID" in run("control", "everything", code=2)
    assert "JSON" in run("bulk", "start", "cancel", "--where", "stage=failed", "--options", "{", code=2)
    assert "field=value" in run("bulk", "start", "cancel", "--where", "failed", code=2)
    assert "control" in run("audit")


async def tenant_control(client: Client) -> dict[str, Any]:
    async def look() -> Any:
        controls = (await client.call("GET", "/v1/backlog"))["controls"]
        return next((c for c in controls if c["name"] == "nobody" and c["paused"]), None)

    found: dict[str, Any] = await eventually(look, 20, 0.3)
    return found


async def test_nonsense_is_answered_with_the_field(client: Client) -> None:
    name = "x" * 200
    assert (await client.call("PUT", f"/v1/controls/action/{name}", json={"weight": 1.0}))["name"] == name
    with pytest.raises(CliError, match="urls"):
        await client.call("PUT", "/v1/schedules/bad", json={"cron": "* * * * *", "urls": ["ftp://example.com/x"]})
    for path, body, field in (
        ("/v1/controls/action/noop", {"limit": -1}, "limit"), ("/v1/controls/planet/x", {"limit": 1}, "kind"),
        ("/v1/queries/q", {"stage": [5]}, "stage"),
    ):  # fmt: skip
        with pytest.raises(CliError, match=field):
            await client.call("PUT", path, json=body)


async def test_schedules_are_set_listed_and_deleted(client: Client, pipeline: Pipeline) -> None:
    name = f"yearly-{uuid.uuid4().hex[:8]}"
    done = pipeline.command("schedules", "set", name, "0 0 1 1 *", "--time-zone", "Europe/Berlin", "--workflow", "noop-five")
    assert done.returncode == 0, done.stderr
    other = f"{name}-wrong"
    with pytest.raises(CliError, match="cron"):
        await client.call("PUT", f"/v1/schedules/{other}", json={"cron": "61 * * * *"})
    with pytest.raises(CliError, match="time_zone"):
        await client.call("PUT", f"/v1/schedules/{other}", json={"cron": "* * * * *", "time_zone": "Mars/Olympus"})
    for body, field in (
        ({"cron": "* * * * * *"}, "cron"), ({"cron": "@daily", "workflow": "no-such"}, "workflow"),
        ({"cron": "@daily", "metadata": ["a"]}, "metadata"),
    ):  # fmt: skip
        with pytest.raises(CliError, match=field):
            await client.call("PUT", f"/v1/schedules/{other}", json=body)
    kept = pipeline.command("schedules", "list").stdout
    assert name in kept and other not in kept
    assert pipeline.command("schedules", "delete", name).returncode == 0
    with pytest.raises(CliError, match="no such schedule"):
        await client.call("DELETE", f"/v1/schedules/{name}")


async def test_a_schedule_makes_a_job_when_its_time_comes(pipeline: Pipeline) -> None:
    async with Client(pipeline.target(pipeline.scheduler_key)) as client:

        async def due() -> Any:
            found = (await client.call("GET", "/v1/schedules"))["result"]
            return next((s for s in found if s["name"] == "every-minute" and s["last_job_id"]), None)

        found = await eventually(due, 75, 1)
        job = await ended(client, found["last_job_id"])
    assert job["stage"] == "completed" and job["metadata"] == {"schedule": "every-minute"}
