"""Every subscription says its group and how it acknowledges: FastStream's defaults lose messages."""

from __future__ import annotations

import ast
from pathlib import Path

import pytest
from faststream import AckPolicy

from shared.kafka.clients import make_broker
from shared.kafka.connection import KafkaAccess
from shared.processing.processor import BatchProcessor
from shared.processing.subscription import Subscription
from shared.telemetry.tracing import Telemetry

ROOT = Path(__file__).parents[2]


def calls(name: str) -> list[tuple[Path, ast.Call]]:
    found: list[tuple[Path, ast.Call]] = []
    for package in ("shared", "services", "cli"):
        for path in (ROOT / package).rglob("*.py"):
            for node in ast.walk(ast.parse(path.read_text())):
                if isinstance(node, ast.Call):
                    called = node.func.attr if isinstance(node.func, ast.Attribute) else getattr(node.func, "id", "")
                    if called == name:
                        found.append((path, node))
    return found


def test_there_are_subscriptions_to_check() -> None:
    assert len(calls("subscriber")) >= 3


@pytest.mark.parametrize(("path", "call"), calls("subscriber"), ids=lambda v: v.name if isinstance(v, Path) else "")
def test_subscriptions_state_group_and_ack_policy(path: Path, call: ast.Call) -> None:
    arguments = {k.arg: ast.unparse(k.value) for k in call.keywords}
    if not arguments and not call.args:
        return
    if "group_id" not in arguments and len(call.args) == 1 and not call.keywords:
        return  # `subscriber(handler)`: registering the handler of a subscription checked above
    assert "group_id" in arguments, f"{path}: no group_id"
    assert arguments.get("ack_policy") == "AckPolicy.MANUAL", path
    assert arguments.get("auto_offset_reset") == "'earliest'", path


@pytest.mark.parametrize(("path", "call"), calls("AIOKafkaConsumer"), ids=lambda v: v.name if isinstance(v, Path) else "")
def test_bare_consumers_state_group_and_never_commit_by_themselves(path: Path, call: ast.Call) -> None:
    arguments = {k.arg: ast.unparse(k.value) for k in call.keywords}
    assert "group_id" in arguments, path
    assert arguments.get("enable_auto_commit") == "False", path


def test_a_declared_subscription_never_commits_by_itself() -> None:
    from contracts.topics import JOB_EVENTS_TOPIC

    broker = make_broker(KafkaAccess(bootstrap_servers="127.0.0.1:1"), 1)
    processor = BatchProcessor("t", None, None, Telemetry("t", "i"))  # type: ignore[arg-type]
    subscription = Subscription(processor, [JOB_EVENTS_TOPIC], "g", lambda unit, batch: None)
    subscription.declare(broker)
    (declared,) = broker.subscribers
    assert declared.ack_policy is AckPolicy.MANUAL
    assert declared._connection_args["enable_auto_commit"] is False  # type: ignore[attr-defined]
    assert declared._connection_args["auto_offset_reset"] == "earliest"  # type: ignore[attr-defined]


def test_only_the_runtime_catches_everything() -> None:
    """`except Exception` that goes on is allowed where a comment says why, in the places listed here."""
    allowed = {
        "records.py",
        "processor.py",
        "subscription.py",
        "pool.py",
        "child.py",
        "text.py",
        "sender.py",
        "handlers.py",
        "containers.py",
    }
    allowed |= {"archive.py", "archive_page.py"}
    for package in ("shared", "services"):
        for path in (ROOT / package).rglob("*.py"):
            if "noqa: BLE001" in path.read_text():
                assert path.name in allowed, path
