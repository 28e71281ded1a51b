"""Renders mermaid blocks as SVG when the site is built, so that a reader's browser loads no script from another host."""

from __future__ import annotations

import hashlib
import re
from typing import Any

import mmdr

WIDTH = re.compile(r"max-width:([\d.]+)px")
SMALLEST = 0.6
"""Smallest scale of a diagram. A wider diagram scrolls."""


def fence(source: str, language: str, css_class: str, options: dict[str, Any], md: Any, **more: Any) -> str:
    """A formatter for `pymdownx.superfences`: the block as inline SVG. Raises `ValueError` for an invalid block."""
    # Styles and arrow heads refer to the diagram's id, which must be unique because a page may hold several diagrams.
    name = "diagram-" + hashlib.sha256(source.encode()).hexdigest()[:8]
    svg = mmdr.render(source).svg().replace("merman", name)
    drawn = WIDTH.sub(lambda match: f"{match[0]};min-width:{float(match[1]) * SMALLEST:.0f}px", svg, count=1)
    return f'<figure class="{css_class}-drawn" style="width:100%;overflow-x:auto;background:#fff">{drawn}</figure>'
