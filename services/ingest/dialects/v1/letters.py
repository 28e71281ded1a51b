"""Dead letters, under /v1/letters: records that a consumer gave up. For operators of the platform: they hold records of all tenants."""

from __future__ import annotations

from collections.abc import AsyncIterator
from typing import Annotated, Any, Literal

from fastapi import APIRouter, Body, Depends, Query
from pydantic import BaseModel, ConfigDict, Field

from services.ingest.adapters.gateway import Gateway
from services.ingest.adapters.letter_box import NotPossible
from services.ingest.adapters.store import letter_acts
from services.ingest.core.fields import Flag, Json, Measured
from services.ingest.core.letters import OPEN, Headers, Raw, Wanted, edited, letter_of, place_of, sendable, summary, whole_letter
from services.ingest.http.answers.letters import LetterActed, Letters, LettersActed, WholeLetter
from services.ingest.http.dependencies import PLATFORM_TENANT, GatewayDep, Operator
from services.ingest.http.errors import ApiError
from shared import clock
from shared.web.api_keys import Principal
from shared.web.openapi import answered

router = APIRouter(prefix="/v1/letters", tags=["Operations"], max_body_size=4 << 20)
SCANNED = 1000
"""Letters of a partition, the newest, that a list looks through."""
Text = Annotated[str, Field(max_length=300)]


async def _of_the_platform(who: Operator) -> Principal:
    if who.tenant_id != PLATFORM_TENANT:
        raise ApiError(403, "Only operators of the platform see dead letters: they hold records of all tenants.")
    return who


PlatformOperator = Annotated[Principal, Depends(_of_the_platform)]


class Filter(BaseModel):
    """What fits. `topic` is a dead-letter topic, or the topic that its records came from."""

    model_config = ConfigDict(extra="forbid")

    topic: Text | None = None
    group: Text | None = None
    code: Text | None = None
    job_id: Text | None = None
    state: Literal["open", "redriven", "edited", "discarded", "all"] = "open"
    older_than_s: Measured | None = Field(default=None, ge=0)
    newer_than_s: Measured | None = Field(default=None, ge=0)

    def wanted(self) -> Wanted:
        """The filter of the core."""
        fields = self.model_dump(include={"topic", "group", "code", "job_id", "older_than_s", "newer_than_s"})
        return Wanted(**fields, state=None if self.state == "all" else self.state)


class Page(Filter):
    """A filter and the number of letters to return."""

    limit: int = Field(default=100, ge=1, le=1000)


class ActOnLetter(BaseModel):
    """`reason` appears in the audit. `again` acts on a letter on which somebody acted already."""

    model_config = ConfigDict(extra="forbid")

    reason: str = Field(default="", max_length=1000)
    again: Flag = False


class EditLetter(ActOnLetter):
    """What differs in the copy: `merge` changes members of a JSON body (RFC 7396), `value` replaces the body, and a header of null is
    taken away."""

    merge: Json | None = None
    value: str | None = Field(default=None, max_length=2 << 20)
    headers: dict[Annotated[str, Field(min_length=1, max_length=200)], Annotated[str, Field(max_length=10_000)] | None] = Field(
        default_factory=dict, max_length=100
    )


class ManyLetters(Filter):
    """Which open letters, and how many at most in one call. Without a filter `all` must be true."""

    state: Literal["open"] = "open"
    all: Flag = False
    reason: str = Field(default="", max_length=1000)
    limit: int = Field(default=100, ge=1, le=500)


@router.get("", summary="Dead letters", operation_id="listLetters", responses=answered(Letters))
async def listed(gateway: GatewayDep, who: PlatformOperator, query: Annotated[Page, Query()]) -> dict[str, Any]:
    """Letters that fit, newest first, and `summary`: their number by topic, group, code and state. A list looks through the newest
    1000 of each topic."""
    found = [letter async for _, letter in _fitting(gateway, query.wanted(), SCANNED)]
    found.sort(key=lambda letter: str(letter["at"]), reverse=True)
    return {"result": found[: query.limit], "summary": summary(found), "total": len(found)}


@router.get("/{letter_id}", summary="A dead letter", operation_id="getLetter", responses=answered(WholeLetter))
async def shown(letter_id: str, gateway: GatewayDep, who: PlatformOperator) -> dict[str, Any]:
    """The letter with its key, headers and body."""
    raw = await _letter(gateway, letter_id)
    return whole_letter(raw, await gateway.store.read(lambda c: letter_acts.act_on(c, letter_id)), clock.unix())


@router.post("/redrive", summary="Send dead letters again", operation_id="redriveLetters", responses=answered(LettersActed))
async def redrive_all(gateway: GatewayDep, who: PlatformOperator, body: Annotated[ManyLetters, Body()]) -> dict[str, Any]:
    """Sends the open letters that fit to the topics that they came from, oldest first. `left` says whether more may fit: repeat the
    call until it is false."""
    return await _each(gateway, who, body, "redriven")


@router.post("/discard", summary="Discard dead letters", operation_id="discardLetters", responses=answered(LettersActed))
async def discard_all(gateway: GatewayDep, who: PlatformOperator, body: Annotated[ManyLetters, Body()]) -> dict[str, Any]:
    """Marks the open letters that fit. Their records stay on the topic until its retention is over."""
    return await _each(gateway, who, body, "discarded")


@router.post(
    "/{letter_id}/redrive", summary="Send a dead letter again", operation_id="redriveLetter", responses=answered(LetterActed)
)
async def redrive(
    letter_id: str, gateway: GatewayDep, who: PlatformOperator, body: Annotated[ActOnLetter | None, Body()] = None
) -> dict[str, Any]:
    """Sends the record to the topic that it came from, with its key and headers. Its readers drop it if they have processed it
    after all. A letter on which somebody acted is left alone (`repeated`), unless `again` is true."""
    raw = await _letter(gateway, letter_id)
    return await _send(gateway, who, raw, "redriven", body or ActOnLetter(), raw.value, sendable(raw.headers))


@router.post(
    "/{letter_id}/edit",
    summary="Send a changed copy of a dead letter",
    operation_id="editLetter",
    responses=answered(LetterActed),
)
async def edit(letter_id: str, gateway: GatewayDep, who: PlatformOperator, body: Annotated[EditLetter, Body()]) -> dict[str, Any]:
    """Sends the copy to the topic that the record came from. 400 when its readers could not read the copy either."""
    raw = await _letter(gateway, letter_id)
    if body.merge is not None and body.value is not None:
        raise ApiError(400, "value: give either merge or value", "value")
    if body.merge is None and body.value is None and not body.headers:
        raise ApiError(400, "merge: nothing is changed; to send the record as it is, redrive it", "merge")
    try:
        value, headers = edited(raw, body.merge, body.value, body.headers)
    except ValueError as error:
        raise ApiError(400, str(error), "merge" if body.value is None else "value") from None
    return await _send(gateway, who, raw, "edited", body, value, headers)


@router.post(
    "/{letter_id}/discard", summary="Discard a dead letter", operation_id="discardLetter", responses=answered(LetterActed)
)
async def discard(
    letter_id: str, gateway: GatewayDep, who: PlatformOperator, body: Annotated[ActOnLetter | None, Body()] = None
) -> dict[str, Any]:
    """Marks the letter. Its record stays on the topic until its retention is over."""
    raw = await _letter(gateway, letter_id)
    return await _mark(gateway, who, raw, "discarded", body or ActOnLetter())


async def _fitting(gateway: Gateway, wanted: Wanted, newest: int | None) -> AsyncIterator[tuple[Raw, dict[str, Any]]]:
    acts, now = await gateway.store.read(letter_acts.acts), clock.unix()
    try:
        async for raw in gateway.letters.scan(wanted.may_be_in, newest):
            letter = letter_of(raw, acts.get(raw.letter_id), now)
            if wanted.fits(letter):
                yield raw, letter
    except NotPossible as error:
        raise ApiError(409, str(error), code="not_possible") from None


async def _letter(gateway: Gateway, letter_id: str) -> Raw:
    place = place_of(letter_id)
    try:
        raw = await gateway.letters.letter(*place) if place else None
    except NotPossible as error:
        raise ApiError(409, str(error), code="not_possible") from None
    if raw is None:
        raise ApiError(404, f"There is no dead letter {letter_id}. Dead letters are kept for 30 days.")
    return raw


async def _each(gateway: Gateway, who: Principal, body: ManyLetters, verb: str) -> dict[str, Any]:
    wanted = body.wanted()
    if wanted == Wanted() and not body.all:
        raise ApiError(400, "all: name a filter, or say true for all letters", "all")
    done: list[str] = []
    failed: list[dict[str, str]] = []
    left = False
    async for raw, letter in _fitting(gateway, wanted, None):
        if len(done) + len(failed) == body.limit:
            left = True
            break
        act = ActOnLetter(reason=body.reason)
        try:
            if verb == "discarded":
                await _mark(gateway, who, raw, verb, act)
            else:
                await _send(gateway, who, raw, verb, act, raw.value, sendable(raw.headers))
            done.append(letter["id"])
        except ApiError as error:
            failed.append({"id": letter["id"], "message": error.message})
    return {"done": done, "failed": failed, "left": left}


async def _send(
    gateway: Gateway, who: Principal, raw: Raw, verb: str, act: ActOnLetter, value: bytes, headers: Headers
) -> dict[str, Any]:
    # Noted before it is sent: after a crash in between, a repeat sends once more, and readers drop what has the same id.
    if not await _note(gateway, who, raw, verb, act, done=False):
        return await _result(gateway, raw, repeated=True)
    try:
        await gateway.letters.send(raw, value, headers)
    except NotPossible as error:
        raise ApiError(409, str(error), code="not_possible") from None
    await _note(gateway, who, raw, verb, act, done=True, message=f"sent to {raw.source}")
    return await _result(gateway, raw, repeated=False)


async def _mark(gateway: Gateway, who: Principal, raw: Raw, verb: str, act: ActOnLetter) -> dict[str, Any]:
    written = await _note(gateway, who, raw, verb, act, done=True)
    return await _result(gateway, raw, repeated=not written)


async def _note(
    gateway: Gateway, who: Principal, raw: Raw, verb: str, act: ActOnLetter, *, done: bool, message: str = ""
) -> bool:
    def write(connection: Any) -> bool:
        return letter_acts.note(
            connection, raw.letter_id, verb, who, clock.unix(), act.reason, done=done, again=act.again, message=message
        )

    return bool(await gateway.store.transact(write))


async def _result(gateway: Gateway, raw: Raw, *, repeated: bool) -> dict[str, Any]:
    act = await gateway.store.read(lambda c: letter_acts.act_on(c, raw.letter_id))
    state = act["verb"] if act else OPEN
    return {"id": raw.letter_id, "state": state, "act": act, "source": raw.source, "repeated": repeated}
