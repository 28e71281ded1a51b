"""What is sent of a dead letter: sealed again where it was sealed, never to topics that give out rights, and a missing right is named."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import pytest

from contracts.sealing import SEAL_HEADER
from services.ingest.adapters import letter_box
from services.ingest.adapters.letter_box import LetterBox, NotPossible
from services.ingest.core.letters import Headers, Raw
from shared.kafka.connection import KafkaAccess
from shared.kafka.outgoing import Outgoing
from shared.kafka.refusals import FORBIDDEN, MISSING, Refused
from tests.unit.test_letters import raw


class Seals:
    """Seals all but the records of an erased job."""

    def seal(self, key: bytes | None, value: bytes, headers: Headers) -> tuple[bytes, Headers] | None:
        return None if value == b"erased" else (b"sealed:" + value, ((SEAL_HEADER, b"k"), *headers))


class Batches:
    """A producer that notes what it gets, and may refuse it."""

    sent: list[Outgoing] = []
    code: str | None = None

    def __init__(self, producer: Any) -> None:
        """No producer is needed."""

    async def send(self, rows: list[Outgoing]) -> list[Refused]:
        if Batches.code is not None:
            return [Refused(rows[0], Batches.code)]
        Batches.sent += rows
        return []


@pytest.fixture
def box(monkeypatch: pytest.MonkeyPatch) -> LetterBox:
    made = LetterBox(KafkaAccess)
    made._seals = Seals()  # type: ignore[assignment]
    made._producer = object()  # type: ignore[assignment]
    Batches.sent, Batches.code = [], None
    monkeypatch.setattr(letter_box, "ProducerBatches", Batches)
    return made


async def test_a_copy_goes_to_the_source_with_the_key_of_the_record(box: LetterBox) -> None:
    await box.send(raw(), b"{}", (("h", b"1"),))
    [row] = Batches.sent
    assert (row.topic, row.key, row.value, row.headers) == ("stage.reports", raw().key, b"{}", (("h", b"1"),))


async def test_what_was_sealed_is_sealed_again(box: LetterBox) -> None:
    await box.send(replace(raw(), sealed=True), b"{}", ())
    assert Batches.sent[0].value == b"sealed:{}"
    for value, headers in ((b"erased", ()), (b"{}", ((SEAL_HEADER, b"k"),))):
        with pytest.raises(NotPossible, match="its job is erased"):
            await box.send(replace(raw(), sealed=True), value, headers)


@pytest.mark.parametrize(("source", "why"), [
    (b"access.events", "one author"), (b"secret.events", "one author"), (b"seal.keys", "one author"), (b"x.y.dlq", "does not say"),
    (None, "does not say"),
])  # fmt: skip
async def test_some_letters_are_never_sent(box: LetterBox, source: bytes | None, why: str) -> None:
    headers = () if source is None else (("dlq-original-topic", source),)
    with pytest.raises(NotPossible, match=why):
        await box.send(Raw("t.g.dlq", 0, 1, 0.0, b"k", b"{}", headers), b"{}", ())
    assert not Batches.sent


@pytest.mark.parametrize(
    ("code", "why"), [(FORBIDDEN, "may not write to stage.reports.*role `letters`"), (MISSING, "does not exist")]
)
async def test_what_kafka_refuses_is_named(box: LetterBox, code: str, why: str) -> None:
    Batches.code = code
    with pytest.raises(NotPossible, match=why):
        await box.send(raw(), b"{}", ())
