"""What a document's reader may answer: its result by action, and its progress. The reader may be hostile, so that all is checked."""

from __future__ import annotations

from typing import Annotated, Any, Final

from pydantic import BaseModel, ConfigDict, Field, TypeAdapter, ValidationError

from services.stage_worker.core.document_fault import DocumentFault

MAX_RESULT_BYTES = 1 << 20
MAX_LINE, MAX_MESSAGES, MAX_PER_SECOND = 200, 20_000, 200
"""Bytes of one message, messages in all, and messages of one second."""
DONE: Final = "done"

Short = Annotated[str, Field(max_length=200)]
Text = Annotated[str, Field(max_length=2000)]
Count = Annotated[int, Field(ge=0, le=1_000_000_000)]
Number = Annotated[float, Field(allow_inf_nan=False)]
Scalar = bool | Annotated[int, Field(ge=-(2**53), le=2**53)] | Number | Text


class Strict(BaseModel):
    """Unknown keys are refused, and no value is converted."""

    model_config = ConfigDict(extra="forbid", strict=True)


class Fault(Strict):
    """Why the document could not be read."""

    code: str = Field(pattern=r"^[a-z][a-z0-9_]{0,62}$")
    message: Text
    retriable: bool


class MediaType(Strict):
    """The type that the bytes have."""

    content_type: Short


class Tag(Strict):
    """The best tag, and the scores of all."""

    name: Text
    confidence: float = Field(ge=0, le=1)
    scores: dict[Text, Number] = Field(max_length=1000)


class Amount(Strict):
    """An amount as decimal text, and its currency."""

    value: Short
    currency: Short


class Fields(Strict):
    """The fields of a text."""

    dates: list[Short] = Field(default=[], max_length=50)
    amounts: list[Amount] = Field(default=[], max_length=50)
    invoice_number: Short | None = None
    ibans: list[Short] = Field(default=[], max_length=50)
    vat_numbers: list[Short] = Field(default=[], max_length=50)
    emails: list[Text] = Field(default=[], max_length=50)
    total: Amount | None = None


class ReaderResult(Strict):
    """All that a reader may answer; `KEYS` says which action may answer what."""

    fault: Fault | None = None
    file: MediaType | None = None
    properties: dict[Short, Scalar] | None = Field(default=None, max_length=100)
    kind: str | None = Field(default=None, pattern=r"^[a-z]{1,20}$")
    page_count: Count | None = None
    pages: Count | None = None
    needs_ocr: list[Count] | None = Field(default=None, max_length=5000)
    characters: Count | None = None
    words: Count | None = None
    tool: Short | None = None
    confidence: float | None = Field(default=None, ge=0, le=1)
    names: list[Annotated[str, Field(min_length=1, max_length=300)]] | None = Field(default=None, max_length=100)
    tag: Tag | None = None
    fields_: Fields | None = Field(default=None, alias="fields")
    gap: tuple[Count, Count] | None = None
    signature: str | None = Field(default=None, pattern=r"^([0-9a-f]{2})*$", max_length=200_000)
    signed_by: Text | None = None
    reserved: Annotated[int, Field(ge=2, le=200_000)] | None = None


_MADE = frozenset({"properties"})
KEYS: dict[str, frozenset[str]] = {
    "file.identify": frozenset({"file", "properties", "kind"}), "file.guard": frozenset({"properties", "page_count"}),
    "text.extract": frozenset({"needs_ocr", "characters", "tool"}), "text.ocr": frozenset({"confidence", "tool"}),
    "text.classify": frozenset({"tag"}), "fields.extract": frozenset({"fields"}), "text.index": frozenset({"words"}),
    "pdf.convert": _MADE, "pdf.archive": _MADE, "pdf.invoice": _MADE, "tiff.convert": _MADE, "xml.convert": _MADE,
    "pdf.split": _MADE, "pdf.merge": frozenset({"pages"}), "pdf.extract_xml": frozenset({"names", "properties"}),
    "pdf.sign": frozenset({"properties", "gap"}), "sign.describe": frozenset({"signed_by", "reserved"}),
    "sign.digest": frozenset({"signature"}),
}  # fmt: skip
"""Action → keys of its result beside `fault`."""


def read_result(action: str, raw: bytes) -> dict[str, Any]:
    """The result of `action` from the JSON that the reader wrote, without absent keys.

    Raises the `DocumentFault` that it names, and `crashed` for anything else than a result of this action.
    """
    try:
        result = ReaderResult.model_validate_json(raw)
    except ValidationError as error:
        first = error.errors(include_url=False, include_input=False)[0]
        raise _not_a_result(f"{'.'.join(map(str, first['loc']))[:100]}: {first['msg'][:200]}") from None
    if result.fault is not None:
        raise DocumentFault(result.fault.code, result.fault.message, result.fault.retriable)
    found = result.model_dump(by_alias=True, exclude_unset=True)
    unknown = sorted(found.keys() - KEYS.get(action, frozenset()) - {"fault"})
    if unknown:
        raise _not_a_result(f"{unknown[0]}: not of this action")
    if isinstance(found.get("fields"), dict):
        found["fields"] = {name: value for name, value in found["fields"].items() if value}
    return {name: value for name, value in found.items() if name != "fault"}


def _not_a_result(reason: str) -> DocumentFault:
    return DocumentFault("crashed", f"The reader of this file gave no result that can be used ({reason}).")


class MessageLines:
    """Messages of a reader: lines of JSON, `[done, total]` or `"done"`, within the bounds above."""

    _LINE: Final = TypeAdapter(tuple[Count, Count | None] | Annotated[str, Field(pattern="^done$")])

    def __init__(self) -> None:
        self._rest = b""
        self._count = 0
        self._second = 0
        self._in_second = 0

    def feed(self, data: bytes, now: float) -> list[tuple[int, int | None] | str]:
        """The messages that end in `data`. `now` in seconds. Raises `DocumentFault` for what is no message and for too many."""
        *lines, self._rest = (self._rest + data).split(b"\n")
        self._count += len(lines)
        if int(now) != self._second:
            self._second, self._in_second = int(now), 0
        self._in_second += len(lines)
        if self._count > MAX_MESSAGES or self._in_second > MAX_PER_SECOND:
            raise DocumentFault("crashed", "The reader of this file sent more messages than it may.")
        if len(self._rest) > MAX_LINE or any(len(line) > MAX_LINE for line in lines):
            raise DocumentFault("crashed", "The reader of this file sent a message that is too long.")
        try:
            return [self._LINE.validate_json(line, strict=True) for line in lines]
        except ValidationError:
            raise DocumentFault("crashed", "The reader of this file sent something else than its progress.") from None
