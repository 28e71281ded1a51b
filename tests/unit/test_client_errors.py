"""Log lines of Kafka clients: an attempt that is repeated is a warning, once; what lasts is an error."""

from __future__ import annotations

import io
import json
import logging
from collections.abc import Iterator

import pytest
from aiokafka.errors import (
    GroupAuthorizationFailedError,
    GroupCoordinatorNotAvailableError,
    KafkaConnectionError,
    NotLeaderForPartitionError,
)

from shared.telemetry import logs
from shared.telemetry.client_errors import PATIENCE_S, QUIET_S, RepeatedAttempts


def line(message: str, *arguments: object, level: int = logging.ERROR) -> logging.LogRecord:
    return logging.LogRecord("aiokafka.consumer", level, "", 0, message, arguments, None)


class Lines:
    """What passes a filter whose clock the test sets."""

    def __init__(self) -> None:
        self.now = 1000.0
        self.filter = RepeatedAttempts(lambda: self.now)

    def level(self, record: logging.LogRecord) -> str:
        return record.levelname if self.filter.filter(record) else ""


@pytest.mark.parametrize(
    ("message", "arguments"),
    [
        ("Group Coordinator Request failed: %s", (GroupCoordinatorNotAvailableError(),)),
        ("Failed fetch offsets from %s: %s", (1, NotLeaderForPartitionError("t"))),
        ("Unable connect to node with id %s: %s", (1, ConnectionRefusedError())),
        ("Unable connect to node with id %s: %s", (1, KafkaConnectionError("x"))),
        ("Error fetching metadata for topic %s: %s", ("t", NotLeaderForPartitionError)),
        ("Unable to update metadata from %s", ([0],)),
        ("Topic %s not found in cluster metadata", ("t",)),
    ],
)
def test_an_attempt_that_is_repeated_is_one_warning_until_it_lasts(message: str, arguments: tuple[object, ...]) -> None:
    lines = Lines()
    assert lines.level(line(message, *arguments)) == "WARNING"
    while lines.now <= 1000 + PATIENCE_S - 5:
        lines.now += 5
        assert lines.level(line(message, *arguments)) == ""
    lines.now = 1000 + PATIENCE_S + 1
    assert lines.level(line(message, *arguments)) == "ERROR"


def test_trouble_after_a_while_of_quiet_is_new_trouble() -> None:
    lines = Lines()
    failed = "Group Coordinator Request failed: %s", GroupCoordinatorNotAvailableError()
    assert [lines.level(line(*failed)) for _ in range(2)] == ["WARNING", ""]
    lines.now += max(PATIENCE_S, QUIET_S) + 1
    assert lines.level(line(*failed)) == "WARNING"


def test_two_troubles_are_two_warnings() -> None:
    lines = Lines()
    assert lines.level(line("Group Coordinator Request failed: %s", GroupCoordinatorNotAvailableError())) == "WARNING"
    assert lines.level(line("Failed fetch messages from %s: %s", 1, NotLeaderForPartitionError())) == "WARNING"


def test_what_no_attempt_mends_stays_an_error() -> None:
    lines = Lines()
    refused = "OffsetCommit failed for group %s - %s", "g", GroupAuthorizationFailedError("g")
    assert [lines.level(line(*refused)) for _ in range(3)] == ["ERROR"] * 3
    assert [lines.level(line("Unexpected error in coordinator routine")) for _ in range(2)] == ["ERROR"] * 2


def test_a_warning_stays_a_warning() -> None:
    lines = Lines()
    retrying = "Got error produce response on topic-partition %s, retrying. Error: %s", "t", NotLeaderForPartitionError
    assert [lines.level(line(*retrying, level=logging.WARNING)) for _ in range(2)] == ["WARNING", ""]


@pytest.fixture
def written(monkeypatch: pytest.MonkeyPatch) -> Iterator[io.StringIO]:
    """What the process writes as its log."""
    root = logging.getLogger()
    before = root.handlers[:], root.level
    stream = io.StringIO()
    monkeypatch.setattr("sys.stderr", stream)
    logs.configure("t")
    yield stream
    root.handlers[:], root.level = before


def test_services_log_so(written: io.StringIO) -> None:
    client = logging.getLogger("aiokafka.consumer.group_coordinator")
    for _ in range(3):
        client.error("Group Coordinator Request failed: %s", GroupCoordinatorNotAvailableError())
    logging.getLogger("shared").error("this is ours: %s", GroupCoordinatorNotAvailableError())
    found = [json.loads(one) for one in written.getvalue().splitlines()]
    assert [(one["level"], one["logger"]) for one in found] == [
        ("WARNING", "aiokafka.consumer.group_coordinator"), ("ERROR", "shared"),
    ]  # fmt: skip
