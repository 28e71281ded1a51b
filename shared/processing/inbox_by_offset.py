"""The inbox by place: which records of a topic have had their effect, as one row for all that a batch had of a partition.

An id per message in a table of ids costs an entry at a place of its own in two indexes, for every message, and more of it the more there are.
What a crash or a rebalance delivers again stands where it stood; that is told by its offset, and by a mark of its id, since a topic that was made anew
counts from zero again. A message that was sent twice stands at two places: this is for those whose handler can tell that too, for which
`sent_before` looks back.
"""

from __future__ import annotations

import struct
from collections.abc import Iterable, Sequence
from zlib import crc32

from sqlalchemy import Connection, text

from shared.database.bulk_statements import BulkStatement
from shared.database.statements import Statement, as_list, is_shared

SPAN = 10_000
"""Most offsets that one row reaches over, so that a row that holds an offset is found from it."""
LOOK_BACK = 50_000
"""How many offsets before its own a message that was sent again is looked for."""
Place = tuple[str, int, int, str]
"""Where a message stands, and which it is: topic, partition, offset, id."""


# By partition, one transaction after the other: whoever waited sees what the other has taken, as with the ids of the other inbox.
_IN_TURN = text(
    "SELECT pg_advisory_xact_lock(hashtext(current_schema()), hashtext(value)) FROM "
    "(SELECT value FROM json_array_elements_text(CAST(:names AS json)) AS t(value) ORDER BY hashtext(value)) AS sorted"
)
_BEGIN = Statement("BEGIN IMMEDIATE")
_FOUND = Statement(
    "SELECT partition_name, first_offset, marks, last_offset FROM [[ranges]] CROSS JOIN taken WHERE partition_name = value ->> 0 AND "
    f"last_offset BETWEEN CAST(value ->> 1 AS bigint) AND CAST(value ->> 2 AS bigint) + {SPAN}"
)
_KNOWN = "ON CONFLICT (partition_name, last_offset) DO UPDATE SET first_offset = excluded.first_offset, marks = excluded.marks, taken_at = excluded.taken_at"
_TAKE = BulkStatement(
    f"INSERT INTO taken (partition_name, last_offset, first_offset, marks, taken_at) VALUES (:name, :last, :first, :marks, :at) {_KNOWN}",
    "INSERT INTO taken (partition_name, last_offset, first_offset, marks, taken_at) SELECT * FROM unnest(CAST(:name AS text[]), "
    f"CAST(:last AS bigint[]), CAST(:first AS bigint[]), CAST(:marks AS bytea[]), CAST(:at AS double precision[])) {_KNOWN}",
)
_OLD = Statement(
    "SELECT partition_name, last_offset FROM taken WHERE taken_at < :before ORDER BY taken_at LIMIT :limit /*FOR UPDATE SKIP LOCKED*/"
)
_FORGET = BulkStatement(
    "DELETE FROM taken WHERE partition_name = :name AND last_offset = :last",
    "DELETE FROM taken USING unnest(CAST(:name AS text[]), CAST(:last AS bigint[])) AS given(name, last) "
    "WHERE partition_name = given.name AND last_offset = given.last",
)


def mark_taken(connection: Connection, places: Sequence[Place], at: float) -> set[Place]:
    """Note that these have their effect in this transaction; returns those that had it before."""
    found: dict[str, list[Place]] = {}
    for place in places:
        found.setdefault(f"{place[0]}/{place[1]}", []).append(place)
    if is_shared(connection):
        connection.execute(_IN_TURN, {"names": as_list(found)})
    elif not connection.connection.driver_connection.in_transaction:  # type: ignore[union-attr]
        # The driver begins with the first change, which would be after the look.
        _BEGIN.rows(connection)
    repeats: set[Place] = set()
    ranges = [(name, *_ends(given)) for name, given in found.items()]
    if rows := _FOUND.rows(connection, {"ranges": as_list(ranges)}):
        known = set(_marks(rows))
        repeats = {p for name, given in found.items() for p in given if (name, p[2], mark_of(p[3])) in known}
        found = {name: [p for p in given if p not in repeats] for name, given in found.items()}
    _TAKE.run(connection, [_row(name, part, at) for name, given in found.items() for part in _spans(given)])
    return repeats


def untake(connection: Connection, places: Sequence[Place], at: float) -> None:
    """Take these out again: they have had no effect."""
    for topic, partition, offset, _ in places:
        for name, first, marks, last in _FOUND.rows(connection, {"ranges": as_list([(f"{topic}/{partition}", offset, offset)])}):
            held = list(struct.iter_unpack("<II", marks))
            left = [pair for pair in held if first + pair[0] != offset]
            if left == held:
                continue
            # A row is named by the last that it holds: were it that of one that it holds no more, this one taken anew would take its place.
            _FORGET.run(connection, [{"name": name, "last": last}])
            if left:
                kept = {
                    "name": name,
                    "last": first + max(left)[0],
                    "first": first,
                    "marks": _packed(n for pair in left for n in pair),
                }
                _TAKE.run(connection, [{**kept, "at": at}])


def sent_before(connection: Connection, place: Place) -> bool:
    """True if the same id was taken from the same partition at one of the `LOOK_BACK` offsets before."""
    topic, partition, offset, message_id = place
    mark = mark_of(message_id)
    rows = _FOUND.rows(connection, {"ranges": as_list([(f"{topic}/{partition}", offset - LOOK_BACK, offset)])})
    return any(known == mark and earlier < offset for _, earlier, known in _marks(rows))


def forget_taken(connection: Connection, before: float, limit: int) -> int:
    """Drop at most `limit` rows older than any possible redelivery; returns how many. Replicas take different ones."""
    old = _OLD.rows(connection, {"before": before, "limit": limit})
    _FORGET.run(connection, [{"name": name, "last": last} for name, last in old])
    return len(old)


def mark_of(message_id: str) -> int:
    """32 bits of an id."""
    return crc32(message_id.encode("utf-8", "surrogatepass"))


def _ends(given: Sequence[Place]) -> tuple[int, int]:
    offsets = [place[2] for place in given]
    return min(offsets), max(offsets)


def _spans(given: Sequence[Place]) -> Iterable[Sequence[Place]]:
    if not given:
        return
    first, last = _ends(given)
    for start in range(first, last + 1, SPAN):
        part = given if last - first < SPAN else [p for p in given if start <= p[2] < start + SPAN]
        if part:
            yield part


def _row(name: str, part: Sequence[Place], at: float) -> dict[str, object]:
    first, last = _ends(part)
    pairs = [n for place in part for n in (place[2] - first, mark_of(place[3]))]
    return {"name": name, "last": last, "first": first, "marks": _packed(pairs), "at": at}


def _packed(numbers: Iterable[int]) -> bytes:
    given = list(numbers)
    return struct.pack(f"<{len(given)}I", *given)


def _marks(rows: Iterable[tuple[str, int, bytes, int]]) -> Iterable[tuple[str, int, int]]:
    for name, first, marks, _ in rows:
        for after, mark in struct.iter_unpack("<II", marks):
            yield name, first + after, mark
