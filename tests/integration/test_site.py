"""The site of `docs/` is built without a warning, and loads nothing from another host."""

from __future__ import annotations

import re
import subprocess
import sys
from pathlib import Path

ROOT = Path(__file__).parents[2]
IMPORTED = re.compile(r"(?:url\(|@import)\s*[\"']?(?:https?:)?//")
LOADED = re.compile(r"<(?:script|img|iframe|link)\b[^>]*\b(?:src|href)=[\"']?(?:https?:)?//")


def test_the_site_is_built_strictly_and_loads_nothing_from_elsewhere(tmp_path: Path) -> None:
    command = [sys.executable, "-m", "mkdocs", "build", "--strict", "--quiet", "--site-dir", str(tmp_path)]
    built = subprocess.run(command, cwd=ROOT, capture_output=True, text=True, timeout=100)
    assert built.returncode == 0, built.stdout + built.stderr
    pages = {path.relative_to(tmp_path).as_posix(): path.read_text() for path in tmp_path.rglob("*.html")}
    assert {"index.html", "reference/topics-and-messages.html", "explanation/job-states.html"} <= pages.keys()
    assert not [name for name, text in pages.items() if LOADED.search(text)]
    styles = {path.relative_to(tmp_path).as_posix(): path.read_text() for path in tmp_path.rglob("*.css")}
    assert styles and not [name for name, text in styles.items() if IMPORTED.search(text)], "neither fonts nor pictures"
    # The theme loads mermaid from another host for blocks of this class; ours are drawn already.
    assert not [name for name, text in pages.items() if 'class="mermaid"' in text]
    assert 'class="mermaid-drawn"' in pages["explanation/job-states.html"]
