"""`stageline letters`: dead letters, which are records that a consumer gave up. List, show, edit, send again, discard."""

from __future__ import annotations

import json
import os
import shlex
import subprocess
import tempfile
from pathlib import Path
from typing import Annotated, Any

import typer
from rich.console import Group
from rich.markup import escape
from rich.table import Table
from rich.text import Text

from cli.client import Client
from cli.command import DEFAULT_DATA_DIR, AsJson, DataDir, Reason, run, show
from cli.commands.submit import parse_metadata
from cli.groups import Listing, noun
from cli.target import CliError, route
from cli.waiting import span

app = noun("Dead letters: records that a consumer gave up.", Listing)
Topic = Annotated[str | None, typer.Option(help="A dead-letter topic, or the topic that its records came from")]
GroupName = Annotated[str | None, typer.Option("--group", help="The consumer group that gave the record up")]
Code = Annotated[str | None, typer.Option(help="The reason code, e.g. unknown_job")]
Job = Annotated[str | None, typer.Option("--job", help="The job that the record names")]
OlderThan = Annotated[float | None, typer.Option("--older-than-s", min=0, help="Seconds since it was given up, at least")]
NewerThan = Annotated[float | None, typer.Option("--newer-than-s", min=0, help="Seconds since it was given up, at most")]
Letter = Annotated[str, typer.Argument(help="Its id, as `letters list` prints it")]
Letters = Annotated[list[str] | None, typer.Argument(help="Ids, as `letters list` prints them; or give a filter")]
Everything = Annotated[bool, typer.Option("--all", help="All open letters")]
Again = Annotated[bool, typer.Option("--again", help="Also where somebody acted on the letter already")]


def _filter(**given: Any) -> dict[str, Any]:
    return {name: value for name, value in given.items() if value is not None}


def _path(letter_id: str, verb: str = "") -> str:
    return route("/v1/letters/{}", letter_id) + verb


@app.command("list")
def list_letters(
    topic: Topic = None,
    group: GroupName = None,
    code: Code = None,
    job: Job = None,
    state: Annotated[str, typer.Option(help="open, redriven, edited, discarded, or all")] = "open",
    older_than_s: OlderThan = None,
    newer_than_s: NewerThan = None,
    count: Annotated[bool, typer.Option("--count", help="Print their number by topic, group and reason instead")] = False,
    limit: Annotated[int, typer.Option(min=1, max=1000)] = 50,
    as_json: AsJson = False,
    data_dir: DataDir = DEFAULT_DATA_DIR,
) -> None:
    """List dead letters, newest first.

    Example: stageline letters list --topic stage.reports --code unknown_job
    """
    wanted = _filter(
        topic=topic,
        group=group,
        code=code,
        job_id=job,
        state=state,
        older_than_s=older_than_s,
        newer_than_s=newer_than_s,
        limit=limit,
    )
    found = run(data_dir, lambda c: c.call("GET", "/v1/letters", params={k: str(v) for k, v in wanted.items()}))
    show(found, as_json, lambda: (_counts if count else _lines)(found))


def _lines(found: dict[str, Any]) -> Any:
    if not found["result"]:
        return "no dead letters that fit"
    table = Table("letter", "age", "code", "job", "reason", "state", box=None)
    for x in found["result"]:
        state = x["state"] if x["act"] is None else f"{x['state']} by {x['act']['by']} at {x['act']['at']}"
        cells = (x["code"] or "", x["job_id"] or "", x["reason"] or "", state)
        table.add_row(Text(x["id"], overflow="fold"), span(x["age_s"]), *(escape(cell) for cell in cells))
    left = found["total"] - len(found["result"])
    return Group(table, *([Text(f"{left} more; see --limit, or --count")] if left else []))


def _counts(found: dict[str, Any]) -> Any:
    if not found["summary"]:
        return "no dead letters that fit"
    table = Table("topic", "group", "code", "state", "number", "oldest", "newest", box=None)
    for x in found["summary"]:
        cells = (x["topic"], x["group"] or "", x["code"] or "", x["state"])
        table.add_row(*(escape(cell) for cell in cells), str(x["count"]), x["oldest"], x["newest"])
    return table


@app.command("show")
def show_letter(letter: Letter, as_json: AsJson = False, data_dir: DataDir = DEFAULT_DATA_DIR) -> None:
    """Show a dead letter with its headers and its body. Values whose names tell of secrets are hidden.

    Example: stageline letters show job.commands.job_orchestrator.dlq:0:12
    """
    found = run(data_dir, lambda c: c.call("GET", _path(letter)))

    def plain() -> Group:
        act = found["act"]
        done = f", {found['state']} by {act['by']} at {act['at']}" if act else ""
        lines = [
            f"{found['id']}: {found['code']}: {found['reason']}",
            f"given up by {found['group']} {span(found['age_s'])} ago, from {found['source']}{done}",
            f"job {found['job_id'] or 'unknown'}, {found['bytes']} bytes",
        ]
        headers = Table("header", "value", box=None)
        for header in found["headers"]:
            headers.add_row(escape(header["name"]), escape(header.get("value") or f"base64 {header.get('value_base64', '')}"))
        body = found.get("body", found.get("body_base64"))
        printed = body if isinstance(body, str) else json.dumps(body, indent=1, ensure_ascii=False)
        return Group(*map(Text, lines), Text(), headers, Text(), Text(printed))

    show(found, as_json, plain)


@app.command("edit")
def edit_letter(
    letter: Letter,
    merge: Annotated[
        str | None, typer.Option(help="JSON object: members that replace those of the body; null deletes one")
    ] = None,
    value: Annotated[Path | None, typer.Option(help="A file with the whole new body")] = None,
    header: Annotated[list[str] | None, typer.Option(help="NAME=VALUE; `NAME=` takes it away; may repeat")] = None,
    again: Again = False,
    reason: Reason = "",
    as_json: AsJson = False,
    data_dir: DataDir = DEFAULT_DATA_DIR,
) -> None:
    """Send a changed copy to the topic that the record came from. Without an option the body opens in your editor.

    Example: stageline letters edit job.commands.job_orchestrator.dlq:0:12 --merge '{"priority": "high"}'
    """
    body: dict[str, Any] = {"reason": reason, "again": again, "headers": _headers(header or [])}
    if merge is not None:
        body["merge"] = parse_metadata(merge, "--merge")
    elif value is not None:
        try:
            body["value"] = value.read_text()
        except (OSError, UnicodeDecodeError) as error:
            raise CliError(f"{value}: {error}", 2) from None
    elif not header:
        body["merge"] = _in_editor(run(data_dir, lambda c: c.call("GET", _path(letter))))
    answer = run(data_dir, lambda c: c.call("POST", _path(letter, "/edit"), json=body))
    show(answer, as_json, lambda: _done(answer))


def _headers(pairs: list[str]) -> dict[str, str | None]:
    split = [pair.partition("=") for pair in pairs]
    if any(not equals or not name for name, equals, _ in split):
        raise CliError("--header: NAME=VALUE is expected", 2)
    return {name: told or None for name, _, told in split}


def _in_editor(found: dict[str, Any]) -> dict[str, Any]:
    """What a person changes of a JSON body, as a merge patch. Hidden values that are left alone stay as they are."""
    before = found.get("body")
    if not isinstance(before, dict):
        raise CliError("the body is no JSON object: give the new one with --value FILE", 2)
    after = parse_metadata(_edited(json.dumps(before, indent=1, ensure_ascii=False) + "\n"), "the edited body") or {}
    changes = difference(before, after)
    if not changes:
        raise CliError("nothing was changed, and nothing was sent", 2)
    return changes


def _edited(text: str) -> str:
    """The text after the person's editor (`VISUAL`, `EDITOR`, else vi) has closed it. Raises `CliError` when the editor fails."""
    editor = shlex.split(os.environ.get("VISUAL") or os.environ.get("EDITOR") or "vi")
    with tempfile.TemporaryDirectory() as folder:
        file = Path(folder, "letter.json")
        file.write_text(text)
        try:
            subprocess.run([*editor, str(file)], check=True)
        except (OSError, subprocess.CalledProcessError) as error:
            raise CliError(f"{editor[0]}: {error}; nothing was sent", 1) from None
        return file.read_text()


def difference(before: dict[str, Any], after: dict[str, Any]) -> dict[str, Any]:
    """The merge patch (RFC 7396) that leads from one object to the other."""
    found: dict[str, Any] = {name: None for name in before if name not in after}
    for name, value in after.items():
        old = before.get(name)
        if isinstance(old, dict) and isinstance(value, dict):
            inner = difference(old, value)
            found |= {name: inner} if inner else {}
        elif name not in before or old != value:
            found[name] = value
    return found


@app.command("redrive")
def redrive(
    letters: Letters = None,
    topic: Topic = None,
    group: GroupName = None,
    code: Code = None,
    job: Job = None,
    older_than_s: OlderThan = None,
    newer_than_s: NewerThan = None,
    everything: Everything = False,
    again: Again = False,
    reason: Reason = "",
    as_json: AsJson = False,
    data_dir: DataDir = DEFAULT_DATA_DIR,
) -> None:
    """Send dead letters to the topics that they came from: those named, those that fit a filter, or all. Exit code 1 when one cannot.

    Example: stageline letters redrive --topic stage.reports --reason 'the database has room again'
    """
    wanted = _filter(topic=topic, group=group, code=code, job_id=job, older_than_s=older_than_s, newer_than_s=newer_than_s)
    _act("redrive", letters or [], wanted, everything, {"reason": reason, "again": again}, as_json, data_dir)


@app.command("discard")
def discard(
    letters: Letters = None,
    topic: Topic = None,
    group: GroupName = None,
    code: Code = None,
    job: Job = None,
    older_than_s: OlderThan = None,
    newer_than_s: NewerThan = None,
    everything: Everything = False,
    reason: Reason = "",
    as_json: AsJson = False,
    data_dir: DataDir = DEFAULT_DATA_DIR,
) -> None:
    """Mark dead letters as done with: those named, those that fit a filter, or all. Their records stay until the topic's retention ends.

    Example: stageline letters discard --code invalid_json --older-than-s 86400
    """
    wanted = _filter(topic=topic, group=group, code=code, job_id=job, older_than_s=older_than_s, newer_than_s=newer_than_s)
    _act("discard", letters or [], wanted, everything, {"reason": reason, "again": False}, as_json, data_dir)


def _act(
    verb: str, letters: list[str], wanted: dict[str, Any], everything: bool, act: dict[str, Any], as_json: bool, data_dir: Path
) -> None:
    if bool(letters) + bool(wanted) + everything != 1:
        raise CliError("letters: give ids, or a filter, or --all", 2)
    if not letters and act["again"]:
        raise CliError("--again: give the ids of the letters", 2)
    query = {**wanted, "all": everything, "reason": act["reason"]}
    found = run(data_dir, lambda c: _named(c, verb, letters, act) if letters else _many(c, verb, query))
    failed = [x for x in found if "message" in x]
    show(found, as_json, lambda: "\n".join([*map(_done, found), f"{len(found) - len(failed)} letters, {len(failed)} failed"]))
    if failed:
        raise typer.Exit(1)


async def _named(client: Client, verb: str, letters: list[str], act: dict[str, Any]) -> list[dict[str, Any]]:
    return [await client.call("POST", _path(letter, f"/{verb}"), json=act) for letter in letters]


async def _many(client: Client, verb: str, query: dict[str, Any]) -> list[dict[str, Any]]:
    """Repeat the call until nothing is left. A letter that failed once is left alone."""
    found: dict[str, dict[str, Any]] = {}
    while True:
        answer = await client.call("POST", f"/v1/letters/{verb}", json=query)
        state = {"redrive": "redriven", "discard": "discarded"}[verb]
        new = {x["id"]: x for x in answer["failed"] if x["id"] not in found} | {
            x: {"id": x, "state": state} for x in answer["done"]
        }
        found |= new
        if not answer["left"] or not new:
            return list(found.values())


def _done(answer: dict[str, Any]) -> str:
    if "message" in answer:
        return f"{answer['id']}: not sent: {answer['message']}"
    act = answer.get("act")
    repeated = f", {answer['state']} before, by {act['by']} at {act['at']}" if answer.get("repeated") and act else ""
    return f"{answer['id']}: {answer['state'] if not repeated else 'left alone'}{repeated}"
