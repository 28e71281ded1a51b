"""Patches of documents (RFC 6902) and merge patches (RFC 7396)."""

from __future__ import annotations

import copy
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from services.ingest.core.json_patch import BadPatch, merged, patched

JSON = st.recursive(
    st.none() | st.booleans() | st.integers() | st.text(max_size=3),
    lambda v: st.lists(v, max_size=3) | st.dictionaries(st.text(max_size=3), v, max_size=3),
    max_leaves=8,
)


@pytest.mark.parametrize(
    ("document", "patch", "result"),
    [
        ({"a": "b"}, {"a": "c"}, {"a": "c"}), ({"a": "b"}, {"b": "c"}, {"a": "b", "b": "c"}), ({"a": "b"}, {"a": None}, {}),
        ({"a": "b", "b": "c"}, {"a": None}, {"b": "c"}), ({"a": ["b"]}, {"a": "c"}, {"a": "c"}), ({"a": "c"}, {"a": ["b"]}, {"a": ["b"]}),
        ({"a": {"b": "c"}}, {"a": {"b": "d", "c": None}}, {"a": {"b": "d"}}), ({"a": [{"b": "c"}]}, {"a": [1]}, {"a": [1]}),
        ({"a": "b"}, ["c"], ["c"]), ({"a": "foo"}, None, None), ({"e": None}, {"a": 1}, {"e": None, "a": 1}), ([1, 2], {"a": "b", "c": None}, {"a": "b"}),
        ({}, {"a": {"bb": {"ccc": None}}}, {"a": {"bb": {}}}),
    ],
)  # fmt: skip
def test_the_examples_of_the_merge_patch(document: Any, patch: Any, result: Any) -> None:
    assert merged(document, patch) == result


@pytest.mark.parametrize(
    ("document", "operations", "result"),
    [
        ({"foo": "bar"}, [{"op": "add", "path": "/baz", "value": "qux"}], {"foo": "bar", "baz": "qux"}),
        ({"foo": [1, 3]}, [{"op": "add", "path": "/foo/1", "value": 2}], {"foo": [1, 2, 3]}),
        ({"foo": [1]}, [{"op": "add", "path": "/foo/-", "value": [2]}], {"foo": [1, [2]]}),
        ({"foo": 1, "baz": 2}, [{"op": "remove", "path": "/baz"}], {"foo": 1}),
        ({"foo": [1, 2, 3]}, [{"op": "remove", "path": "/foo/1"}], {"foo": [1, 3]}),
        ({"a": 1}, [{"op": "replace", "path": "/a", "value": None}], {"a": None}),
        ({"a": {"b": 1}, "c": {}}, [{"op": "move", "from": "/a/b", "path": "/c/d"}], {"a": {}, "c": {"d": 1}}),
        ({"f": [1, 2, 3]}, [{"op": "move", "from": "/f/0", "path": "/f/2"}], {"f": [2, 3, 1]}),
        ({"a": {"b": 1}}, [{"op": "copy", "from": "/a", "path": "/a/c"}], {"a": {"b": 1, "c": {"b": 1}}}),
        ({"a/b": 1, "m~n": 2}, [{"op": "test", "path": "/a~1b", "value": 1}, {"op": "remove", "path": "/m~0n"}], {"a/b": 1}),
        ({"": 1}, [{"op": "replace", "path": "/", "value": 2}], {"": 2}), ({"a": 1}, [{"op": "replace", "path": "", "value": {}}], {}),
    ],
)  # fmt: skip
def test_the_operations_of_a_patch(document: Any, operations: Any, result: Any) -> None:
    before = copy.deepcopy(document)
    assert patched(document, operations) == result
    assert document == before, "the document given is left as it is"


@pytest.mark.parametrize(
    "operations",
    [
        {}, [1], [{"op": "spread", "path": "/a"}], [{"op": "add", "path": "/a"}], [{"op": "add", "path": "a", "value": 1}], [{"op": "remove", "path": "/x"}],
        [{"op": "add", "path": "/list/3", "value": 1}], [{"op": "add", "path": "/list/01", "value": 1}], [{"op": "replace", "path": "/list/-", "value": 1}],
        [{"op": "add", "path": "/a/b", "value": 1}], [{"op": "test", "path": "/a", "value": True}], [{"op": "move", "from": "/o", "path": "/o/in"}],
        [{"op": "test", "path": "/a", "value": 1}] * 201, [{"op": "copy", "path": "/o"}],
    ],
)  # fmt: skip
def test_patches_that_cannot_be_applied(operations: Any) -> None:
    with pytest.raises(BadPatch):
        patched({"a": 1, "list": [0, 1], "o": {}}, operations)


def test_copies_of_copies_are_bounded() -> None:
    with pytest.raises(BadPatch, match="values"):
        patched({"a": [1]}, [{"op": "copy", "from": "", "path": f"/{n}"} for n in range(100)])
    with pytest.raises(BadPatch, match="levels"):
        patched({}, [{"op": "copy", "from": "", "path": "/a" * (n + 1)} for n in range(150)])


@given(JSON, JSON)
def test_a_merge_patch_can_be_repeated(document: Any, patch: Any) -> None:
    assert merged(merged(document, patch), patch) == merged(document, patch)


@given(JSON, st.lists(st.fixed_dictionaries({"op": st.sampled_from(["add", "remove", "replace", "copy", "move", "test"]), "path": st.sampled_from(["", "/a", "/0", "/-", "/a/b"]), "from": st.sampled_from(["", "/a", "/0"]), "value": JSON}), max_size=4))  # fmt: skip
def test_any_patch_gives_a_document_or_the_reason(document: Any, operations: Any) -> None:
    try:
        patched(document, operations)
    except BadPatch as error:
        assert str(error)
