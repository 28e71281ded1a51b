"""What a transaction decides survives the outbox byte by byte, and what an earlier process left leaves first."""

from __future__ import annotations

from pathlib import Path

from hypothesis import given
from hypothesis import strategies as st
from sqlalchemy import text

from shared.database.migrate import migrate
from shared.database.open import open_store
from shared.kafka.outgoing import Outgoing
from shared.processing.outbox import Relay
from shared.processing.outbox_codec import pack, unpack
from tests.unit.fake_relay import NotingRelay

TOPICS = st.sampled_from(["job.events", "stage.tasks.noop", "stage.cancellations", "job.events.g.dlq"])
HEADERS = st.lists(st.tuples(st.text(st.characters(exclude_categories=["Cs"]), max_size=10), st.binary(max_size=30)), max_size=5)
RECORDS = st.builds(
    lambda topic, key, value, headers: Outgoing(topic, key, value, tuple(headers), not topic.startswith("stage.")),
    TOPICS, st.none() | st.binary(max_size=20), st.binary(max_size=60) | st.text(max_size=30).map(str.encode), HEADERS,
)  # fmt: skip


@given(st.lists(RECORDS, max_size=5))
def test_records_survive_the_outbox(records: list[Outgoing]) -> None:
    body = pack(records)
    assert unpack(body) == records
    assert "\x00" not in body, "PostgreSQL's texts hold everything but this"


def test_an_empty_key_beside_bytes_that_are_no_text() -> None:
    records = [Outgoing("job.events.g.dlq", b"", b"\xff", (("h", b""),))]
    assert unpack(pack(records)) == records


async def test_what_an_earlier_process_left_goes_first(tmp_path: Path) -> None:
    store = open_store(f"sqlite:///{tmp_path}/session.db")
    await migrate(store, "session")
    crashed = NotingRelay()
    for n in range(4):
        rows = [Outgoing("a", b"k", b"%d" % n, ())]
        await store.transact(lambda c, r=rows: crashed.write_rows(c, r, 1.0))  # type: ignore[misc]
    relay = NotingRelay()
    await relay.publish_left_behind(store)
    assert [row.value for row in relay.sent] == [b"0", b"1", b"2", b"3"] and isinstance(relay, Relay) and not relay.work_left
    assert await store.read(lambda c: c.execute(text("SELECT count(*) FROM outbox_batch")).scalar()) == 0
    await store.close()
