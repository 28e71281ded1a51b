"""Draw the end of `make demo`'s output as an SVG: `python scripts/demo_picture.py [FILE]`, where FILE holds captured output.

Without a file, the demo runs in a temporary folder first. The long trace in the middle is cut; a line gives the number of lines left out.
"""

from __future__ import annotations

import asyncio
import io
import os
import re
import sys
import tempfile
from pathlib import Path

from rich.console import Console
from rich.text import Text

WIDTH = 134
TRACE_LINES = 9
FIRST, TRACE, AFTER_TRACE = "Jobs by outcome", "Trace of", "Time per stage"
PICTURE = Path(__file__).parents[1] / "docs" / "images" / "demo.svg"


def run_demo() -> str:
    """Run the demo and return its output with ANSI styles. Raises `SystemExit` when one of its checks fails."""
    from cli import demo

    demo.out = Console(record=True, highlight=False, width=WIDTH, file=io.StringIO())
    with tempfile.TemporaryDirectory() as folder:
        os.chdir(folder)
        if asyncio.run(demo.main()):
            raise SystemExit(demo.out.export_text())
    return demo.out.export_text(styles=True)


def end_of(output: str) -> list[Text]:
    """The lines to draw: from the first result on, with the trace cut after `TRACE_LINES`. Raises `StopIteration` for other text."""
    lines = [Text.from_ansi(line.rstrip()) for line in output.splitlines()]
    shown = lines[next(n for n, line in enumerate(lines) if line.plain.startswith(FIRST)) :]
    trace = next(n for n, line in enumerate(shown) if line.plain.startswith(TRACE))
    after = next(n for n, line in enumerate(shown) if line.plain.startswith(AFTER_TRACE))
    left_out = after - 1 - trace - TRACE_LINES
    note = [Text(f"  … {left_out} more lines of the trace", style="dim"), Text()] if left_out > 0 else []
    return [*shown[: trace + TRACE_LINES], *note, *shown[after if note else trace + TRACE_LINES :]]


def draw(lines: list[Text]) -> str:
    """The lines as an SVG of plain text, which loads no font from another host."""
    console = Console(record=True, highlight=False, width=WIDTH, file=io.StringIO())
    for line in lines:
        console.print(line, no_wrap=True, overflow="ellipsis", crop=True)
    picture = console.export_svg(title="make demo", unique_id="demo")
    return re.sub(r"\s*@font-face \{.*?\}\n", "\n", picture, flags=re.S)


def main() -> None:
    """Write `docs/images/demo.svg`."""
    output = Path(sys.argv[1]).read_text() if len(sys.argv) > 1 else run_demo()
    picture = draw(end_of(output))
    PICTURE.parent.mkdir(parents=True, exist_ok=True)
    PICTURE.write_text("\n".join(line.rstrip() for line in picture.splitlines()) + "\n")
    sys.stdout.write(f"{PICTURE.relative_to(PICTURE.parents[2])} is drawn\n")


if __name__ == "__main__":
    main()
