"""A handler that catches every exception must end in `raise`, or be in the list below with a reason."""

from __future__ import annotations

import ast
import functools
from collections import Counter
from collections.abc import Iterator

import pytest

from tests.architecture.sources import ROOT, product

BROAD = {"Exception", "BaseException"}

ALLOWED = {
    "shared.database.sqlite:SqliteStore._commit": "in the writer's thread, any error of a transaction is handed to its caller",
    "shared.database.sqlite:_in_savepoint": "the same for one transaction of a group; the others are committed",
    "shared.processing.processor:BatchProcessor.decide_batch": "the guard of every handler: the record that it fails on is dead-lettered alone",
    "shared.processing.subscription:decode": "hostile bytes can raise anything; the record is dead-lettered, the partition goes on",
    "shared.processing.subscription:Subscription.on_batch": "a fault of our own becomes Stop: the process ends and the offset stays",
    "shared.processing.subscription:Subscription._finish": "a fault of our own becomes Stop: the process ends and the offset stays",
    "shared.runtime.row_loop:RowLoop._one": "a fault of one row is logged and delays that row alone; the loop goes on",
    "shared.runtime.service:Host._drain": "on shutdown one step that fails must not keep the next one from running",
    "shared.runtime.service:Host._close_all": "the same for resources that are closed",
    "services.notifier.adapters.sender:HttpSender.send": "any network fault is the result of the delivery attempt",
    "services.notifier.adapters.sender:HttpSender.ask": "any network fault is the result of the probe",
    "services.stage_worker.adapters.child:_result": "a parser can raise anything on a hostile file; the child reports it as the file's fault",
    "services.stage_worker.adapters.documents.archive:_draw_unfit_pages": "a page that cannot be inspected can still be drawn",
    "services.stage_worker.adapters.documents.archive_page:DocumentInspection.fix_fonts": "a font program that cannot be read makes its pages drawn",
    "services.stage_worker.handlers:TaskHandlers.on_tasks": "a fault of our own becomes Stop: the process ends and the offset stays",
    "stageline_kit.function_threads:FunctionThreads.run_function.work": "a fault of a function is handed to the task that called it",
    "stageline_kit.isolation:_outcome_of": "a fault of an action is the task's result, and its process says so before it ends",
    "stageline_kit.runner:TaskRunner._outcome_of": "a fault of an action is the task's result, and the worker goes on",
}
"""`module:function` of each handler that catches everything and goes on → why. Each entry allows one handler."""


def is_broad(expression: ast.expr | None) -> bool:
    """True for a bare except (None), `Exception`, `BaseException`, or a tuple that holds one of them."""
    if expression is None:
        return True
    parts = expression.elts if isinstance(expression, ast.Tuple) else [expression]
    return any((p.attr if isinstance(p, ast.Attribute) else getattr(p, "id", "")) in BROAD for p in parts)


def always_raises(body: list[ast.stmt]) -> bool:
    """True when every way through `body` ends in `raise`: its end does, and nothing before returns or leaves a loop."""
    last = body[-1]
    if isinstance(last, ast.If):
        ends = bool(last.orelse) and always_raises(last.body) and always_raises(last.orelse)
    elif isinstance(last, ast.With | ast.AsyncWith):
        ends = always_raises(last.body)
    else:
        ends = isinstance(last, ast.Raise)
    leaves = (ast.Return, ast.Break, ast.Continue)
    return ends and not any(isinstance(node, leaves) for statement in body for node in ast.walk(statement))


def swallows(node: ast.AST) -> bool:
    """True for a handler of everything that does not raise, and for `contextlib.suppress(Exception)`."""
    if isinstance(node, ast.ExceptHandler):
        return is_broad(node.type) and not always_raises(node.body)
    if isinstance(node, ast.Call) and ast.unparse(node.func).rpartition(".")[2] == "suppress":
        return any(is_broad(argument) for argument in node.args)
    return False


def swallowing(module: str, tree: ast.AST, inside: tuple[str, ...] = ()) -> Iterator[str]:
    """`module:function` of every handler in `tree` that catches everything and goes on."""
    for node in ast.iter_child_nodes(tree):
        named = isinstance(node, ast.FunctionDef | ast.AsyncFunctionDef | ast.ClassDef)
        within = (*inside, node.name) if named else inside  # type: ignore[attr-defined]
        if swallows(node):
            yield f"{module}:{'.'.join(within)}"
        yield from swallowing(module, node, within)


@functools.cache
def found() -> Counter[str]:
    """All of them in the product."""
    names: Counter[str] = Counter()
    for path, tree in product().items():
        module = ".".join(path.relative_to(ROOT).with_suffix("").parts).removesuffix(".__init__")
        names.update(swallowing(module, tree))
    return names


def test_broad_handlers_raise_or_are_listed_with_a_reason() -> None:
    extra = found() - Counter(list(ALLOWED))
    assert not extra, f"catch what you expect, re-raise, or list it here with the reason: {sorted(extra)}"


def test_the_list_has_no_dead_entries() -> None:
    dead = Counter(list(ALLOWED)) - found()
    assert not dead, f"nothing there catches everything any more: {sorted(dead)}"
    assert all(len(reason.split()) >= 5 for reason in ALLOWED.values())


@pytest.mark.parametrize(
    ("handler", "caught"),
    [
        ("except Exception: pass", True),
        ("except: pass", True),
        ("except BaseException as e: log(e)", True),
        ("except (ValueError, Exception): pass", True),
        ("except builtins.Exception: pass", True),
        ("except Exception: raise", False),
        ("except Exception as e: raise Stop('x') from e", False),
        ("except ValueError: pass", False),
        ("except Exception:\n  if a: raise\n  else: raise b", False),
        ("except Exception:\n  if a: raise", True),
        ("except Exception:\n  if a: return\n  raise", True),
        ("except Exception:\n  log()\n  raise", False),
    ],
)
def test_the_rule_sees_each_form(handler: str, caught: bool) -> None:
    code = f"def f():\n try:\n  x()\n {handler}".replace("\n  ", "\n   ")
    assert list(swallowing("m", ast.parse(code))) == (["m:f"] if caught else [])


def test_the_rule_sees_a_suppressed_exception() -> None:
    code = "class C:\n def f(self):\n  with contextlib.suppress(KeyError, Exception):\n   x()"
    assert list(swallowing("m", ast.parse(code))) == ["m:C.f"]
