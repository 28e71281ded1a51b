"""Tasks that cannot be read."""

from __future__ import annotations

import pytest

from contracts import to_record
from tests.conformance.workers.conftest import Launch
from tests.conformance.workers.harness import EXAMPLE, KitWorker, Orchestrator, Program, until

OTHER_ACTION = to_record(EXAMPLE.model_copy(update={"action": "acme.other"}), "/test").value


@pytest.mark.parametrize(
    ("value", "code"),
    [(b"\xff", "invalid_data"), (b"{}", "invalid_data"), (None, "empty_value"), (b'{"a": "' + b"x" * 950_000, "invalid_data|too_large"), (OTHER_ACTION, "wrong_topic")],
    ids=lambda v: v if isinstance(v, str) else "",
)  # fmt: skip
async def test_a_task_that_cannot_be_read_is_a_dead_letter_and_holds_nothing_up(
    launch: Launch, orchestrator: Orchestrator, program: Program, value: bytes | None, code: str
) -> None:
    await launch()
    program.released.add("l-1")
    orchestrator.broker.append("stage.tasks.acme.work", b"k", value, [("ce_type", b"stageline.stage.task.v1"), ("x", b"y")])
    orchestrator.send_task("l-1")
    await until(lambda: orchestrator.committed() == 2)
    assert [r.lease for r in orchestrator.ends()] == ["l-1"]
    (letter,) = orchestrator.broker.records("stage.tasks.acme.work.workers.dlq")
    headers = dict(letter.headers)
    assert (letter.key, letter.value or None) == (b"k", value) and (headers["x"], headers["ce_type"][:9]) == (b"y", b"stageline")
    assert headers["dlq-code"].decode() in code.split("|") and headers["dlq-original-topic"] == b"stage.tasks.acme.work"
    assert (headers["dlq-original-partition"], headers["dlq-original-offset"], headers["dlq-group"]) == (b"0", b"0", b"workers")


@pytest.mark.parametrize("launch", [KitWorker], indirect=True, ids=["kit"])
async def test_an_unreadable_task_without_a_place_for_it_is_skipped_and_logged(
    launch: Launch, orchestrator: Orchestrator, program: Program, caplog: pytest.LogCaptureFixture
) -> None:
    await launch()
    orchestrator.broker.largest = 1000
    orchestrator.broker.append("stage.tasks.acme.work", b"k", b"x" * 2000, [])
    await until(lambda: orchestrator.committed() == 1)
    (line,) = [r for r in caplog.records if "without a dead letter" in r.getMessage()]
    assert (line.partition, line.offset) == (0, 0)  # type: ignore[attr-defined]
