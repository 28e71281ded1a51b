"""`stageline workflows`: validate, publish, show and compare workflows."""

from __future__ import annotations

import difflib
import fnmatch
from pathlib import Path
from typing import Annotated, Any

import typer
import yaml
from pydantic import ValidationError

from cli.client import Client
from cli.command import DEFAULT_DATA_DIR, AsJson, DataDir, print_line, run
from cli.groups import Listing, noun
from cli.output import Output, chosen, show, show_rows, write
from cli.target import CliError, route

app = noun("Validate, publish and compare workflows, and check a new version against running jobs.", Listing)


def line_of(node: yaml.Node | None, path: tuple[Any, ...]) -> int:
    """Line number, from 1, of the value at `path`, or of its innermost existing parent."""
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
    """Errors in a workflow file as `file:line: field: reason`; empty when it is valid. Raises `CliError` when it cannot be read."""
    from contracts.parameters import definition_faults
    from services.job_orchestrator.inspect import Workflow

    try:
        text = path.read_text()
        definition = yaml.safe_load(text)
        Workflow.model_validate(definition)
    except OSError as error:
        raise CliError(f"{path}: {error.strerror}", 2) from None
    except UnicodeDecodeError:
        return [f"{path}:1: is not UTF-8 text"]
    except yaml.YAMLError as error:
        mark = getattr(error, "problem_mark", None)
        return [f"{path}:{mark.line + 1 if mark else 1}: {getattr(error, 'problem', None) or 'is not YAML'}"]
    except ValidationError as error:
        root = yaml.compose(text, Loader=yaml.SafeLoader)
        found = error.errors(include_url=False, include_context=False)
        return [f"{path}:{line_of(root, f['loc'])}: {'.'.join(map(str, f['loc'])) or 'workflow'}: {f['msg']}" for f in found]
    root = yaml.compose(text, Loader=yaml.SafeLoader)
    return [f"{path}:{line_of(root, path_of(fault.field))}: {fault}" for fault in definition_faults(definition)]


def path_of(field: str) -> tuple[Any, ...]:
    """`steps.0.config.url` as a path into a document."""
    return tuple(int(part) if part.isdigit() else part for part in field.split("."))


@app.command()
def validate(files: Annotated[list[Path], typer.Argument(help="Workflow files (YAML)")]) -> None:
    """Validate workflow files and print each error with its line. Exit code 1 when there are errors.

    Example: stageline workflows validate invoices.yaml
    """
    wrong = [fault for path in files for fault in faults(path)]
    for fault in wrong:
        print_line(fault)
    if wrong:
        raise CliError(f"{len(wrong)} faults", 1)
    print_line(f"{len(files)} files are valid")


def _definition(path: Path) -> dict[str, Any]:
    wrong = faults(path)
    if wrong:
        for fault in wrong:
            print_line(fault)
        raise CliError(f"{len(wrong)} faults", 1)
    found: dict[str, Any] = yaml.safe_load(path.read_text())
    return found


@app.command()
def publish(
    files: Annotated[list[Path], typer.Argument(help="Workflow files (YAML)")],
    as_json: AsJson = False,
    data_dir: DataDir = DEFAULT_DATA_DIR,
) -> None:
    """Publish workflow versions. A published version never changes; running jobs keep the version they started with.

    Example: stageline workflows publish invoices.yaml
    """
    definitions = [_definition(path) for path in files]

    async def work(client: Client) -> list[Any]:
        return [await client.call("POST", route("/v1/workflows/{}/publish", d["name"]), json=d) for d in definitions]

    made = run(data_dir, work)
    show(made, as_json, lambda: "\n".join(f"published {m['name']}@{m['version']}" for m in made))


@app.command("list")
def listed(
    pattern: Annotated[str, typer.Argument(metavar="[PATTERN]", help="Only names that fit, such as 'inv*'")] = "*",
    as_json: AsJson = False,
    data_dir: DataDir = DEFAULT_DATA_DIR,
) -> None:
    """List published workflows and drafts.

    Example: stageline workflows list 'inv*'
    """
    found = run(data_dir, lambda c: c.call("GET", "/v1/workflows"))["result"]
    found = [w for w in found if fnmatch.fnmatchcase(w["name"], pattern)]
    columns: dict[str, Any] = {
        "workflow": "name", "versions": "versions", "draft": lambda w: "yes" if w["draft"] else "", "description": "description",
    }  # fmt: skip
    show_rows(found, columns, as_json, empty="no workflow has such a name")


def _parts(name: str) -> tuple[str, dict[str, str]]:
    plain, _, version = name.partition("@")
    return plain, {"version": version} if version else {}


@app.command("show")
def shown(name: Annotated[str, typer.Argument(help="NAME or NAME@VERSION")], data_dir: DataDir = DEFAULT_DATA_DIR) -> None:
    """Print a published version (or the newest) as YAML.

    Example: stageline workflows show documents@1
    """
    plain, query = _parts(name)
    found = run(data_dir, lambda c: c.call("GET", route("/v1/workflows/{}", plain), params=query))
    if chosen() is Output.TABLE:
        write(yaml.safe_dump(found["definition"], sort_keys=False))
    else:
        show(found["definition"], False, str)


@app.command()
def diff(
    old: Annotated[str, typer.Argument(help="NAME@VERSION")],
    new: Annotated[str, typer.Argument(help="NAME@VERSION, or a workflow file")],
    data_dir: DataDir = DEFAULT_DATA_DIR,
) -> None:
    """Compare two versions, or a version and a file. Exit code 1 when they differ.

    Example: stageline workflows diff documents@1 documents.yaml
    """
    from services.job_orchestrator.inspect import Workflow

    def text_of(what: str) -> list[str]:
        if Path(what).is_file():
            definition = Workflow.model_validate(_definition(Path(what))).model_dump(mode="json", exclude_none=True)
        else:
            plain, query = _parts(what)
            definition = run(data_dir, lambda c: c.call("GET", route("/v1/workflows/{}", plain), params=query))["definition"]
        return yaml.safe_dump(definition, sort_keys=False).splitlines(keepends=True)

    lines = list(difflib.unified_diff(text_of(old), text_of(new), old, new))
    write("".join(lines))
    if lines:
        raise typer.Exit(1)


@app.command("check-running")
def check_running(
    new: Annotated[
        str | None, typer.Argument(help="A workflow file. Default: each job's own workflow, with the installed code")
    ] = None,
    as_json: AsJson = False,
    data_dir: DataDir = DEFAULT_DATA_DIR,
) -> None:
    """Replay the histories of unfinished jobs with a new version, and list the jobs that would take another path.

    Exit code 1 when there are any. Safe while the pipeline runs: nothing is changed.

    Example: stageline workflows check-running documents.yaml
    """
    from cli.inspect.history import reading
    from cli.inspect.running import check
    from services.job_orchestrator.inspect import Workflow

    workflow = Workflow.model_validate(_definition(Path(new))) if new else None
    found = reading(check(workflow, data_dir))

    def plain() -> str:
        lines = [f"{j['job_id']} ({j['workflow']}): {'; '.join(j['would'])}" for j in found["affected"]]
        lines += [f"{j['job_id']} ({j['workflow']}): cannot be checked: {'; '.join(j['why'])}" for j in found["unknown"]]
        return "\n".join(
            [
                *lines,
                f"{found['checked']} unfinished jobs, {len(found['affected'])} would be affected, {len(found['unknown'])} unknown",
            ]
        )

    show(found, as_json, plain)
    if found["affected"] or found["unknown"]:
        raise typer.Exit(1)
