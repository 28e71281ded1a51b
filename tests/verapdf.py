"""veraPDF judges what we call PDF/A: the industry's validator, from its jars (MPL-2.0), pinned by hash as Kafka's are."""

from __future__ import annotations

import os
import subprocess
from collections.abc import Mapping
from pathlib import Path

from shared.embedded.jars import ensure_jars
from shared.embedded.java import find_java


def jars() -> list[Path]:
    """Its class path, downloaded once."""
    lines = (Path(__file__).parent / "verapdf.lock").read_text().splitlines()
    return ensure_jars([(name, digest.removeprefix("sha256:")) for name, digest in map(str.split, lines)])


def faults(files: Mapping[Path, str]) -> dict[str, str]:
    """Judge all `files` in one run: path → the flavour that the file must claim and keep (`2b`).

    Returns the name of each file that fails → what veraPDF says against it. `-f 0` takes the flavour from the file; one without any is judged
    by `1b`, and a file that claims another flavour than it must is a fault too.
    """
    names = {str(path): flavour for path, flavour in files.items()}
    command = [str(find_java()[0]), "-cp", os.pathsep.join(map(str, jars())), "org.verapdf.apps.GreenfieldCliWrapper"]
    done = subprocess.run(
        [*command, "-f", "0", "--format", "text", "-v", "--nonpdfext", *names], capture_output=True, text=True, timeout=400
    )
    said: dict[str, list[str]] = {name: ["veraPDF said nothing of it"] for name in names}
    current = ""
    for line in done.stdout.splitlines():
        verdict, _, rest = line.partition(" ")
        name, _, flavour = rest.rpartition(" ")
        if verdict in ("PASS", "FAIL") and name in names:
            current = name
            wrong = verdict == "FAIL" or flavour != names[name]
            said[current] = [f"{line} (must be {names[name]})"] if wrong else []
        elif current and said[current]:
            said[current].append(line.strip())
    return {Path(name).name: "; ".join(lines) for name, lines in said.items() if lines}
