"""Runs `stageline …` in a process forked from one that has the command line loaded, which is much faster than a new Python.

What a command sees is its own: arguments, environment, working directory, output. `Pipeline.start` and the documents' tests start it the usual
way, from nothing.
"""

from __future__ import annotations

import atexit
import functools
import json
import os
import selectors
import subprocess
import sys
import tempfile
import threading
from pathlib import Path
from typing import Any

ROOT = Path(__file__).parents[1]
_one_at_a_time = threading.Lock()


def run_command(
    arguments: list[str], environment: dict[str, str], timeout_s: float = 100, cwd: Path = ROOT
) -> subprocess.CompletedProcess[str]:
    """Run `stageline` with these arguments and this environment alone. Raises `TimeoutExpired`."""
    with _one_at_a_time, tempfile.TemporaryDirectory() as folder:
        out, err = Path(folder, "out"), Path(folder, "err")
        asked = {"arguments": arguments, "environment": environment, "cwd": str(cwd), "out": str(out), "err": str(err)}
        code = _ask(asked, timeout_s)
        return subprocess.CompletedProcess(["stageline", *arguments], code, out.read_text(), err.read_text())


@functools.cache
def _server() -> subprocess.Popen[str]:
    command = [sys.executable, "-c", "from tests.command_line import serve; serve()"]
    server = subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True, cwd=ROOT, start_new_session=True)
    atexit.register(server.communicate)  # the server ends when its input ends
    return server


def _ask(asked: dict[str, Any], timeout_s: float) -> int:
    server = _server()
    assert server.stdin is not None and server.stdout is not None
    server.stdin.write(json.dumps(asked) + "\n")
    server.stdin.flush()
    with selectors.DefaultSelector() as selector:
        selector.register(server.stdout, selectors.EVENT_READ)
        if not selector.select(timeout_s):
            atexit.unregister(server.communicate)
            server.kill()
            server.communicate()
            _server.cache_clear()
            raise subprocess.TimeoutExpired(asked["arguments"], timeout_s)
    return int(server.stdout.readline())


def serve() -> None:
    """The server: fork a process for each line of the input, and print its exit code."""
    import cli.main

    for line in sys.stdin:
        asked = json.loads(line)
        pid = os.fork()
        if pid == 0:
            _become(asked, cli.main.main)
        print(os.waitstatus_to_exitcode(os.waitpid(pid, 0)[1]), flush=True)


def _become(asked: dict[str, Any], main: Any) -> None:
    os.setsid()
    os.chdir(asked["cwd"])
    os.environ.clear()
    os.environ.update(asked["environment"])
    os.dup2(os.open(os.devnull, os.O_RDONLY), 0)
    for number, name in ((1, asked["out"]), (2, asked["err"])):
        os.dup2(os.open(name, os.O_WRONLY | os.O_CREAT), number)
    sys.argv = ["stageline", *asked["arguments"]]
    code: Any = 1
    try:
        main()
        code = 0
    except SystemExit as exit_:
        code = exit_.code or 0
    except BaseException:
        sys.excepthook(*sys.exc_info())
    finally:
        sys.stdout.flush()
        sys.stderr.flush()
        os._exit(code if isinstance(code, int) else 1)
