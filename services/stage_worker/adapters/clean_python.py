"""A Python process that inherits nothing of the worker but the way to its modules."""

from __future__ import annotations

import json
import os
import sys

KEPT = ("PATH", "LD_LIBRARY_PATH", "MALLOC_ARENA_MAX", "TESSDATA_PREFIX", "TZ")
"""Variables that such a process gets from the worker. None of them holds a secret."""
IMPORT = "import json, sys; sys.path[:] = json.loads(sys.argv[1]); "


def clean_command(program: str, *arguments: str) -> list[str]:
    """The command that runs `program`, which starts with `IMPORT`; `arguments` follow in `sys.argv[2:]`."""
    return [sys.executable, "-I", "-c", program, json.dumps([path for path in sys.path if path]), *arguments]


def clean_environment() -> dict[str, str]:
    """The environment of such a process."""
    return {name: os.environ[name] for name in KEPT if name in os.environ} | {"LANG": "C.UTF-8"}
