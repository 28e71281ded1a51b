"""PDFs of images and of protected PDFs, and many as one."""

from __future__ import annotations

import io
from pathlib import Path

import pikepdf
import pytest
from PIL import Image

from services.stage_worker.adapters.calling import headers, judge
from services.stage_worker.adapters.documents.fault import DocumentFault
from services.stage_worker.adapters.documents.pdf import convert, merge
from tests.conftest import SAMPLES


def quiet(done: int, total: int | None) -> None:
    """Nobody listens."""


def put(folder: Path, data: bytes, name: str = "input") -> Path:
    (folder / name).write_bytes(data)
    return folder / name


def protected(password: str) -> bytes:
    out = io.BytesIO()
    with pikepdf.open(SAMPLES / "contract-nda.pdf") as document:
        document.save(out, encryption=pikepdf.Encryption(user=password, owner="owner"))
    return out.getvalue()


def test_a_protected_pdf_needs_one_of_the_passwords(tmp_path: Path) -> None:
    path = put(tmp_path, protected("secret"))
    result = convert(path, {"kind": "pdf", "passwords": ["wrong", "secret"], "meta": {"META.TITLE": "Ours"}}, quiet)
    with pikepdf.open(tmp_path / "output") as made, pikepdf.open(SAMPLES / "contract-nda.pdf") as source:
        assert len(made.pages) == len(source.pages) == result["properties"]["page_count"] and not made.is_encrypted
        assert str(made.docinfo["/Title"]) == "Ours"
    with pytest.raises(DocumentFault) as refused:
        convert(path, {"kind": "pdf", "passwords": ["wrong"]}, quiet)
    assert refused.value.code == "password"


def test_an_image_with_pages(tmp_path: Path) -> None:
    frames = [Image.new("RGB", (600 + n, 800), (n, 0, 0)) for n in range(3)]
    out = io.BytesIO()
    frames[0].save(out, "TIFF", save_all=True, append_images=frames[1:], dpi=(300, 300))
    assert convert(put(tmp_path, out.getvalue()), {"kind": "image"}, quiet)["properties"]["page_count"] == 3
    with pikepdf.open(tmp_path / "output") as made:
        assert round(float(made.pages[0].mediabox[2])) == round(600 / 300 * 72), "its own resolution"
    big = io.BytesIO()
    Image.new("L", (5000, 5000)).save(big, "PNG")
    convert(put(tmp_path, big.getvalue()), {"kind": "image"}, quiet)
    with pikepdf.open(tmp_path / "output") as made:
        assert float(made.pages[0].mediabox[2]) <= 596, "without one it fits a page"


def test_many_become_one_in_order(tmp_path: Path) -> None:
    for name, source in (("input", "contract-nda.pdf"), ("input-1", "invoice-acme-2026-0042.pdf")):
        put(tmp_path, (SAMPLES / source).read_bytes(), name)
    sizes = [len(pikepdf.open(tmp_path / name).pages) for name in ("input", "input-1")]
    assert merge(tmp_path / "input", {"inputs": 2}, quiet)["pages"] == sum(sizes)


@pytest.mark.parametrize("kind", ["docx", "text", "None"])
def test_what_cannot_be_converted(tmp_path: Path, kind: str) -> None:
    with pytest.raises(DocumentFault) as refused:
        convert(put(tmp_path, b"x"), {"kind": kind}, quiet)
    assert refused.value.code == "unsupported_type"


def test_what_is_no_pdf(tmp_path: Path) -> None:
    with pytest.raises(DocumentFault) as refused:
        convert(put(tmp_path, b"%PDF-1.7 nothing"), {"kind": "pdf"}, quiet)
    assert refused.value.code == "damaged"


@pytest.mark.parametrize(
    ("status", "body", "polls", "found"),
    [
        (200, b"", 0, ("OK", None, None)), (204, b"x", 0, ("OK", None, None)), (201, b"", 0, ("ERR", "http_201", None)),
        (500, b'{"code": "busy", "message": "later"}', 0, ("ERR", "busy", None)), (429, b'{"retry_in": 7}', 31, ("QUEUED", "http_429", 7.0)),
        (429, b'{"retry_in": 7}', 32, ("KO", "http_429", None)), (500, b'{"retry_in": true}', 0, ("ERR", "http_500", None)),
        (500, b'{"retry_in": -1}', 0, ("ERR", "http_500", None)), (500, b"[" * 5000, 0, ("ERR", "http_500", None)),
        (400, b"null", 0, ("ERR", "http_400", None)),
    ],
)  # fmt: skip
def test_what_an_address_answers(status: int, body: bytes, polls: int, found: tuple[str, str | None, float | None]) -> None:
    answer = judge(status, body, polls)
    assert (answer.status.value, answer.code, answer.retry_in) == found


@pytest.mark.parametrize(
    "given", [{"a\r\nb": "1"}, {"a": "1\r\nX: 2"}, {"Host": "x"}, {"": "x"}, {"a": "x" * 5000}, {"Content-Length": "1"}]
)
def test_headers_that_are_none(given: dict[str, str]) -> None:
    with pytest.raises(DocumentFault):
        headers({"headers": given})
