"""A filter of jobs as callers write it becomes the query that the store runs."""

from __future__ import annotations

import fnmatch
import re
import uuid

import pytest
from pydantic import ValidationError

from services.ingest.core.job_filter import Filter

NAMES = ("inv@1", "inv@2", "inv@12", "invoice@1", "in_v@1", "in%v@1", "in!v@1", "acme.kit@3")


def like(pattern: str, name: str) -> bool:
    """SQL's LIKE with `!` as its escape."""
    parts = re.findall("!.|.", pattern)
    made = "".join(".*" if p == "%" else "." if p == "_" else re.escape(p[-1]) for p in parts)
    return re.fullmatch(made, name) is not None


def chosen(workflow: str) -> set[str]:
    query = Filter(workflow=workflow).query("t", 0.0)
    return {n for n in NAMES if n == query.workflow or (query.workflow_like is not None and like(query.workflow_like, n))}


@pytest.mark.parametrize("name", NAMES)
def test_a_name_with_its_version_is_that_one(name: str) -> None:
    assert chosen(name) == {name}


@pytest.mark.parametrize("name", sorted({n.partition("@")[0] for n in NAMES}))
def test_a_name_without_version_is_all_its_versions(name: str) -> None:
    assert chosen(name) == {n for n in NAMES if n.partition("@")[0] == name}


@pytest.mark.parametrize("pattern", ["inv*", "*", "in?v", "*.kit", "none*", "in_*", "in%*", "in!*"])
def test_a_pattern_without_version_is_of_names(pattern: str) -> None:
    assert chosen(pattern) == {n for n in NAMES if fnmatch.fnmatchcase(n.partition("@")[0], pattern)}


@pytest.mark.parametrize("pattern", ["inv@*", "inv*@1", "*@1?", "*@*"])
def test_a_pattern_with_version_is_of_both(pattern: str) -> None:
    assert chosen(pattern) == {n for n in NAMES if fnmatch.fnmatchcase(n, pattern)}


@pytest.mark.parametrize("length", [1, 7, 8, 9, 13, 20, 35, 36])
def test_the_beginning_of_an_id_bounds_all_ids_that_begin_so_and_no_other(length: int) -> None:
    ids = sorted(str(uuid.uuid5(uuid.NAMESPACE_URL, str(n))) for n in range(500))
    beginning = ids[250][:length]
    bounds = Filter(id=beginning.upper()).query("t", 0.0).ids
    assert bounds is not None and all(len(bound) == 36 for bound in bounds)
    assert [i for i in ids if bounds[0] <= i <= bounds[1]] == [i for i in ids if i.startswith(beginning)]


@pytest.mark.parametrize("wrong", ["", "xyz", "12345678-1234-1234-1234-1234567890123", "%"])
def test_what_no_id_begins_with_is_refused(wrong: str) -> None:
    with pytest.raises(ValidationError):
        Filter(id=wrong)


def test_without_them_nothing_is_restricted() -> None:
    query = Filter().query("t", 0.0)
    assert (query.workflow, query.workflow_like, query.ids) == (None, None, None)
