"""Two stores behind one port, whose answers must be equal."""

from __future__ import annotations

from collections.abc import Callable, Iterable
from typing import Any


class Mirror:
    """Calls both stores and compares their answers."""

    def __init__(self, model: Any, real: Any) -> None:
        self._model = model
        self._real = real

    def __getattr__(self, name: str) -> Callable[..., Any]:
        def both(*args: Any) -> Any:
            if name == "has_changed":
                return False
            # Both stores read the arguments, and an iterator can be read once.
            given = [list(a) if isinstance(a, Iterable) and not isinstance(a, (str, dict, list, tuple, set)) else a for a in args]
            expected, found = getattr(self._model, name)(*given), getattr(self._real, name)(*given)
            assert plain(expected) == plain(found), (name, given, expected, found)
            return expected

        return both


def plain(value: Any) -> Any:
    """`value` without what may differ: the order of branches, counters of zero, and the trace."""
    if isinstance(value, dict):
        return {k: plain(v) for k, v in sorted(value.items()) if v != 0 and v != {}}
    return list(value) if isinstance(value, tuple) else value
