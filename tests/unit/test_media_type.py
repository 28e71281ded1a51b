"""The media type of a file whose sender names none."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from services.ingest.core.media_type import is_media_type, media_type_of

DOCX = "application/vnd.openxmlformats-officedocument.wordprocessingml.document"


@pytest.mark.parametrize(
    ("content", "name", "found"),
    [
        (b"%PDF-1.7 x", "a.bin", "application/pdf"), (b"%PDF-1.7", "a.txt", "application/pdf"), (b"\x89PNG\r\n\x1a\n", "a", "image/png"),
        (b"\xff\xd8\xff\xe0", "a", "image/jpeg"), (b"RIFF....WEBPVP8", "a", "image/webp"), (b"PK\x03\x04", "a.zip", "application/zip"),
        (b"PK\x03\x04", "a.docx", DOCX), (b"PK\x03\x04", "a", "application/zip"), (b"\xef\xbb\xbf<?xml version='1.0'?>", "a", "application/xml"),
        (b"<!DOCTYPE html><p>", "a", "text/html"), (b'{"a": 1}', "a", "application/json"), (b"[1]\n", "a", "application/json"),
        ("Größe".encode(), "a", "text/plain"), (b"a;b\n1;2", "a.csv", "text/csv"), (b"hello", "a.png", "text/plain"), (b"", "a.pdf", "application/pdf"),
        (b"", "a", "application/octet-stream"), (b"\x00\x01", "a", "application/octet-stream"), (b"\xff\xfe\x00", "a.txt", "text/plain"),
    ],
)  # fmt: skip
def test_types(content: bytes, name: str, found: str) -> None:
    assert media_type_of(content, name) == found


@given(st.binary(max_size=50), st.text(max_size=20))
def test_any_file_has_a_type_that_a_header_may_hold(content: bytes, name: str) -> None:
    assert is_media_type(media_type_of(content, name))


@pytest.mark.parametrize(
    "value", ["text/plain; charset=utf-8", "application/pdf", 'multipart/x; boundary="a b"', "image/svg+xml"]
)
def test_media_types(value: str) -> None:
    assert is_media_type(value)


@pytest.mark.parametrize("value", ["", "text", "text/plain\r\nx: y", "text/plän", "a/b; c", "/", "a/b\n"])
def test_text_that_is_no_media_type(value: str) -> None:
    assert not is_media_type(value)
