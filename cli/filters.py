"""Options that choose jobs, the same for every command that acts on many: `--stage`, `--workflow`, `--metadata`, `--since` and the others."""

from __future__ import annotations

import functools
import inspect
import re
import time
from collections.abc import Callable
from datetime import UTC, datetime
from typing import Annotated, Any, get_type_hints

import typer

from cli.target import CliError

PANEL = "Which jobs"
UNITS = {"s": 1, "m": 60, "min": 60, "h": 3600, "d": 86_400, "w": 604_800}
_SPAN = re.compile(r"(\d+(?:\.\d+)?)\s*([a-z]+)")
Fields = list[tuple[str, str]]
"""Fields of a search as `GET /v1/jobs` takes them."""


def seconds(text: str, option: str) -> float:
    """`90`, `90s`, `5min`, `2h`, `2d` or `1w` in seconds. Raises `CliError` naming the option."""
    found = _SPAN.fullmatch(text.strip() + ("s" if text.strip()[-1:].isdigit() else ""))
    if found is None or found[2] not in UNITS:
        raise CliError(f"{option}: {text!r} is not a time span, such as 90s, 5min, 2h, 2d or 1w", 2)
    return float(found[1]) * UNITS[found[2]]


def moment_of(text: str, option: str, now: float | None = None) -> str:
    """A time span before now, a date, or a time, as ISO 8601 with its zone; without one it is UTC. Raises `CliError`."""
    if text[:4].isdigit() and "-" in text:
        try:
            at = datetime.fromisoformat(text)
        except ValueError:
            raise CliError(f"{option}: {text!r} is not a time, such as 2026-12-01 or 2026-12-01T08:00:00Z", 2) from None
        return (at if at.tzinfo else at.replace(tzinfo=UTC)).isoformat()
    try:
        span = seconds(text, option)
    except CliError:
        raise CliError(
            f"{option}: {text!r} is neither a time, such as 2026-12-01, nor how long ago, such as 90s, 2h or 2d", 2
        ) from None
    try:
        return datetime.fromtimestamp((time.time() if now is None else now) - span, UTC).isoformat()
    except (OverflowError, ValueError, OSError):
        raise CliError(f"{option}: {text!r} is too long ago", 2) from None


def _search(
    stage: Annotated[list[str] | None, typer.Option(help="A stage, such as failed; may repeat", rich_help_panel=PANEL)] = None,
    workflow: Annotated[
        str | None, typer.Option(help="NAME, NAME@VERSION, or a pattern such as 'inv*'", rich_help_panel=PANEL)
    ] = None,
    tag: Annotated[str | None, typer.Option(help="A tag of one of its files", rich_help_panel=PANEL)] = None,
    file_name: Annotated[str | None, typer.Option(help="Name of one of its files", rich_help_panel=PANEL)] = None,
    error_code: Annotated[str | None, typer.Option(help="Code of its error", rich_help_panel=PANEL)] = None,
    key: Annotated[str | None, typer.Option(help="The producer's own job key", rich_help_panel=PANEL)] = None,
    metadata: Annotated[list[str] | None, typer.Option(help="key=value; may repeat", rich_help_panel=PANEL)] = None,
    text: Annotated[str | None, typer.Option(help="Words in one of its files", rich_help_panel=PANEL)] = None,
    since: Annotated[
        str | None, typer.Option(help="Created since then: 2h, 2d, 2026-12-01, 2026-12-01T08:00:00Z", rich_help_panel=PANEL)
    ] = None,
    until: Annotated[str | None, typer.Option(help="Created before then, in the same forms", rich_help_panel=PANEL)] = None,
    in_stage_for: Annotated[str | None, typer.Option(help="Least time in its stage: 90s, 2h", rich_help_panel=PANEL)] = None,
    in_stage_for_s: Annotated[float | None, typer.Option(hidden=True)] = None,
) -> Fields:
    for pair in metadata or []:
        if "=" not in pair:
            raise CliError(f"--metadata: key=value is expected, not {pair!r}", 2)
    texts = {
        "--workflow": workflow,
        "--tag": tag,
        "--file-name": file_name,
        "--error-code": error_code,
        "--key": key,
        "--text": text,
    }
    for option, value in {**texts, "--since": since, "--until": until, "--in-stage-for": in_stage_for}.items():
        if value == "":
            raise CliError(f"{option}: a value is expected", 2)
    longest = str(seconds(in_stage_for, "--in-stage-for")) if in_stage_for else None
    wanted: dict[str, Any] = {
        "stage": stage, "workflow": workflow, "tag": tag, "file_name": file_name, "error_code": error_code, "job_key": key,
        "metadata": metadata, "text": text, "created_after": since and moment_of(since, "--since"),
        "created_before": until and moment_of(until, "--until"),
        "in_stage_for_s": longest or (None if in_stage_for_s is None else str(in_stage_for_s)),
    }  # fmt: skip
    return [(name, one) for name, value in wanted.items() if value for one in (value if isinstance(value, list) else [value])]


def filtered(command: Callable[..., None]) -> Callable[..., None]:
    """Give a command the options that choose jobs. It receives them as `wanted`, the fields of the search. An option that the command
    has itself keeps the command's meaning."""
    hints = get_type_hints(command, include_extras=True)
    own = [p for p in inspect.signature(command).parameters.values() if p.name != "wanted"]
    taken = {p.name for p in own}
    options = [p for p in inspect.signature(_search).parameters.values() if p.name not in taken]
    option_hints = get_type_hints(_search, include_extras=True)

    @functools.wraps(command)
    def wrapped(**given: Any) -> None:
        command(wanted=_search(**{p.name: given.pop(p.name) for p in options}), **given)

    arguments = [p for p in own if p.default is p.empty or p.name in ("ids", "job_ids")]
    rest = [p for p in own if p not in arguments]
    known = {**hints, **option_hints}
    order = [p.replace(annotation=known[p.name], kind=inspect.Parameter.KEYWORD_ONLY) for p in (*arguments, *options, *rest)]
    wrapped.__signature__ = inspect.Signature(order)  # type: ignore[attr-defined]
    wrapped.__annotations__ = {p.name: p.annotation for p in order}
    del wrapped.__wrapped__
    return wrapped


def as_filter(wanted: Fields) -> dict[str, Any]:
    """The fields as the body of `POST /v1/bulk` has them."""
    found: dict[str, Any] = {}
    for name, value in wanted:
        if name in ("stage", "metadata"):
            found.setdefault(name, []).append(value)
        else:
            found[name] = float(value) if name == "in_stage_for_s" else value
    return found
