"""The built-in actions: the parameters of each, which of them a job may set, and the keys of its result.

Everything that a step's `config` and a job's `args` may hold for a built-in action is declared here. A parameter without `OPEN` is
closed: only the author of the workflow sets it.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from enum import Enum
from typing import Annotated, Any

from pydantic import AfterValidator, BaseModel, ConfigDict, Field

from contracts.rule_patterns import Rules


class Use(Enum):
    """What a parameter is, beside its type."""

    OPEN = "open"
    """A job's `args` may set it."""
    SECRET = "secret"
    """Its value is a reference, `secret:NAME`."""
    ADDRESS = "address"
    """Where the action sends the step's secrets."""
    OBJECT = "object"
    """The name of an object of the job's tenant."""


OPEN, SECRET, ADDRESS, OBJECT = Use.OPEN, Use.SECRET, Use.ADDRESS, Use.OBJECT


class Parameters(BaseModel):
    """The parameters of an action. An action without a model of its own has none."""

    model_config = ConfigDict(frozen=True, extra="forbid")


class JobFacts(Parameters):
    """What the gateway adds of a job for an action that does not know the job otherwise."""

    key: Annotated[str | None, OPEN] = Field(default=None, max_length=200, description="the job's key")
    args: Annotated[dict[str, Any] | None, OPEN] = Field(default=None, description="arguments of the job")
    silo_entry_id: Annotated[str | None, OPEN] = Field(default=None, max_length=200, description="the job's entry of the silo")


class Guard(Parameters):
    """Parameters of `file.guard`."""

    max_pages: int | None = Field(default=None, ge=1, le=100_000, description="pages at most; 5,000 by default")


class Ocr(Parameters):
    """Parameters of `text.ocr`."""

    languages: Annotated[str, OPEN] = Field(
        default="eng",
        max_length=100,
        pattern=r"^[A-Za-z0-9_]+(\+[A-Za-z0-9_]+)*$",
        description="languages of tesseract, such as `eng+deu`",
    )


class Classify(Parameters):
    """Parameters of `text.classify`."""

    rules: Rules | None = Field(default=None, description="further rules: tag → pattern → weight")


class Convert(Parameters):
    """Parameters of the actions that make files."""

    options_blob: Annotated[str | None, OPEN, OBJECT] = Field(
        default=None, max_length=400, description="object with the options, because passwords must not travel in records"
    )
    name: Annotated[str | None, OPEN] = Field(default=None, max_length=255, description="name of the file that `pdf.merge` makes")


class Archive(Convert):
    """Parameters of `pdf.archive`."""

    part: Annotated[int, OPEN] = Field(default=2, ge=1, le=3, description="part of PDF/A: 1, 2 or 3")


class Sign(Convert):
    """Parameters of `pdf.sign`."""

    reason: str | None = Field(default=None, max_length=500, description="reason that the signature states")
    location: str | None = Field(default=None, max_length=500, description="place that the signature states")
    contact: str | None = Field(default=None, max_length=500, description="contact that the signature states")


MOST_TURNED = 3600
"""Degrees by which a page may be turned at most: ten turns."""


class Split(Parameters):
    """Parameters of `pdf.split`."""

    rotation: Annotated[int, OPEN] = Field(
        default=0,
        ge=-MOST_TURNED,
        le=MOST_TURNED,
        multiple_of=90,
        description="degrees by which each page is turned, in steps of 90",
    )


def _free(name: str) -> str:
    if name.lower() in KEPT_HEADERS:
        raise ValueError("the service sets this header itself")
    return name


def _printable(value: str) -> str:
    if not value.isprintable():
        raise ValueError("a control character cannot be sent")
    return value


KEPT_HEADERS = frozenset({"host", "content-length", "transfer-encoding", "connection", "content-type"})
HeaderName = Annotated[str, Field(pattern=r"^[A-Za-z0-9!#$%&'*+.^_`|~-]{1,100}$"), AfterValidator(_free)]
HeaderValue = Annotated[str, Field(max_length=4000), AfterValidator(_printable)]


class Webhook(JobFacts):
    """Parameters of `http.webhook`."""

    url: Annotated[str, ADDRESS] = Field(default="", max_length=2048, description="the address to call")
    event: str | None = Field(default=None, max_length=200, description="name in the body; by default the step's")
    headers: dict[HeaderName, HeaderValue] | None = Field(
        default=None, max_length=100, description="further headers of the request"
    )
    bearer_token: Annotated[str | None, SECRET] = Field(
        default=None, max_length=4000, description="sent as `Authorization: Bearer`"
    )


@dataclass(frozen=True, slots=True)
class Action:
    """A row of the table. `results`: the keys that its result may have; others are dropped."""

    parameters: type[Parameters] = Parameters
    results: frozenset[str] = frozenset()

    def uses(self, name: str) -> frozenset[Use]:
        """What the parameter `name` is; empty for one that the action does not have."""
        field = self.parameters.model_fields.get(name)
        return frozenset(use for use in field.metadata if isinstance(use, Use)) if field is not None else frozenset()


def _made(parameters: type[Parameters], *results: str) -> Action:
    return Action(parameters, frozenset(results))


ACTIONS: Mapping[str, Action] = {
    "noop": _made(Parameters),
    "file.fetch": _made(Parameters, "file"),
    "file.identify": _made(Parameters, "file", "properties", "kind"),
    "file.guard": _made(Guard, "properties", "page_count"),
    "text.extract": _made(Parameters, "text_blob", "needs_ocr", "properties"),
    "text.ocr": _made(Ocr, "text_blob", "ocr", "properties"),
    "text.classify": _made(Classify, "tag"),
    "fields.extract": _made(Parameters, "fields"),
    "text.index": _made(Parameters, "index_blob", "properties"),
    "result.package": _made(Parameters, "result_blob"),
    "pdf.convert": _made(Convert, "outputs", "properties"),
    "pdf.merge": _made(Convert, "outputs", "pages"),
    "pdf.split": _made(Split, "outputs", "properties"),
    "pdf.extract_xml": _made(Convert, "outputs", "properties"),
    "pdf.archive": _made(Archive, "outputs", "properties"),
    "pdf.sign": _made(Sign, "outputs", "properties"),
    "pdf.invoice": _made(Convert, "outputs", "properties"),
    "tiff.convert": _made(Convert, "outputs", "properties"),
    "xml.convert": _made(Convert, "outputs", "properties"),
    "http.webhook": _made(Webhook),
}
"""Built-in action → its parameters and results."""
UNKNOWN = Action(JobFacts)
"""What holds for an action of somebody's own program: a job may give what every job has, and what the step opens."""
SIGNAL_KEYS = frozenset({"tag", "fields", "properties"})
"""Keys with a common meaning that the answer to a waiting step may have."""
RESERVED_KEYS = frozenset().union({"file", "outputs", "tag", "fields", "properties"}, *(a.results for a in ACTIONS.values()))
"""Keys of results that services and built-in actions read."""
