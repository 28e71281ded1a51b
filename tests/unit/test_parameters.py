"""Parameters of actions. The matrices are made from the table of actions: a new action is covered on the day it is added."""

from __future__ import annotations

from typing import Any

import pytest

from contracts import JobStage, PokeJob, TaskStatus, Tenancy
from contracts.actions import ACTIONS, ADDRESS, OBJECT, OPEN, RESERVED_KEYS, SECRET, SIGNAL_KEYS
from contracts.ownership import names_object
from contracts.parameters import (
    StepView,
    check_arguments,
    check_definition,
    merged,
    origin_of,
    unknown_step,
    written_secret,
)
from contracts.secrecy import HIDDEN, hide_secrets, is_secret_name
from contracts.topics import BUILT_IN_ACTIONS
from services.job_orchestrator.decisions.erasure import blobs
from services.stage_worker.actions import Actions
from tests.unit.orchestration import Drive, workflow

OWN, FOREIGN = "t1/ab/" + "ab" * 32, "t2/ab/" + "ab" * 32
PARAMETERS = [(action, name) for action, row in ACTIONS.items() for name in row.parameters.model_fields]
VALUES: dict[str, Any] = {
    "options_blob": OWN, "part": 3, "rotation": 90, "languages": "deu", "args": {"a": "1"}, "max_pages": 5, "rules": {"tag": {"x": 1.0}},
    "headers": {"x-shop": "1"}, "bearer_token": "secret:crm", "url": "https://example.com/hook",
}  # fmt: skip


def of(action: str, args: dict[str, Any] | None = None, **step: Any) -> Drive:
    """A job whose one step has the action, with `args` for that step."""
    drive = Drive(workflow({"action": action, **step}), args={"s0": args} if args else None)
    drive.feed(drive.start)
    return drive


def errors(drive: Drive) -> str:
    assert drive.job is not None
    return "; ".join(drive.job.errors)


def definition(action: str, config: dict[str, Any], **step: Any) -> dict[str, Any]:
    return {"name": "w", "version": 1, "steps": [{"name": "s", "action": action, "config": config, **step}]}


def test_the_table_has_the_actions_that_the_worker_has() -> None:
    parts: Any = [None] * 4
    conversion: Any = type("Made", (), {"__getattr__": lambda self, name: None})()
    webhooks: Any = type("Calls", (), {"call_url": None})()
    table = Actions(*parts[:3], webhooks, conversion).table()
    assert set(table) == set(ACTIONS) == set(BUILT_IN_ACTIONS)


@pytest.mark.parametrize(("action", "name"), PARAMETERS)
def test_a_job_sets_what_the_action_opens_and_nothing_else(action: str, name: str) -> None:
    value = VALUES.get(name, "text")
    if OPEN in ACTIONS[action].uses(name):
        drive = of(action, {name: value})
        assert drive.tasks[0].config == {name: value}
    else:
        drive = of(action, {name: value})
        assert drive.job is not None and drive.job.stage is JobStage.INVALID and not drive.tasks
        assert errors(drive).startswith(f"args.s0.{name}: ") and errors(drive).endswith("[closed_parameter]")
        assert of(action, {name: value}, open=[name]).tasks[0].config == {name: value}, "the step's author may open it"


@pytest.mark.parametrize("action", sorted(ACTIONS))
@pytest.mark.parametrize("name", ["sleep_s", "fail", "passwords", "meta", "key_password", "inputs"])
def test_what_an_action_does_not_have_is_refused_in_jobs_and_workflows(action: str, name: str) -> None:
    assert errors(of(action, {name: 1})).endswith("[unknown_parameter]")
    fault = check_definition(definition(action, {name: 1}), True)
    assert fault is not None and (fault.field, fault.code) == (f"steps.0.config.{name}", "unknown_parameter")
    opened = check_definition(definition(action, {}, open=[name]), True)
    assert opened is not None and opened.field == "steps.0.open.0"


@pytest.mark.parametrize(("action", "name"), [(a, n) for a, n in PARAMETERS if OBJECT in ACTIONS[a].uses(n)])
def test_an_argument_names_objects_of_its_tenant_alone(action: str, name: str) -> None:
    for foreign in (FOREIGN, "t1", "t1/../t2/x", "t1//x", "incoming/t2/x", 7, "t1%2f..%2ft2/x"):
        assert errors(of(action, {name: foreign})).startswith(f"args.s0.{name}: "), foreign
    assert of(action, {name: OWN}).tasks


@pytest.mark.parametrize(("action", "name"), [(a, n) for a, n in PARAMETERS if SECRET in ACTIONS[a].uses(n)])
def test_a_secret_is_named_and_not_written(action: str, name: str) -> None:
    fault = check_definition(definition(action, {name: "s3cret"}), True)
    assert fault is not None and fault.code == "literal_secret" and "stageline secrets set" in fault.message
    assert written_secret(definition(action, {name: "s3cret"})) == fault
    assert check_definition(definition(action, {name: "secret:crm"}), False) is None
    assert is_secret_name(name), "so that answers hide it"
    assert hide_secrets({"config": {name: "s3cret"}}) == {"config": {name: HIDDEN}}
    assert "literal_secret" in errors(of(action, {name: "s3cret"}, open=[name]))
    shown = check_definition(definition(action, {name: HIDDEN}), True)
    assert shown is not None, "what an answer hid is not published again"


def test_secrets_of_the_platform_are_for_its_own_workflows() -> None:
    named = definition("http.webhook", {"bearer_token": "secret:platform/crm"})
    fault = check_definition(named, False)
    assert fault is not None and fault.code == "closed_parameter"
    assert check_definition(named, True) is None
    own = definition("acme.call", {"deep": [{"token": "secret:platform/crm"}]})
    assert check_definition(own, False) is not None
    assert "closed_parameter" in errors(of("acme.call", {"x": {"y": "secret:platform/crm"}}, open=["x"]))


def test_headers_that_hold_secrets_name_them() -> None:
    for name in ("Authorization", "X-Api-Key", "Cookie", "x-shop-token"):
        fault = check_definition(definition("http.webhook", {"headers": {name: "abc"}}), True)
        assert fault is not None and fault.field == f"steps.0.config.headers.{name}"
    assert check_definition(definition("http.webhook", {"headers": {"x-shop": "1", "X-Api-Key": "secret:shop"}}), True) is None


def test_a_wrong_type_names_the_field() -> None:
    fault = check_definition(definition("file.guard", {"max_pages": "many"}), True)
    assert fault is not None and (fault.field, fault.code) == ("steps.0.config.max_pages", "invalid_parameter")
    assert errors(of("pdf.archive", {"part": 4})).startswith("args.s0.part: ")
    assert check_definition({"steps": 5, "rescue": [7, {"action": 3, "config": 4, "open": 5}]}, True) is None, (
        "others judge its form"
    )


def test_an_action_of_ones_own_opens_what_its_step_says() -> None:
    assert "closed_parameter" in errors(of("acme.shout", {"text": "x"}))
    assert of("acme.shout", {"text": "x"}, config={"text": "y"}, open=["text"]).tasks[0].config == {"text": "x"}
    facts = {"key": "k", "args": {}, "silo_entry_id": "e"}
    assert of("acme.shout", facts).tasks[0].config == facts, "what every job has"
    assert "closed_parameter" in errors(of("acme.shout", {"key": "k"}, config={"key": "mine"})), (
        "what the author set is the author's"
    )
    free = {"args": {"logo_blob": "any text"}}
    assert of("acme.shout", free).tasks and of("http.webhook", free).tasks, "arguments of the job are data"
    assert list(blobs(of("http.webhook", {"args": {"logo_blob": OWN}}).job)) == ["t1/0"]  # type: ignore[arg-type]
    assert "foreign_object" in errors(of("acme.shout", {"in": {"page_blob": FOREIGN}}, open=["in"]))


def test_the_steps_secrets_stay_when_a_job_moves_its_address() -> None:
    config = {"url": "https://crm.example.com/a", "bearer_token": "secret:crm", "headers": {"x-api-key": "abc"}, "event": "e"}
    step = StepView("s", "http.webhook", config, ["url"])
    same = merged(step, {"url": "https://crm.example.com:443/b"})
    assert same == {**config, "url": "https://crm.example.com:443/b"}
    for url in (
        "https://evil.example.com/a",
        "http://crm.example.com/a",
        "https://crm.example.com:8443/a",
        "https://crm.example.com@evil.example/",
    ):
        assert merged(step, {"url": url}) == {"url": url, "event": "e"}
    own = StepView("s", "http.webhook", config, ["url", "bearer_token"])
    assert merged(own, {"url": "https://evil.example.com", "bearer_token": "secret:mine"})["bearer_token"] == "secret:mine"
    assert [n for n, f in ACTIONS["http.webhook"].parameters.model_fields.items() if ADDRESS in f.metadata] == ["url"]


def test_an_address_of_an_action_of_ones_own_is_known_by_its_value() -> None:
    step = StepView(
        "s", "acme.call", {"base": "https://crm.example.com", "api_token": "t", "deep": {"x-api-key": "k"}, "size": 1}, ["base"]
    )
    assert merged(step, {"base": "https://crm.example.com/v2"})["api_token"] == "t"
    assert merged(step, {"base": "https://evil.example.com"}) == {"base": "https://evil.example.com", "size": 1}
    assert merged(step, {"size": 2})["api_token"] == "t"


def test_closed_arguments_of_a_job_from_an_earlier_release_have_no_effect() -> None:
    step = StepView("s", "http.webhook", {"url": "https://crm.example.com", "bearer_token": "t"}, None)
    assert merged(step, {"url": "https://evil.example.com", "key": "k"}) == {**step.config, "key": "k"}


def test_origins() -> None:
    assert origin_of("HTTPS://Example.com/a") == origin_of("https://example.com:443") == "https://example.com:443"
    assert origin_of("https://[::1") == origin_of("nothing") == origin_of(None) == origin_of("https://a:b") == ""


def test_unknown_steps_are_named() -> None:
    steps = [StepView("s", "noop", {}, None)]
    fault = unknown_step(steps, {"t": {}})
    assert fault is not None and fault.field == "args.t" and check_arguments(steps, {"t": {"x": 1}}, "t1") is None


def test_a_rerun_is_judged_as_a_new_job() -> None:
    drive = of("noop")
    drive.report(drive.tasks[0])
    _, decision = drive.rerun(args={"s0": {"sleep_s": 60}}, from_step="s0")
    assert decision.refused == "invalid unknown_parameter" and str(decision.why).startswith("args.s0.sleep_s: ")


# --- results -------------------------------------------------------------------------------------------------------------------------

OUTPUT = {"file_name": "a.pdf", "size": 1, "sha256": "ab" * 32}


def result_with(key: str, name: str) -> dict[str, Any]:
    """A result that names an object under a key of the table."""
    if key == "outputs":
        return {"outputs": [{**OUTPUT, "blob_name": name}]}
    return {"file": {"blob_name": name}} if key == "file" else {key: name}


OBJECT_KEYS = [(a, k) for a, row in ACTIONS.items() for k in sorted(row.results) if k in ("file", "outputs") or names_object(k)]


@pytest.mark.parametrize(
    ("action", "key"),
    [*OBJECT_KEYS, ("acme.own", "file"), ("acme.own", "outputs"), ("acme.own", "text_blob"), ("acme.own", "page_blob")],
)
def test_a_result_names_objects_of_the_jobs_tenant_alone(action: str, key: str) -> None:
    for foreign in (FOREIGN, "t1/../t2/x", "incoming/t2/x", "../t2/x"):
        drive = of(action, retry={"max_attempts": 1})
        drive.report(drive.tasks[0], result=result_with(key, foreign))
        assert "invalid_result" in errors(drive), foreign
        assert FOREIGN not in list(blobs(drive.job)), "and erasure deletes nothing of another tenant's"  # type: ignore[arg-type]
    drive = of(action)
    drive.report(drive.tasks[0], result=result_with(key, OWN))
    assert drive.job is not None and drive.job.stage is JobStage.COMPLETED
    assert OWN in list(blobs(drive.job))


@pytest.mark.parametrize("action", sorted(ACTIONS))
def test_a_built_in_result_has_the_keys_of_the_table(action: str) -> None:
    drive = of(action)
    drive.report(drive.tasks[0], result={"nobody_declared": 1, "other_blob": FOREIGN})
    assert drive.job is not None and drive.job.branches["f0"].results["s0"] == {}


def test_extracted_data_may_have_any_names() -> None:
    drive = of("fields.extract")
    drive.report(drive.tasks[0], result={"fields": {"photo_blob": FOREIGN}})
    assert drive.job is not None and drive.job.stage is JobStage.COMPLETED and FOREIGN not in list(blobs(drive.job))


@pytest.mark.parametrize("key", sorted(RESERVED_KEYS - SIGNAL_KEYS | {"page_blob", "blob_name"}))
def test_an_answer_to_a_step_names_no_object_and_no_finding_of_an_action(key: str) -> None:
    drive = Drive(workflow({"wait": {"kind": "poke"}}))
    drive.feed(drive.start)
    decision = drive.verb(PokeJob, data={key: OWN})
    assert decision.refused == "invalid data" and str(decision.why).startswith(f"data.{key}: ")
    assert drive.verb(PokeJob, data={"deep": {"x_blob": FOREIGN}}).refused is not None
    assert drive.verb(PokeJob, data={"amount": 5, "fields": {"total": "5"}}).refused is None


def test_files_of_a_job_belong_to_its_tenant() -> None:
    drive = Drive(workflow({}))
    request = drive.start.request
    stolen = request.files[0].model_copy(update={"blob_name": FOREIGN})
    drive.start = type(drive.start)(request.model_copy(update={"files": (stolen,)}), drive.flow)
    drive.feed(drive.start)
    assert drive.job is not None and drive.job.stage is JobStage.INVALID and "foreign_object" in errors(drive)
    assert list(blobs(drive.job)) == []


def test_another_tenant_reports_nothing() -> None:
    drive = of("noop")
    assert drive.report(drive.tasks[0], TaskStatus.OK, tenant_id="t2").refused == "other tenant"
    assert Tenancy(tenant_id="t1").tenant_id == "t1"
