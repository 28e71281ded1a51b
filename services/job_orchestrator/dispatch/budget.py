"""Credits in one transaction: what may be handed out at once, what waits, and what is in flight."""

from __future__ import annotations

from collections import Counter
from collections.abc import Collection
from dataclasses import replace
from functools import cached_property
from typing import Any

from services.job_orchestrator.core.allocation import WINDOW, Capacity, Claim, Control, capacity, caught_up, rank, shares
from services.job_orchestrator.core.decision_builder import Credits
from services.job_orchestrator.core.job import IN_FLIGHT, Branch, BranchState, Job
from services.job_orchestrator.ports import DispatchStore, Key, Overview, Ready

PER_PASS = 500
"""Credits given in one transaction."""
OPEN = Control()


class Budget:
    """Reads the controls and counters once per transaction, and writes what changed."""

    def __init__(self, store: DispatchStore, now: float) -> None:
        self.store = store
        self.now = now
        self.deltas: Counter[Key] = Counter()
        self.entering: dict[tuple[str, str], dict[str, Any]] = {}
        self.leaving: set[tuple[str, str]] = set()
        self.entered = False
        """True when an attempt of this transaction waits, or did."""
        self.arrived: Counter[tuple[str, str]] = Counter()
        self.served: Counter[tuple[str, str]] = Counter()
        """(action, tenant) → attempts that began, and attempts that ended."""
        self.blocked_until: float | None = None
        """Set by `allocate`: Unix time at which a rate has its next token."""
        self.more = False
        """Set by `allocate`: more credits may be free at once."""

    @cached_property
    def overview(self) -> Overview:
        """Controls and counters as the transaction found them."""
        return self.store.overview()

    @cached_property
    def controls(self) -> dict[Key, Control]:
        """Limits, rates, pauses and weights, by action or tenant."""
        return self.overview.controls

    @cached_property
    def flight(self) -> dict[Key, int]:
        """Attempts in flight when the transaction began."""
        return self.overview.in_flight

    @cached_property
    def waiting(self) -> frozenset[str]:
        """Actions that attempts waited for when the transaction began."""
        return frozenset(self.store.ready_actions()) if self.overview.waits else frozenset()

    def in_flight(self, key: Key) -> int:
        """Attempts in flight now, with what this transaction changed."""
        return self.flight.get(key, 0) + self.deltas[key]

    def capacity(self, kind: str, name: str) -> Capacity:
        """What `kind` (`action` or `tenant`) `name` may still hand out."""
        key = (kind, name)
        return capacity(self.controls.get(key), self.in_flight(key), self.now, WINDOW if kind == "action" else None)

    def credits(self, tenant: str, fresh: bool) -> Credits:
        """What a job of `tenant` may hand out without an allocation, by action.

        None where a control narrows the action or the tenant, and none for a `fresh` job where other jobs wait.
        """

        def free(action: str) -> int:
            if self.controls and (
                self.controls.get(("action", action), OPEN).narrows or self.controls.get(("tenant", tenant), OPEN).narrows
            ):
                # Not even the credit that the job itself frees: the allocation decides who gets it.
                return -WINDOW
            if fresh and action in self.waiting:
                return 0
            return WINDOW - self.in_flight(("action", action))

        return free

    def apply(self, before: Job | None, after: Job, changed: Collection[str]) -> None:
        """Take over what a decision did to credits. `changed`: ids of the branches that it changed."""
        old = before.branches if before is not None else {}
        paused = after.paused_by is not None
        for branch_id in changed:
            was, is_ = old.get(branch_id), after.branches[branch_id]
            self._count(flight_keys(before, was), flight_keys(after, is_))
            self._measure(before, was, after, is_)
            place = (after.id, branch_id)
            if is_.state is BranchState.READY and not paused and not after.ended:
                self.leaving.discard(place)
                self.entering[place] = {
                    "job_id": after.id, "lane_id": branch_id, "lease": is_.lease, "action": after.step_of(is_).action,
                    "tenant_id": after.owner.tenant_id, "since": is_.since or self.now,
                    "rank": rank(after.created_at.timestamp(), after.request.priority),
                }  # fmt: skip
            elif was is not None and was.state is BranchState.READY:
                self.entering.pop(place, None)
                self.leaving.add(place)

    def _count(self, gone: Collection[Key], come: Collection[Key]) -> None:
        if gone == come:
            return  # the usual case: the next step takes the credit that this step frees
        for key in gone:
            self.deltas[key] -= 1
        for key in come:
            self.deltas[key] += 1

    def _measure(self, before: Job | None, was: Branch | None, after: Job, is_: Branch) -> None:
        tenant = after.owner.tenant_id
        again = was is not None and was.lease == is_.lease
        if not again and is_.state in (BranchState.READY, BranchState.QUEUED):
            self.arrived[after.step_of(is_).action, tenant] += 1
        if was is not None and before is not None and was.state in IN_FLIGHT and not (again and is_.state in IN_FLIGHT):
            self.served[before.step_of(was).action, tenant] += 1

    def write(self) -> None:
        """Write who waits, so that an allocation sees it."""
        self.entered = self.entered or bool(self.entering)
        leaving = [{"job_id": j, "lane_id": branch} for j, branch in sorted(self.leaving)]
        if self.entering or leaving:
            self.store.change_ready([self.entering[k] for k in sorted(self.entering)], leaving)
        self.entering.clear()
        self.leaving.clear()

    def close(self) -> None:
        """Write the rest at the end of the transaction: who waits, and the counters."""
        self.write()
        changed = {key: delta for key, delta in self.deltas.items() if delta}
        if changed:
            self.store.add_in_flight(changed)

    def allocate(self) -> list[Ready]:
        """Choose the attempts that get the next credits, in fair order. The caller decides them in this transaction."""
        # What another replica has made wait meanwhile, that replica allocates.
        if not (self.entered or self.overview.waits) or not self.store.has_ready():
            return []
        if not self.store.may_allocate():
            self.more = True
            return []
        # Read again under the lock: another replica may have given out credits meanwhile.
        self.flight = self.store.in_flight(name for kind, name in self.controls if kind == "tenant")
        chosen: list[Ready] = []
        taken: Counter[Key] = Counter()
        for action in self.store.ready_actions():
            chosen += self._allocate(action, PER_PASS - len(chosen), taken)
        for key, control in self.controls.items():
            if taken[key] and control.rate_per_s is not None:
                self.store.set_tokens(key, control.tokens_now(self.now) - taken[key], self.now)
        self.more = self.more or len(chosen) >= PER_PASS
        return chosen

    def _allocate(self, action: str, most: int, taken: Counter[Key]) -> list[Ready]:
        room = self.capacity("action", action)
        self._wait_for(room)
        if room.free <= 0 or most <= 0:
            return []
        known = self.store.shares(action)
        names = self.store.ready_tenants(action)
        claims = [self._claim(name, known, taken, most) for name in names]
        caught_up(claims, frozenset(names) - known.keys())
        found = self._distribute(action, min(room.free, most), claims)
        for tenant, rows in found.items():
            taken["action", action] += len(rows)
            taken["tenant", tenant] += len(rows)
        self.store.set_shares(action, {c.tenant: c.passed for c in claims}, known.keys() - set(names))
        return [ready for rows in found.values() for ready in rows]

    def _distribute(self, action: str, free: int, claims: list[Claim]) -> dict[str, list[Ready]]:
        """Give `free` credits to the claims. A tenant that has less to do than its share leaves the rest to the others."""
        found: dict[str, list[Ready]] = {c.tenant: [] for c in claims}
        by_name = {c.tenant: c for c in claims}
        while free > 0:
            given = shares(free, claims)
            for tenant, n in given.items():
                had = len(found[tenant])
                found[tenant] = self.store.next_ready(action, tenant, had + n)
                lacking = had + n - len(found[tenant])
                free -= n - lacking
                if lacking > 0:
                    by_name[tenant].waiting = 0
                    by_name[tenant].passed -= lacking / by_name[tenant].weight
            if not given:
                break
        return found

    def _claim(self, tenant: str, known: dict[str, float], taken: Counter[Key], most: int) -> Claim:
        room = self.capacity("tenant", tenant)
        self._wait_for(room)
        weight = self.controls.get(("tenant", tenant), OPEN).weight or 1.0
        free = max(0, room.free - taken["tenant", tenant])
        return Claim(tenant, most, free, weight, known.get(tenant, 0.0))

    def _wait_for(self, room: Capacity) -> None:
        if room.at is not None:
            self.blocked_until = min(room.at, self.blocked_until or room.at)

    def set_control(self, key: Key, control: Control) -> None:
        """Set a control, from this transaction on. Its rate begins with all tokens."""
        self.store.set_control(key, control)
        self.controls[key] = replace(control, tokens=None, tokens_at=None)


def flight_keys(job: Job | None, branch: Branch | None) -> tuple[Key, ...]:
    """The counters that a branch counts in while its attempt is in flight: its action's and its tenant's. Otherwise none."""
    if job is None or branch is None or branch.state not in IN_FLIGHT:
        return ()
    action = job.step_of(branch).action
    return (("action", action), ("tenant", job.owner.tenant_id)) if action else ()
