"""Option values that an action would refuse are refused by the request, with the field's name. No job is made for them."""

from __future__ import annotations

import json
from collections.abc import AsyncIterator
from typing import Any

import pytest

from services.stage_worker.adapters.webhook_caller import check_headers
from services.stage_worker.core.classify import compile_rules
from services.stage_worker.core.document_fault import DocumentFault
from tests.gateway_app import InProcess, gateway_app

WRONG: list[tuple[str, dict[str, Any], str]] = [
    ("pdf.split", {"rotation": 45}, "rotation"), ("pdf.split", {"rotation": 90 * 10**20}, "rotation"), ("pdf.split", {"rotation": "x"}, "rotation"),
    ("pdf.archive", {"part": 4}, "part"), ("text.ocr", {"languages": "eng, deu"}, "languages"), ("file.guard", {"max_pages": 0}, "max_pages"),
    ("http.webhook", {"url": "http://example.com/"}, "url"), ("http.webhook", {"url": "https://10.0.0.1/"}, "url"),
    ("http.webhook", {"url": "crm"}, "url"), ("http.webhook", {"url": "https://a:b@example.com/"}, "url"),
    ("http.webhook", {"headers": {"Host": "x"}}, "headers.Host"), ("http.webhook", {"headers": {"a b": "x"}}, "headers.a b"),
    ("http.webhook", {"headers": {"x-a": "1\n2"}}, "headers.x-a"), ("text.classify", {"rules": {"a": {"(": 1}}}, "rules.a"),
    ("text.classify", {"rules": {"a": {"(?=x)": 1}}}, "rules.a"), ("text.classify", {"rules": {"a": {"x": -1}}}, "rules.a.x"),
    ("text.classify", {"rules": {"a": {"x": True}}}, "rules.a.x"), ("text.classify", {"rules": {"a": {"x" * 1001: 1}}}, "rules.a." + "x" * 1001),
    ("text.classify", {"rules": {"a": {f"{n}": 1 for n in range(501)}}}, "rules"),
]  # fmt: skip
RIGHT: list[tuple[str, dict[str, Any]]] = [
    ("pdf.split", {"rotation": -90}), ("pdf.split", {"rotation": 450}), ("http.webhook", {"url": "https://example.com/hook"}),
    ("http.webhook", {"headers": {"X-Shop": "é 1", "authorization": "secret:crm"}}), ("text.classify", {"rules": {"a": {r"\bx\w+\Z": 1.5}}}),
]  # fmt: skip


@pytest.fixture(scope="module")
async def app(tmp_path_factory: pytest.TempPathFactory) -> AsyncIterator[InProcess]:
    async with gateway_app(tmp_path_factory.mktemp("gateway")) as made:
        yield made


def definition(action: str, config: dict[str, Any], **step: Any) -> dict[str, Any]:
    return {"name": "w", "version": 1, "steps": [{"name": "s", "action": action, "config": config, **step}]}


async def published(app: InProcess, action: str, config: dict[str, Any]) -> tuple[int, dict[str, Any]]:
    async with app.http(**{"x-api-key": await app.key("admin", "default")}) as http:
        answer = await http.post("/v1/workflows/w/publish", json=definition(action, config))
    return answer.status_code, answer.json()


async def started(app: InProcess, action: str, args: dict[str, Any]) -> tuple[int, dict[str, Any]]:
    """Ask for a job of a workflow whose step opens these parameters."""
    body = json.dumps({"name": "w", "version": 1, "definition": definition(action, {}, open=list(args))})
    insert = (
        "INSERT INTO workflow_view (name, version, body) VALUES ('w', 1, :b) ON CONFLICT (name, version) DO UPDATE SET body = :b"
    )
    await app.execute(insert, b=body)
    async with app.http(**{"x-api-key": await app.key("producer", "default")}) as http:
        answer = await http.post("/v1/jobs", json={"workflow": "w", "args": {"s": args}})
    return answer.status_code, answer.json()


@pytest.mark.parametrize(("action", "config", "field"), WRONG)
async def test_a_step_and_a_job_with_a_wrong_option_are_refused(
    app: InProcess, action: str, config: dict[str, Any], field: str
) -> None:
    before = len(app.publisher.published)
    for ask, at in ((published, "steps.0.config"), (started, "args.s")):
        status, body = await ask(app, action, config)
        assert (status, body.get("field")) == (400, f"{at}.{field}"), body
        assert body["type"] == "urn:stageline:error:invalid_parameter" and body["detail"].startswith(f"{at}.{field}: ")
    assert len(app.publisher.published) == before


@pytest.mark.parametrize(("action", "config"), RIGHT)
async def test_right_options_pass(app: InProcess, action: str, config: dict[str, Any]) -> None:
    assert (await published(app, action, config))[0] == 201
    assert (await started(app, action, config))[0] != 400


@pytest.mark.parametrize(("action", "config", "field"), [w for w in WRONG if w[0] == "text.classify" or "headers" in w[1]])
def test_the_worker_would_refuse_the_same(action: str, config: dict[str, Any], field: str) -> None:
    with pytest.raises(DocumentFault):
        compile_rules(config["rules"]) if action == "text.classify" else check_headers(config["headers"])


@pytest.mark.parametrize(
    ("value", "right"),
    [(0, True), (90, True), ("180", True), (-270, True), (None, True), (45, False), ("1", False), (10**30, False)],
)
async def test_the_rotation_of_pages(app: InProcess, value: Any, right: bool) -> None:
    async with app.http(**{"x-api-key": await app.key()}) as http:
        answer = await http.post("/api/job/create", json={"session_id": "s", "decompose": True, "page_rotation": value})
    assert (answer.status_code == 400) is not right, answer.text
    if not right:
        assert answer.json()["field"] == "page_rotation" and answer.json()["message"].startswith("page_rotation: ")


@pytest.mark.parametrize("steps", [5, "x", [1], [{"config": 3}], [{"action": "text.classify", "config": [1]}], {"a": 1}])
async def test_a_definition_of_any_shape_is_answered(app: InProcess, steps: Any) -> None:
    async with app.http(**{"x-api-key": await app.key("admin", "default")}) as http:
        assert (await http.post("/v1/workflows/w/publish", json={"name": "w", "version": 1, "steps": steps})).status_code < 500
