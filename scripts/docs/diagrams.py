"""Draws mermaid blocks as SVG while the site is built, so that a reader's browser loads no script from another host."""

from __future__ import annotations

import hashlib
import re
from typing import Any

import mmdr

WIDTH = re.compile(r"max-width:([\d.]+)px")
SMALLEST = 0.6
"""A diagram is never drawn smaller than this share of its own width: a wide one scrolls."""


def fence(source: str, language: str, css_class: str, options: dict[str, Any], md: Any, **more: Any) -> str:
    """A formatter for `pymdownx.superfences`: the block as inline SVG. Raises `ValueError` for a block that mermaid cannot read."""
    # Each diagram's styles and arrow heads go by its id, and a page may hold several.
    name = "diagram-" + hashlib.sha256(source.encode()).hexdigest()[:8]
    svg = mmdr.render(source).svg().replace("merman", name)
    drawn = WIDTH.sub(lambda match: f"{match[0]};min-width:{float(match[1]) * SMALLEST:.0f}px", svg, count=1)
    return f'<figure class="{css_class}-drawn" style="width:100%;overflow-x:auto;background:#fff">{drawn}</figure>'
