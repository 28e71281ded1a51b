"""The product's modules, parsed once for all rules."""

from __future__ import annotations

import ast
import functools
from pathlib import Path

ROOT = Path(__file__).parents[2]
PRODUCT = ("contracts", "shared", "services", "cli", "stageline_kit")


@functools.cache
def parsed(path: Path) -> ast.Module:
    """The syntax tree of a file."""
    return ast.parse(path.read_text())


def modules(package: str) -> list[Path]:
    """Every module of a top-level package; `build/` holds copies that setuptools made."""
    return [path for path in sorted((ROOT / package).rglob("*.py")) if "build" not in path.relative_to(ROOT).parts]


@functools.cache
def product() -> dict[Path, ast.Module]:
    """Path → syntax tree of every module of the product."""
    return {path: parsed(path) for package in PRODUCT for path in modules(package)}
