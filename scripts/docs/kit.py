"""Reference of the kit, from its docstrings and signatures: what `help()` says."""

from __future__ import annotations

import ast
import dataclasses
import inspect
import textwrap
from collections.abc import Iterator
from typing import Any, Final

import stageline_kit
from scripts.docs.markdown import table
from stageline_kit.testing import run_action

HEAD = """\
# The kit

Generated from the docstrings of `stageline_kit` by `make docs`. Do not edit. `help(stageline_kit.Task)` prints the same.

[Your first worker](../tutorial/first-worker.md) shows the whole of one, [write a worker](../how-to/workers.md) how it behaves, and
[own programs](../how-to/own-programs.md) producers and consumers.
"""
GROUPS: Final = {
    "Workers": ("Task", "Worker", "WorkerStuck", "Outcome", "Failed", "TryAgain", "Skipped", "Queued", "FileRef"),
    "Producers and consumers": ("Producer", "Consumer", "Batch", "Event", "Gap", "Inbox", "JobFeed", "Change", "kafka_options"),
    "Hosts of one's own": (
        "WorkerHooks", "Delivery", "TaskEngine", "Transport", "NotSent", "RecordRefused", "PartitionListener",
    ),
}  # fmt: skip


def page() -> str:
    """The whole page: every public name, with its signature, its docstring and its members."""
    left = set(stageline_kit.__all__) - {name for names in GROUPS.values() for name in names}
    if left:
        raise ValueError(f"no group of the kit's reference has {sorted(left)}")
    parts = [HEAD]
    for group, names in GROUPS.items():
        parts.append(f"## {group}\n")
        for name in names:
            parts += _entry(name, getattr(stageline_kit, name))
        if group == "Workers":
            parts += _entry("testing.run_action", run_action)
    return "\n".join(parts)


def _entry(name: str, thing: Any) -> Iterator[str]:
    yield f"### {name}\n"
    if (call := _call(name, thing)) is not None:
        yield f"```text\n{call}\n```\n"
    yield f"{_text(thing)}\n"
    if inspect.isclass(thing) and (rows := list(_members(thing))):
        yield table(["member", "meaning"], rows) + "\n"


def _call(name: str, thing: Any) -> str | None:
    """The call in one line, if a program makes it: not for what it only receives."""
    if inspect.isclass(thing) and (dataclasses.is_dataclass(thing) or "__init__" not in vars(thing)):
        return None
    return f"{name.rpartition('.')[2]}{_signature(thing)}"


class _Bare(str):
    """An annotation that is printed without quotes."""

    def __repr__(self) -> str:
        return str(self)


def _signature(function: Any) -> str:
    signature = inspect.signature(function)
    kept = [p.replace(annotation=_bare(p.annotation)) for p in signature.parameters.values() if p.name != "self"]
    return str(signature.replace(parameters=kept, return_annotation=_bare(signature.return_annotation))).removesuffix(" -> None")


def _bare(annotation: Any) -> Any:
    return _Bare(annotation) if isinstance(annotation, str) else annotation


def _text(thing: Any) -> str:
    """The docstring as paragraphs of one line each."""
    return "\n\n".join(" ".join(part.split()) for part in inspect.cleandoc(thing.__doc__ or "").split("\n\n"))


def _members(cls: type) -> Iterator[list[str]]:
    for name, text in _fields(cls):
        yield [f"`{name}`", text]
    for name, member in vars(cls).items():
        if name.startswith("_") or not (isinstance(member, property) or inspect.isfunction(member)):
            continue
        kind = "async " if inspect.iscoroutinefunction(member) else ""
        call = name if isinstance(member, property) else f"{kind}{name}{_signature(member)}"
        yield [f"`{call}`", _text(member).replace("\n\n", " ")]


def _fields(cls: type) -> Iterator[tuple[str, str]]:
    """Public annotated members of a class with the docstring below each."""
    body = ast.parse(textwrap.dedent(inspect.getsource(cls))).body[0]
    assert isinstance(body, ast.ClassDef)
    for field, after in zip(body.body, [*body.body[1:], None], strict=True):
        if not isinstance(field, ast.AnnAssign) or not isinstance(field.target, ast.Name) or field.target.id.startswith("_"):
            continue
        known = isinstance(after, ast.Expr) and isinstance(after.value, ast.Constant)
        text = " ".join(str(after.value.value).split()) if known else ""  # type: ignore[union-attr]
        yield f"{field.target.id}: {ast.unparse(field.annotation)}", text
