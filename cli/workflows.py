"""`stageline workflows`: look at workflow files before the orchestrator does."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated, Any

import typer
import yaml
from pydantic import ValidationError

from cli.client import CliError
from cli.pipeline import say
from services.job_orchestrator.core.workflow import Workflow

app = typer.Typer(help="Workflow files.", no_args_is_help=True)


def line_of(node: yaml.Node | None, path: tuple[Any, ...]) -> int:
    """Line (from 1) of the value at `path`, or of the innermost part of it that is there."""
    line = 1
    while node is not None:
        line = node.start_mark.line + 1
        if not path:
            break
        head, path = path[0], path[1:]
        if isinstance(node, yaml.MappingNode):
            node = next((value for key, value in node.value if key.value == head), None)
        elif isinstance(node, yaml.SequenceNode) and isinstance(head, int) and head < len(node.value):
            node = node.value[head]
        else:
            node = None
    return line


def faults(path: Path) -> list[str]:
    """`file:line: field: reason` for everything that is wrong with a workflow file."""
    try:
        text = path.read_text()
        Workflow.model_validate(yaml.safe_load(text))
    except OSError as error:
        return [f"{path}: {error.strerror}"]
    except UnicodeDecodeError:
        return [f"{path}:1: is not UTF-8 text"]
    except yaml.YAMLError as error:
        mark = getattr(error, "problem_mark", None)
        return [f"{path}:{mark.line + 1 if mark else 1}: {getattr(error, 'problem', None) or 'is not YAML'}"]
    except ValidationError as error:
        root = yaml.compose(text, Loader=yaml.SafeLoader)
        found = error.errors(include_url=False, include_context=False)
        return [f"{path}:{line_of(root, f['loc'])}: {'.'.join(map(str, f['loc'])) or 'workflow'}: {f['msg']}" for f in found]
    return []


@app.command()
def validate(files: Annotated[list[Path], typer.Argument(help="Workflow files (YAML)")]) -> None:
    """Say what is wrong with workflow files, with the line. Exit code 1 when anything is."""
    wrong = [fault for path in files for fault in faults(path)]
    for fault in wrong:
        say(fault)
    if wrong:
        raise CliError(f"{len(wrong)} faults", 1)
    say(f"{len(files)} files are valid")
