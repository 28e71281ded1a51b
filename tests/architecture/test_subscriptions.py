"""Every subscription states its group and how it acknowledges: FastStream's and aiokafka's defaults lose messages."""

from __future__ import annotations

import ast
from collections.abc import Iterator
from pathlib import Path

import pytest
from faststream import AckPolicy

from shared.kafka.clients import make_broker
from shared.kafka.connection import KafkaAccess
from shared.processing.processor import BatchProcessor
from shared.processing.subscription import Subscription
from shared.telemetry.tracing import Telemetry
from tests.architecture.sources import ROOT, product

SUBSCRIBER = {"group_id": None, "ack_policy": "AckPolicy.MANUAL", "auto_offset_reset": "'earliest'"}
CONSUMER = {"group_id": None, "enable_auto_commit": "False"}
"""Keyword that a call must state → the value that it must have, None for any."""


def last_name(node: ast.expr) -> str:
    """`c` of `a.b.c` and of `c`, else nothing."""
    return node.attr if isinstance(node, ast.Attribute) else getattr(node, "id", "")


def consumer_classes(trees: list[ast.Module]) -> set[str]:
    """`AIOKafkaConsumer` and every class of ours that extends it."""
    names = {"AIOKafkaConsumer"}
    classes = [node for tree in trees for node in ast.walk(tree) if isinstance(node, ast.ClassDef)]
    while more := {c.name for c in classes if names & set(map(last_name, c.bases))} - names:
        names |= more
    return names


def subscribers(tree: ast.Module) -> Iterator[ast.Call]:
    """Calls of a method `subscriber`; a call of a local of that name only registers the handler of one."""
    for node in ast.walk(tree):
        if isinstance(node, ast.Call) and isinstance(node.func, ast.Attribute) and node.func.attr == "subscriber":
            yield node


def consumers(tree: ast.Module, names: set[str]) -> Iterator[ast.Call]:
    for node in ast.walk(tree):
        if isinstance(node, ast.Call) and last_name(node.func) in names:
            yield node


def indirect(tree: ast.Module, names: set[str]) -> Iterator[str]:
    """Uses by which a subscription could be made out of sight: `subscriber` or a consumer class passed on without a call."""
    seen_well: set[int] = set()
    for node in ast.walk(tree):
        if isinstance(node, ast.Call):
            seen_well.add(id(node.func))
        elif isinstance(node, ast.ClassDef):
            seen_well |= set(map(id, node.bases))
        elif isinstance(node, ast.AnnAssign | ast.arg) and node.annotation is not None:
            seen_well |= set(map(id, ast.walk(node.annotation)))
        elif isinstance(node, ast.FunctionDef | ast.AsyncFunctionDef) and node.returns is not None:
            seen_well |= set(map(id, ast.walk(node.returns)))
    for node in ast.walk(tree):
        makes = isinstance(node, ast.Attribute) and node.attr == "subscriber"
        names_one = isinstance(node, ast.Name | ast.Attribute) and last_name(node) in names
        if (makes or names_one) and id(node) not in seen_well:
            yield ast.unparse(node)


def literal(tree: ast.Module, node: ast.expr) -> dict[str, str] | None:
    """Keyword → value of `**node`: a dict display, a call of `dict`, or a name that is bound to one, once. None: unknown."""
    if isinstance(node, ast.Name):
        bound = [a.value for a in ast.walk(tree) if isinstance(a, ast.Assign) and any(last_name(t) == node.id for t in a.targets)]
        return literal(tree, bound[0]) if len(bound) == 1 and not isinstance(bound[0], ast.Name) else None
    if isinstance(node, ast.Call) and last_name(node.func) == "dict" and not node.args and all(k.arg for k in node.keywords):
        return {str(k.arg): ast.unparse(k.value) for k in node.keywords}
    if isinstance(node, ast.Dict) and all(isinstance(key, ast.Constant) for key in node.keys):
        return {str(k.value): ast.unparse(v) for k, v in zip(node.keys, node.values, strict=True) if isinstance(k, ast.Constant)}
    return None


def faults(tree: ast.Module, call: ast.Call, required: dict[str, str | None]) -> list[str]:
    """What a call does not state. A `**mapping` that cannot be resolved is fine only beside all that is required: Python refuses a keyword
    that is given twice, so it cannot change them."""
    stated = {str(k.arg): ast.unparse(k.value) for k in call.keywords if k.arg}
    for starred in (k.value for k in call.keywords if k.arg is None):
        stated |= literal(tree, starred) or {}
    missing = [f"{name} is not stated" for name in required if name not in stated]
    wrong = [f"{name} is {stated[name]}" for name, value in required.items() if value and stated.get(name, value) != value]
    return missing + wrong


SOURCES = product()
NAMES = consumer_classes(list(SOURCES.values()))
SUBSCRIPTIONS = [(path, tree, call) for path, tree in SOURCES.items() for call in subscribers(tree)]
BARE = [(path, tree, call) for path, tree in SOURCES.items() for call in consumers(tree, NAMES)]


def where(value: object) -> str:
    return value.name if isinstance(value, Path) else str(value.lineno) if isinstance(value, ast.Call) else ""


def test_there_are_subscriptions_to_check() -> None:
    assert len(SUBSCRIPTIONS) >= 3 and len(BARE) >= 5


@pytest.mark.parametrize(("path", "tree", "call"), SUBSCRIPTIONS, ids=where)
def test_subscriptions_state_group_and_ack_policy(path: Path, tree: ast.Module, call: ast.Call) -> None:
    assert faults(tree, call, SUBSCRIBER) == [], f"{path}:{call.lineno}"


@pytest.mark.parametrize(("path", "tree", "call"), BARE, ids=where)
def test_bare_consumers_state_group_and_never_commit_by_themselves(path: Path, tree: ast.Module, call: ast.Call) -> None:
    assert faults(tree, call, CONSUMER) == [], f"{path}:{call.lineno}"


def test_no_subscription_is_made_out_of_sight() -> None:
    found = {str(path.relative_to(ROOT)): list(indirect(tree, NAMES)) for path, tree in SOURCES.items()}
    assert {path: uses for path, uses in found.items() if uses} == {}


@pytest.mark.parametrize(
    ("code", "refused"),
    [
        ("b.subscriber('t', group_id='g', ack_policy=AckPolicy.MANUAL, auto_offset_reset='earliest')", False),
        ("b.subscriber(*topics, group_id='g', ack_policy=AckPolicy.MANUAL, auto_offset_reset='earliest', **more)", False),
        ("b.subscriber('t')", True),
        ("b.subscriber(*topics)", True),
        ("b.subscriber(**options)", True),
        ("b.subscriber('t', group_id='g', ack_policy=AckPolicy.ACK, auto_offset_reset='earliest')", True),
        ("o = {'group_id': 'g', 'ack_policy': AckPolicy.MANUAL, 'auto_offset_reset': 'earliest'}\nb.subscriber('t', **o)", False),
        ("o = dict(group_id='g', ack_policy=AckPolicy.ACK, auto_offset_reset='earliest')\nb.subscriber('t', **o)", True),
        ("o = {'group_id': 'g'}\no = make()\nb.subscriber(**o, ack_policy=AckPolicy.MANUAL, auto_offset_reset='earliest')", True),
        ("subscriber = b.subscriber()\nsubscriber(handler)", True),
        ("subscriber(handler)", False),
        ("AIOKafkaConsumer('t', group_id=None, enable_auto_commit=False, **access.options)", False),
        ("AIOKafkaConsumer(*topics, **options)", True),
        ("AIOKafkaConsumer('t', group_id='g')", True),
        ("class Own(AIOKafkaConsumer): pass\nOwn('t')", True),
        ("options = {'group_id': 'g', 'enable_auto_commit': True}\naiokafka.AIOKafkaConsumer('t', **options)", True),
        ("partial(AIOKafkaConsumer, 't')", True),
        ("make = b.subscriber\nmake('t')", True),
        ("def f(c: AIOKafkaConsumer | None) -> AIOKafkaConsumer: ...", False),
    ],
)
def test_the_rule_sees_each_form(code: str, refused: bool) -> None:
    tree = ast.parse(code)
    names = consumer_classes([tree])
    found = [f for call in subscribers(tree) for f in faults(tree, call, SUBSCRIBER)]
    found += [f for call in consumers(tree, names) for f in faults(tree, call, CONSUMER)]
    assert bool(found or list(indirect(tree, names))) is refused, found


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
