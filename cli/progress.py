"""Progress of long commands: a line that is updated on a terminal, and a line now and then elsewhere. It goes to standard error."""

from __future__ import annotations

import contextlib
import sys
import time
from collections.abc import Callable, Iterator

EVERY_S = 0.2
"""Between updates on a terminal."""
ELSEWHERE_S = 15.0
"""Between lines where no terminal is."""
Report = Callable[[int, int | None], None]


@contextlib.contextmanager
def progress(doing: str, what: str) -> Iterator[Report]:
    """A function that takes how many are done, and of how many (None: unknown): `uploaded 3 of 14 files`.

    Short work shows nothing where no terminal is.
    """
    stream = sys.stderr
    live = stream is not None and stream.isatty()
    last = time.monotonic() if not live else 0.0
    shown = False

    def report(done: int, total: int | None) -> None:
        nonlocal last, shown
        now = time.monotonic()
        whole = total is not None and done >= total
        if stream is None or (now - last < (EVERY_S if live else ELSEWHERE_S) and not (live and whole)):
            return
        last, shown = now, True
        text = f"{doing} {done}{f' of {total}' if total is not None else ''} {what}"
        stream.write(f"\r\x1b[2K{text}" if live else f"{text}\n")
        stream.flush()

    try:
        yield report
    finally:
        if live and shown and stream is not None:
            stream.write("\r\x1b[2K")
            stream.flush()
