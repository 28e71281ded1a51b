"""`stageline up` without the packages that it needs on one machine."""

from __future__ import annotations

from typing import Any

import pytest

from cli.client import CliError
from cli.commands import pipeline


@pytest.mark.parametrize("missing", ["jgo", "setproctitle"])
def test_up_names_the_extra_that_is_missing(missing: str, monkeypatch: pytest.MonkeyPatch) -> None:
    def find(name: str) -> Any:
        return None if name == missing else object()

    monkeypatch.setattr(pipeline, "find_spec", find)
    with pytest.raises(CliError, match=r"stageline\[embedded\]"):
        pipeline.require_embedded_extra()


def test_up_starts_where_the_extra_is_installed() -> None:
    pipeline.require_embedded_extra()
