"""Acts of operators on endpoints: each takes place once per `Idempotency-Key`, in the caller's tenant, and is reported for the audit."""

from __future__ import annotations

import json
from collections.abc import Callable
from typing import Annotated, Any

from fastapi import Depends, Header
from pydantic import BaseModel
from sqlalchemy import Connection, text
from starlette.exceptions import HTTPException

from contracts import derived
from contracts.topics import WEBHOOK_ANSWERS_TOPIC
from services.notifier.adapters import endpoints as ep
from services.notifier.adapters.http import NotifierState, StateDep, Writer
from shared import clock
from shared.errors import Retry
from shared.processing.unit_of_work import Unit
from shared.web.api_keys import Principal

KEPT_S = 30 * 86_400
"""How long a repeated request gets the answer of the first."""
Answer = dict[str, Any]
Work = Callable[[Unit, Any], Answer]
_FIND = text("SELECT * FROM webhook_act WHERE command_id = :c AND tenant_id = :t")
_ENTER = text(
    "INSERT INTO webhook_act (command_id, tenant_id, endpoint_id, fingerprint, answer, at) VALUES (:c, :t, :e, :f, :a, :at)"
)
_FORGET = text("DELETE FROM webhook_act WHERE at < :old")


def missing(endpoint_id: str) -> HTTPException:
    """The answer to a request about an endpoint that the tenant does not have."""
    return HTTPException(404, f"Webhook with ID {endpoint_id} does not exist.")


class Operation:
    """One request that changes something, and its caller."""

    def __init__(self, state: NotifierState, who: Principal, key: str | None) -> None:
        self.state = state
        self.who = who
        self.command_id = derived(who.tenant_id, key, "webhook-act") if key else clock.new_root()

    async def earlier(self, verb: str, endpoint_id: str, asked: BaseModel | None) -> Answer | None:
        """The answer that this request got before. Raises 409 when its key was used for something else."""
        found = fingerprint(verb, endpoint_id, asked)
        answer: Answer | None = await self.state.store.read(lambda c: self._earlier(c, found))
        return answer

    async def perform(
        self, verb: str, endpoint_id: str, asked: BaseModel | None, work: Work, said: Callable[[Answer], str] = lambda answer: "",
        reason: str = "", new: bool = False,
    ) -> Answer:  # fmt: skip
        """Do `work` with the endpoint's row (None when `new`), and return its answer; `said` puts that into words for the audit.

        A repeated request gets the first answer. Raises 404 for an unknown endpoint, 409 as `earlier`, and `Retry`.
        """
        mark = fingerprint(verb, endpoint_id, asked)

        def inside(unit: Unit) -> Answer:
            before = self._earlier(unit.connection, mark)
            if before is not None:
                return before
            row = None if new else ep.find(unit.connection, endpoint_id, self.who.tenant_id)
            if row is None and not new:
                raise missing(endpoint_id)
            answer = work(unit, row)
            self._enter(unit, endpoint_id, mark, answer)
            event = ep.changed(
                self.command_id, endpoint_id, self.who.tenant_id, verb, self.who.tenancy.user_name, reason, said(answer)
            )
            unit.emit(WEBHOOK_ANSWERS_TOPIC.name, event, None)
            return answer

        try:
            result: Answer = await self.state.processor.run_unit(inside)
        except Retry:
            # It may be committed while Kafka does not take the report, which follows. The caller then has an answer.
            done = await self.earlier(verb, endpoint_id, asked)
            if done is None:
                raise
            return done
        return result

    def _earlier(self, connection: Connection, mark: str) -> Answer | None:
        row = connection.execute(_FIND, {"c": self.command_id, "t": self.who.tenant_id}).first()
        if row is None:
            return None
        if row.fingerprint != mark:
            raise HTTPException(409, "Idempotency-Key: the key was used for another request")
        answer: Answer = json.loads(row.answer)
        if "secret" in answer:
            endpoint = ep.find(connection, row.endpoint_id, self.who.tenant_id)
            answer["secret"] = endpoint and endpoint.secret
        return answer

    def _enter(self, unit: Unit, endpoint_id: str, mark: str, answer: Answer) -> None:
        # Secrets stay in the endpoint's row alone.
        kept = {name: None if name == "secret" else value for name, value in answer.items()}
        values = {
            "c": self.command_id,
            "t": self.who.tenant_id,
            "e": endpoint_id,
            "f": mark,
            "a": json.dumps(kept),
            "at": unit.now,
        }
        unit.connection.execute(_FORGET, {"old": unit.now - KEPT_S})
        unit.connection.execute(_ENTER, values)


def fingerprint(verb: str, endpoint_id: str, asked: BaseModel | None) -> str:
    """What a request asks for, as a text of fixed length."""
    return derived(verb, endpoint_id, asked.model_dump_json() if asked is not None else "", "fingerprint")


async def operation(
    state: StateDep,
    who: Writer,
    idempotency_key: Annotated[
        str | None, Header(min_length=1, max_length=200, description="A repeat under the same key gets the first answer")
    ] = None,
) -> Operation:
    """The request's operation."""
    return Operation(state, who, idempotency_key)


OperationDep = Annotated[Operation, Depends(operation)]
