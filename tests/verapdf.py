"""veraPDF judges what we call PDF/A: the industry's validator, from its jars (MPL-2.0), pinned by hash as Kafka's are."""

from __future__ import annotations

import os
import subprocess
from collections.abc import Iterable
from pathlib import Path

from shared.embedded.jars import ensure_jars
from shared.embedded.java import find_java


def jars() -> list[Path]:
    """Its class path, downloaded once."""
    lines = (Path(__file__).parent / "verapdf.lock").read_text().splitlines()
    return ensure_jars([(name, digest.removeprefix("sha256:")) for name, digest in map(str.split, lines)])


def faults(files: Iterable[Path], flavour: str) -> dict[str, str]:
    """File name → the rules of `flavour` (`2b`) that it violates, by veraPDF. Files without a violation are left out."""
    names = [str(f) for f in files]
    command = [str(find_java()[0]), "-cp", os.pathsep.join(map(str, jars())), "org.verapdf.apps.GreenfieldCliWrapper"]
    done = subprocess.run(
        [*command, "-f", flavour, "--format", "text", "-v", "--nonpdfext", *names], capture_output=True, text=True, timeout=110
    )
    said: dict[str, list[str]] = {name: ["veraPDF said nothing of it"] for name in names}
    current = ""
    for line in done.stdout.splitlines():
        verdict, _, rest = line.partition(" ")
        if verdict in ("PASS", "FAIL"):
            current = next(name for name in names if rest.startswith(name))
            said[current] = [] if verdict == "PASS" else [line]
        elif current and said[current]:
            said[current].append(line.strip())
    return {Path(name).name: "; ".join(lines) for name, lines in said.items() if lines}
