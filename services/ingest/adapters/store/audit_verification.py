"""Verifies the chain of hashes over the audit, from its anchor to its head, beside transactions that append and prune."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

from sqlalchemy import Connection, text

from services.ingest.adapters.store.audit import GENESIS, PART, link
from shared.database.store import Store

_ENDS = text("SELECT anchor_seq, anchor_hash, head_seq, head_hash FROM audit_chain WHERE id = 1")
_AFTER = text("SELECT id, tenant_id, at, body, seq, hash FROM audit WHERE seq > :s AND seq <= :last ORDER BY seq LIMIT :n")
_COUNTS = text("SELECT count(*) AS all_rows, count(seq) AS chained, max(seq) AS newest FROM audit")


@dataclass(frozen=True, slots=True)
class Fault:
    """The first place where the chain is broken: the number in the chain, the row's id if there is a row, and the reason."""

    seq: int
    row_id: int | None
    reason: str


@dataclass
class Verification:
    """What a verification found. `rows` were verified; `unchained` were written by an older release and are not adopted yet."""

    rows: int = 0
    unchained: int = 0
    first_seq: int = 0
    head_seq: int = 0
    head_hash: str = GENESIS
    fault: Fault | None = None


class ChainVerifier:
    """One verification. `known` is a (number, hash) that the operator noted before: it must be in the chain."""

    def __init__(self, store: Store, known: tuple[int, str] | None = None) -> None:
        self.store = store
        self.known = known
        self.found = Verification()
        self._seq = 0
        self._hash = GENESIS

    async def verify(self) -> Verification:
        """Verify all rows up to the head at the start. Raises `Retry` when the store is unavailable."""
        found = self.found
        await self.store.read(self._begin)
        while found.fault is None and self._seq < found.head_seq:
            await self.store.read(self._part)
        if found.fault is None and self._hash != found.head_hash:
            found.fault = Fault(found.head_seq, None, "the newest row is not the one that the chain's head names")
        if found.fault is None and self.known is not None and self.known[0] > found.head_seq:
            found.fault = Fault(self.known[0], None, "the chain ends before the row that was noted")
        return found

    def _begin(self, connection: Connection) -> None:
        # The rows before the ends: rows that are appended meanwhile move the head, and must not look like added ones.
        found, counts, ends = self.found, connection.execute(_COUNTS).one(), connection.execute(_ENDS).first()
        found.unchained = counts.all_rows - counts.chained
        if ends is None:
            if counts.chained:
                found.fault = Fault(1, None, "the ends of the chain are missing")
            return
        found.head_seq, found.head_hash = ends.head_seq, ends.head_hash
        self._seq, self._hash = ends.anchor_seq, ends.anchor_hash
        found.first_seq = ends.anchor_seq + 1
        if (counts.newest or 0) > ends.head_seq:
            found.fault = Fault(ends.head_seq + 1, None, "a row follows the one that the chain's head names")

    def _part(self, connection: Connection) -> None:
        rows = connection.execute(_AFTER, {"s": self._seq, "last": self.found.head_seq, "n": PART}).all()
        # After the rows: what was pruned meanwhile is not missing.
        ends = connection.execute(_ENDS).first()
        if ends is not None and ends.anchor_seq > self._seq:
            self._seq, self._hash = ends.anchor_seq, ends.anchor_hash
            rows = [row for row in rows if row.seq > self._seq]
        elif not rows:
            self.found.fault = Fault(self._seq + 1, None, "the row is missing")
        for row in rows:
            self.found.fault = self._fault_of(row)
            if self.found.fault is not None:
                return
            self._seq, self._hash = row.seq, row.hash
            self.found.rows += 1

    def _fault_of(self, row: Any) -> Fault | None:
        if row.seq != self._seq + 1:
            return Fault(self._seq + 1, None, "the row is missing")
        if row.hash != link(self._hash, row.seq, row.tenant_id, row.at, row.body):
            return Fault(row.seq, row.id, "the row does not match its hash")
        if self.known is not None and self.known[0] == row.seq and self.known[1] != row.hash:
            return Fault(row.seq, row.id, "the row is another than the one that was noted")
        return None
