"""The process that starts tesseract for a document's reader. It opens no document, so that the reader itself may start nothing."""

from __future__ import annotations

import json
import os
import re
import resource
import signal
import subprocess
from collections.abc import Sequence
from pathlib import Path
from typing import BinaryIO

from services.stage_worker.adapters.confinement import PROGRAM, PROGRAM_RUNNER, Limits, confine_process
from services.stage_worker.adapters.documents.ocr import PAGE_TIMEOUT_S, Recognise, picture_name, tesseract_command
from services.stage_worker.adapters.walls import kernel
from services.stage_worker.adapters.walls.call_filter import refuse_calls
from services.stage_worker.core.document_fault import DocumentFault

_LANGUAGES = re.compile(r"[A-Za-z0-9_]{1,40}(?:[+/][A-Za-z0-9_]{1,40}){0,9}")
"""What tesseract's `-l` may be. Dots are left out, so that it names no file elsewhere."""
MAX_LINE = 1000


def start_runner(program: str, folder: Path, limits: Limits, required: bool, closed: Sequence[int]) -> Recognise:
    """Fork the runner, which closes the descriptors `closed`. Returns the function that asks it for a page.

    Must come before the reader is confined. `required`: without all walls the runner starts nothing.
    """
    asked, ask = os.pipe()
    answered, answer = os.pipe()
    parent = os.getpid()
    if os.fork() == 0:
        try:
            for descriptor in (ask, answered, *closed):
                os.close(descriptor)
            if kernel.machine() is not None:
                kernel.die_with_parent(signal.SIGKILL)
            if os.getppid() == parent:
                _serve(os.fdopen(asked, "rb"), os.fdopen(answer, "wb"), program, folder, limits, required)
        finally:
            os._exit(0)
    os.close(asked)
    os.close(answer)
    requests, answers = os.fdopen(ask, "wb"), os.fdopen(answered, "rb")

    def recognise(index: int, languages: str) -> None:
        requests.write(json.dumps([index, languages]).encode() + b"\n")
        requests.flush()
        found = json.loads(answers.readline(MAX_LINE) or b'["ocr_failed", "tesseract ended early"]')
        if found is not None:
            raise DocumentFault(str(found[0]), str(found[1]))

    return recognise


def _serve(asked: BinaryIO, answer: BinaryIO, program: str, folder: Path, limits: Limits, required: bool) -> None:
    missing = confine_process(limits, folder, PROGRAM_RUNNER)
    while line := asked.readline(MAX_LINE):
        fault = ["sandbox_incomplete", "The sandbox lacks a wall."] if required and missing else _run(program, folder, line)
        answer.write(json.dumps(fault).encode() + b"\n")
        answer.flush()


def _run(program: str, folder: Path, line: bytes) -> list[str] | None:
    """Run tesseract on one page. Returns the fault's code and message, or None."""
    index, languages = json.loads(line)
    if not isinstance(index, int) or not 0 <= index < 1_000_000 or not _LANGUAGES.fullmatch(str(languages)):
        return ["option", f"There is no language {str(languages)[:100]!r} to recognise."]
    command = tesseract_command(program, folder / picture_name(index), str(languages))
    environment = {**os.environ, "OMP_THREAD_LIMIT": "1"}
    try:
        done = subprocess.run(command, capture_output=True, env=environment, preexec_fn=_confine_program)
    except (subprocess.SubprocessError, OSError) as error:
        return ["ocr_failed", f"tesseract could not be started: {str(error)[:300]}"]
    if done.returncode == -signal.SIGXCPU:
        return ["limit_time", f"tesseract took longer than {PAGE_TIMEOUT_S} s for one page."]
    if done.returncode:
        reason = done.stderr.decode("utf-8", "replace").strip().splitlines()[-1:] or ["no reason given"]
        return ["ocr_failed", f"tesseract: {reason[0][:300]}"]
    return None


def _confine_program() -> None:
    # Processor time instead of a clock, because the runner may signal no other process.
    hard = resource.getrlimit(resource.RLIMIT_CPU)[1]
    bound = PAGE_TIMEOUT_S if hard == resource.RLIM_INFINITY else min(PAGE_TIMEOUT_S, hard)
    resource.setrlimit(resource.RLIMIT_CPU, (bound, hard))
    if kernel.machine() is None:
        return
    kernel.die_with_parent(signal.SIGKILL)
    try:
        refuse_calls(PROGRAM)
    except OSError:
        # The runner has found the same, and starts nothing where all walls are required.
        return
