"""The gateway's formats: ranges, headers of resumable uploads, XML."""

from __future__ import annotations

import base64
from typing import Any
from xml.etree import ElementTree

import pytest
from hypothesis import given
from hypothesis import strategies as st

from services.ingest.core import tus
from services.ingest.dialects.pdftools import names, options
from services.ingest.http.archive import entries_of
from services.ingest.http.content_negotiation import to_xml, wants_xml, xml_name
from services.ingest.http.download import NotInRange, byte_range
from shared.objects import containers


@pytest.mark.parametrize(
    ("header", "part"),
    [
        (None, None), ("bytes=0-0", (0, 1)), ("bytes=5-", (5, 10)), ("bytes=-3", (7, 10)), ("bytes=-30", (0, 10)), ("bytes=2-99", (2, 10)),
        ("bytes=0-1,3-4", None), ("bytes=4-2", None), ("bytes=-", None), ("lines=1-2", None), ("bytes=a-b", None),
    ],
)  # fmt: skip
def test_ranges(header: str | None, part: tuple[int, int] | None) -> None:
    assert byte_range(header, 10) == part


@pytest.mark.parametrize("header", ["bytes=10-", "bytes=99-100", "bytes=-0"])
def test_ranges_outside(header: str) -> None:
    with pytest.raises(NotInRange):
        byte_range(header, 10)


@pytest.mark.parametrize(
    ("accept", "xml"),
    [
        ("", False), ("*/*", False), ("application/json", False), ("application/xml", True), ("text/xml, application/json;q=0.5", True),
        ("application/json, application/xml;q=0.9", False), ("application/xml, */*", True), ("application/xml;q=0", False),
        ("application/xml;q=x", True), ("text/html, */*;q=0.1", False),
    ],
)  # fmt: skip
def test_which_accept_headers_ask_for_xml(accept: str, xml: bool) -> None:
    assert wants_xml(accept) is xml


VALUES = st.recursive(
    st.none() | st.booleans() | st.integers() | st.text(),
    lambda v: st.lists(v, max_size=4) | st.dictionaries(st.text(), v, max_size=4),
    max_leaves=12,
)


@given(VALUES)
def test_whatever_is_json_becomes_xml_that_parses(value: Any) -> None:
    root = ElementTree.fromstring(to_xml(value))
    assert root.tag == "root"
    if isinstance(value, list):
        assert [child.tag for child in root] == ["item"] * len(value)
    if isinstance(value, dict):
        assert len(root) == len(value)


def test_names_that_xml_cannot_have() -> None:
    assert (xml_name(".issued"), xml_name("jobId"), xml_name("1a"), xml_name("a b")) == (
        "_x002E_issued",
        "jobId",
        "_x0031_a",
        "a_x0020_b",
    )


def encoded(**pairs: str) -> str:
    return ",".join(f"{k} {base64.b64encode(v.encode()).decode()}" for k, v in pairs.items())


@given(
    st.dictionaries(
        st.from_regex(r"[a-z_]{1,20}", fullmatch=True), st.text(alphabet=st.characters(exclude_characters="\x00", codec="utf-8"))
    )
)
def test_upload_metadata_round_trips(pairs: dict[str, str]) -> None:
    assert tus.metadata(encoded(**pairs)) == pairs


@pytest.mark.parametrize("value", ["a !!!", "a YQ==,a YQ==", "a\tb YQ==", "a /w==", f"a {base64.b64encode(bytes(3)).decode()}"])
def test_invalid_upload_metadata(value: str) -> None:
    with pytest.raises(tus.BadHeader, match="Upload-Metadata"):
        tus.metadata(value)


@pytest.mark.parametrize("value", ["-1", "1e3", "9" * 17, " 1", ""])
def test_invalid_lengths(value: str) -> None:
    with pytest.raises(tus.BadHeader, match="upload-length"):
        tus.number({"upload-length": value}, "upload-length")


def test_upload_concat() -> None:
    assert tus.concat(None) == ("", []) and tus.concat("partial") == ("partial", [])
    assert tus.concat("final;/v1/uploads/a http://h/v1/uploads/b/") == ("final", ["a", "b"])
    for wrong in ("final;", "final;/a /a", "other", "final"):
        with pytest.raises(tus.BadHeader, match="Upload-Concat"):
            tus.concat(wrong)


def test_upload_checksum() -> None:
    assert tus.checksum("sha1 " + base64.b64encode(b"x").decode()) == ("sha1", b"x") and tus.checksum(None) is None
    for wrong in ("crc32 YQ==", "sha1 ?", "sha1"):
        if wrong == "sha1":
            assert tus.checksum(wrong) == ("sha1", b""), "an empty digest matches no bytes"
            continue
        with pytest.raises(tus.BadHeader, match="Upload-Checksum"):
            tus.checksum(wrong)


@pytest.mark.parametrize("path", ["", "/a", "a/../b", "../a", "a//b", "a\\b", "a\nb", ".", "a/"])
def test_no_path_leaves_its_container(path: str) -> None:
    with pytest.raises(ValueError, match="inside the container"):
        containers.container_url("scans", path)


def test_a_container_url_round_trips() -> None:
    assert containers.parse_container_url(containers.container_url("scans", "2026/a b.pdf")) == ("scans", "2026/a b.pdf")


def test_equal_names_get_different_paths_in_an_archive() -> None:
    files = [
        {"id": str(n), "file_name": name, "text_blob": f"t/{n}", "result_blob": None}
        for n, name in enumerate(["a.pdf", "A.PDF", "..", "../../b"])
    ]
    assert [path for path, _ in entries_of(files)] == ["a.pdf/text.txt", "A.PDF-1/text.txt", "2/text.txt", "b/text.txt"]


@pytest.mark.parametrize(
    ("value", "right"), [("100", True), ("20000", True), ("99", False), ("20001", False), ("x", False), ("", False), ("-5", False),
                         ("0000000000100", False), ("²", False), ("1e3", False)]
)  # fmt: skip
def test_a_number_among_the_options(value: str, right: bool) -> None:
    job = options.options_of([("IMAGE.LONGEST_SIDE", value)])
    found = options.merge_options(options.Options(), job, {})
    assert ("invalid" not in found) == right
    if right:
        assert found["job"] == {"IMAGE.LONGEST_SIDE": int(value)}


def test_every_connection_leads_to_an_existing_profile() -> None:
    for workflow, profile in names.BUILT_IN_CONNECTIONS.values():
        assert workflow in names.WORKFLOWS
        assert profile == names.DEFAULT_PROFILE or (workflow, profile) in names.PROFILES
    for values in names.PROFILES.values():
        assert options.wrong_value([options.options_of(list(values.items()))]) is None
