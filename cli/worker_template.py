"""The files of a worker that `stageline new worker` makes. `$name`, `$package` and `$action` are replaced."""

from __future__ import annotations

from string import Template

from stageline_kit.version import VERSION

PROJECT = """\
[build-system]
requires = ["setuptools>=75"]
build-backend = "setuptools.build_meta"

[project]
name = "$name"
version = "1"
description = "A worker of Stageline's action $action"
requires-python = ">=3.11"
dependencies = ["stageline-kit>=$version"]

[project.optional-dependencies]
test = ["pytest>=8"]

[tool.setuptools]
packages = ["$package"]

[tool.pytest.ini_options]
testpaths = ["tests"]
"""
PACKAGE = '''\
"""The action `$action`: what it does with one file."""

from stageline_kit import Failed, Task, Worker

worker = Worker(concurrency=4)  # addresses and user come from KAFKA_* in the environment


@worker.action("$action")
def work(task: Task) -> dict[str, object]:
    """Return the result of the step. Replace this by your own work."""
    words = task.text().split()  # what a step before has extracted, else the file itself, if its type is a text
    if len(words) < task.config.get("least", 1):
        raise Failed("no_words", f"{task.file.file_name} has only {len(words)} words.")
    task.output("words.txt", "\\n".join(words).encode())  # a file that this step makes
    return {"properties": {"words": len(words)}}
'''
MAIN = '''\
"""`python -m $package`: serve the action until Ctrl-C or SIGTERM."""

import asyncio

from $package import worker

if __name__ == "__main__":
    asyncio.run(worker.run())
'''
WORKFLOW = """\
name: $name
version: 1
description: Run $action on each file.
steps:
  - {name: work, action: $action, stage: in_progress, config: {least: 1}}
"""
TEST = '''\
"""The action without a broker: the kit runs it as in production, and returns its reports."""

import asyncio

from stageline_kit import FileRef
from stageline_kit.testing import run_action

from $package import worker

FILE = FileRef(file_id="f-1", file_name="order.txt", content_type="text/plain", blob_name="order")


def end(objects):
    """The last report of one task; `objects` has the bytes of its file, and gets what the action stores."""
    return asyncio.run(run_action(worker, "$action", file=FILE, objects=objects))[-1]


def test_the_words_of_a_file_are_counted():
    objects = {"order": b"two words"}
    report = end(objects)
    assert (report.status.value, report.result["properties"]) == ("OK", {"words": 2})
    assert objects["words.txt"] == b"two\\nwords" and report.result["outputs"][0]["file_name"] == "words.txt"


def test_a_file_without_words_fails():
    report = end({"order": b""})
    assert (report.status.value, report.code) == ("KO", "no_words")
'''
README = """\
# $name

A worker of Stageline. It serves the action `$action`, for the workflow in `$name.yaml`.

| file | holds |
|---|---|
| `$package/__init__.py` | the action; begin here |
| `$package/__main__.py` | `python -m $package` serves it |
| `$name.yaml` | a workflow with one step of this action |
| `tests/` | the action's tests, which need no broker |
"""
FILES = {
    "pyproject.toml": PROJECT, "README.md": README, "$name.yaml": WORKFLOW, "$package/__init__.py": PACKAGE, "$package/__main__.py": MAIN,
    "tests/test_$package.py": TEST,
}  # fmt: skip


def worker_files(name: str, package: str, action: str) -> dict[str, str]:
    """Path → text of each file of the worker `name`, whose Python package is `package`."""
    words = {"name": name, "package": package, "action": action, "version": VERSION}
    return {Template(path).substitute(words): Template(text).substitute(words) for path, text in FILES.items()}
