"""What commands print: rows or one record, as a table, JSON, YAML, CSV or names. `--output` chooses, for every command alike."""

from __future__ import annotations

import json
import sys
import time
from collections.abc import Callable, Mapping, Sequence
from enum import StrEnum
from typing import Any

import yaml
from rich.cells import cell_len
from rich.console import Console
from rich.table import Table
from rich.text import Text

from shared.web.result_table import table_as_csv

Row = Mapping[str, Any]
Columns = Mapping[str, str | Callable[[Any], Any]]
"""Heading → name of a field, or a function of the row. The first column is the row's id: it is never cut."""
NARROWEST = 12
"""A column of text is broken into lines of at least so many characters; where there is less room, each row is a block of lines."""
NAMES = ("id", "job_id", "file_id", "key_id", "name", "tenant_id", "user_name", "secret_key", "worker")
"""Fields that can name a record, the first one that it has."""


class Output(StrEnum):
    """Formats of what a command prints."""

    TABLE = "table"
    JSON = "json"
    YAML = "yaml"
    CSV = "csv"
    NAME = "name"


class _Chosen:
    """The format of the command that runs in this process."""

    output = Output.TABLE


def choose(output: Output | None) -> None:
    """Set the format of this process's command. None means a table."""
    _Chosen.output = output or Output.TABLE


def chosen(as_json: bool = False) -> Output:
    """The format of this process's command; `as_json` is the value of its `--json`."""
    return Output.JSON if as_json else _Chosen.output


def is_terminal() -> bool:
    """True when people read the output as it comes."""
    return sys.stdout is not None and sys.stdout.isatty()


# Other programs read piped output, so it is never wrapped to a terminal's width.
out = Console(highlight=False, width=None if is_terminal() else 10_000)
notes = Console(stderr=True, highlight=False, soft_wrap=True)


def show_rows(rows: Sequence[Row], columns: Columns, as_json: bool = False, *, empty: str = "nothing is there") -> None:
    """Print the rows in the chosen format. JSON and YAML hold whole records; a table and CSV hold the columns; names are the first
    column. `empty` is a note for people when there are no rows."""
    form = chosen(as_json)
    if form in (Output.JSON, Output.YAML):
        write(_document(list(rows), form))
    elif form is Output.CSV:
        write(_csv([[_cell(value, row) for value in columns.values()] for row in rows], list(columns)))
    elif form is Output.NAME:
        first = next(iter(columns.values()))
        write("".join(f"{plain(_cell(first, row))}\n" for row in rows))
    elif rows:
        print_whole(grid([[plain(_cell(value, row)) for value in columns.values()] for row in rows], list(columns)))
    if not rows and form is Output.TABLE:
        notes.print(Text(empty))


def show(value: Any, as_json: bool, people: Callable[[], Any], name: str | None = None) -> None:
    """Print one record or a list of records in the chosen format; the output of `people` is the table. `name` names a record that has
    no id of its own."""
    form = chosen(as_json)
    if form is Output.TABLE:
        shown = people()
        # A string is printed as it is: brackets in names are no markup.
        print_whole(Text(shown) if isinstance(shown, str) else shown)
    elif form is Output.NAME:
        write("".join(f"{plain(name or name_of(record))}\n" for record in _records(value)))
    elif form is Output.CSV:
        records = [_flat(record) for record in _records(value)]
        heads = list(dict.fromkeys(name for record in records for name in record))
        write(_csv([[record.get(name) for name in heads] for record in records], heads))
    else:
        write(_document(value, form))


def write(text: str) -> None:
    """Write text to standard output. What its encoding does not have, such as a half character of a file name, is escaped."""
    encoding = sys.stdout.encoding or "utf-8"
    sys.stdout.write(text.encode(encoding, "backslashreplace").decode(encoding))
    sys.stdout.flush()


def plain(value: Any) -> str:
    """A value as one line of text for people. Control characters are escaped."""
    if value is None:
        return ""
    if isinstance(value, bool):
        return "yes" if value else "no"
    if isinstance(value, list | tuple):
        return ", ".join(map(plain, value))
    text = json.dumps(value, ensure_ascii=False) if isinstance(value, dict) else str(value)
    return "".join(c if c.isprintable() else c.encode("unicode_escape", "backslashreplace").decode() for c in text)


def moment(unix: float | None) -> str:
    """Unix seconds as `2026-12-01 04:35:29Z`; empty for None."""
    return "" if unix is None else time.strftime("%Y-%m-%d %H:%M:%SZ", time.gmtime(unix))


def name_of(record: Any) -> Any:
    """What names a record: its id, else its name."""
    if not isinstance(record, dict):
        return record
    return next((record[field] for field in NAMES if record.get(field) is not None), "")


def _records(value: Any) -> list[Any]:
    if isinstance(value, dict) and isinstance(value.get("result"), list):
        return list(value["result"])
    return list(value) if isinstance(value, list) else [value]


def _cell(value: str | Callable[[Any], Any], row: Row) -> Any:
    return value(row) if callable(value) else row.get(value)


def _document(value: Any, form: Output) -> str:
    if form is Output.YAML:
        return yaml.safe_dump(value, sort_keys=False, allow_unicode=True, width=1000)
    return json.dumps(value, indent=1, ensure_ascii=False) + "\n"


def _csv(rows: Sequence[Sequence[Any]], heads: Sequence[str]) -> str:
    numbers = (int, float)
    cells = [[v if isinstance(v, numbers) and not isinstance(v, bool) else plain(v) for v in row] for row in rows]
    return table_as_csv([head.replace(" ", "_") for head in heads], cells)


def _flat(record: Any, prefix: str = "") -> dict[str, Any]:
    """Inner objects as `outer.inner`."""
    if not isinstance(record, dict):
        return {prefix or "value": record}
    found: dict[str, Any] = {}
    for name, value in record.items():
        path = f"{prefix}.{name}" if prefix else str(name)
        found |= _flat(value, path) if isinstance(value, dict) and value else {path: value}
    return found


def grid(rows: Sequence[Sequence[str]], heads: Sequence[str]) -> Table | Text:
    """Rows of cells as a table; as blocks of lines where the terminal is too narrow for it. The first column is never cut."""
    widths = [
        max(cell_len(text) for text in (head, *column)) for head, column in zip(heads, zip(*rows, strict=True), strict=True)
    ]
    if widths[0] + sum(min(width, NARROWEST) + 2 for width in widths[1:]) > out.width:
        return _blocks(rows, heads)
    table = Table(box=None, pad_edge=False)
    for number, head in enumerate(heads):
        least = min(widths[number], NARROWEST) if number else widths[0]
        table.add_column(head, no_wrap=number == 0, overflow="fold", min_width=least)
    for row in rows:
        table.add_row(*(Text(value) for value in row))
    return table


def _blocks(rows: Sequence[Sequence[str]], heads: Sequence[str]) -> Text:
    width = max(map(len, heads[1:]), default=0)
    blocks = [
        [row[0], *(f"  {head:<{width}}  {value}" for head, value in zip(heads[1:], row[1:], strict=True) if value)]
        for row in rows
    ]
    return Text("\n".join(line for block in blocks for line in block), no_wrap=True, overflow="ignore")


def print_whole(shown: Any) -> None:
    """Print without cutting a line to the terminal's width."""
    out.print(shown, soft_wrap=isinstance(shown, Text), crop=False)
