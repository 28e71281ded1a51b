"""Every declared metric is recorded somewhere, because operators rely on the list."""

from __future__ import annotations

import ast
from typing import get_args

from shared.telemetry.metric_names import Counter, Histogram
from tests.architecture.sources import product


def test_every_declared_metric_is_recorded() -> None:
    declared = {*get_args(Counter), *get_args(Histogram)}
    used = {
        node.value for path, tree in product().items() if path.name != "metric_names.py"
        for node in ast.walk(tree) if isinstance(node, ast.Constant) and isinstance(node.value, str)
    }  # fmt: skip
    assert declared <= used, declared - used
