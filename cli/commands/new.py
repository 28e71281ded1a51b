"""`stageline new worker NAME`: a folder with a worker of your own, ready to run."""

from __future__ import annotations

import keyword
import os
import re
import shlex
import sys
from pathlib import Path
from typing import Annotated

import typer

from cli.client import CliError
from cli.command import print_line

app = typer.Typer(help="Make a worker of your own.", no_args_is_help=True)
NAME = re.compile(r"[a-z][a-z0-9_-]{0,39}")
SOURCES = Path(__file__).parents[2]
TAKEN = frozenset({"contracts", "stageline_kit", "tests", "venv"})


@app.callback()
def about() -> None:
    """Make a worker of your own."""


@app.command()
def worker(
    name: Annotated[str, typer.Argument(help="Its name: lower-case letters, digits, dash and underscore")],
    folder: Annotated[Path | None, typer.Option(help="Where it goes. Default: a new folder of its name")] = None,
    wheels: Annotated[
        Path | None, typer.Option(help="Folder that `make dist` has made: the kit is installed from its wheels")
    ] = None,
) -> None:
    """Make a worker: a package with one action, a workflow and a test. Prints the commands that install, test and run it.

    Example: stageline new worker counter
    """
    from cli.worker_template import worker_files

    package = package_of(name)
    target = folder or Path(name)
    if target.exists() and (not target.is_dir() or any(target.iterdir())):
        raise CliError(f"{target} exists already, and is left as it is", 2)
    kit, action = kit_of(wheels), f"{package}.work"
    for path, text in worker_files(name, package, action).items():
        (target / path).parent.mkdir(parents=True, exist_ok=True)
        (target / path).write_text(text)
    print_line(f"made {target}: the action {action} in {target / package / '__init__.py'}")
    for what, line in next_lines(target, name, kit, action).items():
        print_line(f"{what + ':':9}{line}")


def package_of(name: str) -> str:
    """The Python package of the worker `name`. Raises `CliError` for a name that a package or an action of it cannot have."""
    from contracts.topics import BUILT_IN_ACTIONS

    package = name.replace("-", "_")
    taken = TAKEN | {action.partition(".")[0] for action in BUILT_IN_ACTIONS}
    if not NAME.fullmatch(name):
        raise CliError(f"{name!r} is no name: at most 40 lower-case letters, digits, dashes and underscores, a letter first", 2)
    if package in taken or package in sys.stdlib_module_names or keyword.iskeyword(package):
        raise CliError(f"{name} is the name of something else already; choose another one", 2)
    return package


def next_lines(target: Path, name: str, kit: list[Path], action: str) -> dict[str, str]:
    """What to do next → the exact command. `target` is the worker's folder."""
    place, own = shlex.quote(str(target)), f"{_local(target)}[test]"
    python, stageline = f"{place}/venv/bin/python", shlex.quote(_program())
    sources = " ".join(map(shlex.quote, [*map(_local, kit), "-e", own]))
    return {
        "install": f"{shlex.quote(sys.executable)} -m venv {place}/venv && {python} -m pip install {sources}",
        "test": f"{python} -m pytest {place}",
        "publish": f"{stageline} workflows publish {place}/{name}.yaml",
        "run": f'eval "$({stageline} env --role worker --actions {action})" && {python} -m {action.partition(".")[0]}',
        "try": f"{stageline} submit FILE --workflow {name} --watch",
    }


def kit_of(wheels: Path | None) -> list[Path]:
    """What pip installs the kit from: its wheels, or the sources of this program. Raises `CliError` when neither is there."""
    if wheels is not None:
        found = [sorted(wheels.glob(f"{name}-*.whl"))[-1:] for name in ("stageline_contracts", "stageline_kit")]
        if not all(found):
            raise CliError(f"{wheels} lacks the wheels of stageline_contracts and stageline_kit; `make dist` builds them", 2)
        return [path for paths in found for path in paths]
    if not (SOURCES / "stageline_kit" / "pyproject.toml").is_file():
        raise CliError("the sources of the kit are not here; name the folder of its wheels by --wheels", 2)
    return [SOURCES / "contracts", SOURCES / "stageline_kit"]


def _local(path: Path) -> str:
    """A path that pip takes for a path, and not for a name of a package."""
    relative = os.path.relpath(path)
    return str(path.resolve()) if relative.startswith("..") else os.path.join(".", relative)


def _program() -> str:
    """This program as the caller can start it again."""
    started = Path(sys.argv[0])
    return os.path.relpath(started) if started.name == "stageline" and Path.cwd() in started.resolve().parents else "stageline"
