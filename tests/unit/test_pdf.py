"""PDFs from images and from protected PDFs, merged PDFs, TIFFs, and XML embedded in PDFs."""

from __future__ import annotations

import io
from pathlib import Path

import pikepdf
import pytest
from PIL import Image, ImageSequence

from services.stage_worker.adapters.documents import embedded, tiff
from services.stage_worker.adapters.documents.pdf import convert, merge
from services.stage_worker.adapters.webhook_caller import judge_answer, make_headers
from services.stage_worker.core.document_fault import DocumentFault
from stageline_kit.outcomes import Outcome
from stageline_kit.runner import STATUS
from tests.conftest import SAMPLES


def quiet(done: int, total: int | None) -> None:
    """Ignores progress."""


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
        assert round(float(made.pages[0].mediabox[2])) == round(600 / 300 * 72), "the page uses the resolution of the image"
    big = io.BytesIO()
    Image.new("L", (5000, 5000)).save(big, "PNG")
    convert(put(tmp_path, big.getvalue()), {"kind": "image"}, quiet)
    with pikepdf.open(tmp_path / "output") as made:
        assert float(made.pages[0].mediabox[2]) <= 596, "an image without a resolution fits the page"


def test_a_picture_of_a_phone_is_the_right_way_up(tmp_path: Path) -> None:
    picture, out = Image.new("RGB", (40, 20), "white"), io.BytesIO()
    picture.paste((255, 0, 0), (0, 0, 20, 20))
    exif = Image.Exif()
    exif[0x0112] = 6  # rotated by a quarter: the left of the sensor is the top of the picture
    picture.save(out, "JPEG", exif=exif, quality=95)
    convert(put(tmp_path, out.getvalue()), {"kind": "image"}, quiet)
    with pikepdf.open(tmp_path / "output") as made:
        box = made.pages[0].mediabox
        assert float(box[2]) * 2 == pytest.approx(float(box[3]), rel=0.05), "the picture is upright"
    tiff.convert(tmp_path / "input", {"kind": "image"}, quiet)
    with Image.open(tmp_path / "output") as made_tiff:
        assert made_tiff.size == (20, 40)
        top, bottom = made_tiff.convert("RGB").getpixel((10, 5)), made_tiff.convert("RGB").getpixel((10, 35))
    assert isinstance(top, tuple) and isinstance(bottom, tuple) and top[1] < 60 < 200 < bottom[1], "the red part is at the top"


def test_sixteen_bits_of_grey(tmp_path: Path) -> None:
    deep, out = Image.new("I;16", (30, 30), 0x8000), io.BytesIO()
    deep.save(out, "TIFF")
    convert(put(tmp_path, out.getvalue()), {"kind": "image"}, quiet)
    with pikepdf.open(tmp_path / "output") as made:
        image = pikepdf.PdfImage(made.pages[0].Resources.XObject["/image"]).as_pil_image().convert("L")
    assert abs(image.getpixel((5, 5)) - 128) <= 2, "grey stays grey"
    tiff.convert(tmp_path / "input", {"kind": "image"}, quiet)
    with Image.open(tmp_path / "output") as kept:
        assert kept.mode == "I;16" and kept.getpixel((5, 5)) == 0x8000, "an archive is lossless"


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


def test_data_that_is_not_a_pdf(tmp_path: Path) -> None:
    with pytest.raises(DocumentFault) as refused:
        convert(put(tmp_path, b"%PDF-1.7 nothing"), {"kind": "pdf"}, quiet)
    assert refused.value.code == "damaged"


def frames_of(path: Path) -> list[tuple[str, tuple[int, int], str, float]]:
    with Image.open(path) as picture:
        assert picture.format == "TIFF"
        return [(f.mode, f.size, str(f.info["compression"]), float(f.info["dpi"][0])) for f in ImageSequence.Iterator(picture)]


def test_a_pdf_as_tiff(tmp_path: Path) -> None:
    path = put(tmp_path, protected("secret"))
    config = {"kind": "pdf", "passwords": ["secret"], "meta": {"META.TITLE": "Ours", "META.SUBJECT": "Lost"}}
    properties = tiff.convert(path, config, quiet)["properties"]
    with pikepdf.open(SAMPLES / "contract-nda.pdf") as source:
        sizes = [tuple(round(float(x) / 72 * 300) for x in page.mediabox[2:]) for page in source.pages]
    found = frames_of(tmp_path / "output")
    assert properties["page_count"] == len(found) == len(sizes)
    assert all(
        abs(a - b) <= 1 for (_, size, _, _), wanted in zip(found, sizes, strict=True) for a, b in zip(size, wanted, strict=True)
    )
    assert {(mode, packed, dpi) for mode, _, packed, dpi in found} == {("L", "tiff_adobe_deflate", 300.0)}
    with Image.open(tmp_path / "output") as picture:
        assert picture.getextrema()[0] < 100, "the page is not empty"
        assert picture.tag_v2[270] == "Ours"  # type: ignore[attr-defined]
    assert "META.SUBJECT" in properties["warning.MetadataRemoved"]
    with pytest.raises(DocumentFault) as refused:
        tiff.convert(path, {"kind": "pdf"}, quiet)
    assert refused.value.code == "password"


def test_a_picture_as_tiff_stays_what_it_is(tmp_path: Path) -> None:
    black, grey = Image.new("1", (300, 200), 1), Image.effect_noise((300, 200), 50)
    colour = Image.merge("RGB", [grey, grey.transpose(Image.Transpose.FLIP_LEFT_RIGHT), grey])
    out = io.BytesIO()
    black.save(out, "TIFF", save_all=True, append_images=[grey, colour], dpi=(200, 200))
    assert tiff.convert(put(tmp_path, out.getvalue()), {"kind": "image"}, quiet)["properties"]["page_count"] == 3
    kinds = [(mode, packed, dpi) for mode, _, packed, dpi in frames_of(tmp_path / "output")]
    assert kinds == [("1", "group4", 200.0), ("L", "tiff_adobe_deflate", 200.0), ("RGB", "tiff_adobe_deflate", 200.0)]
    with Image.open(tmp_path / "output") as picture:
        frames = [frame.copy() for frame in ImageSequence.Iterator(picture)]
    assert all(a.tobytes() == b.tobytes() for a, b in zip(frames, (black, grey, colour), strict=True)), "the pixels are equal"


def test_transparent_pixels_are_white_on_paper(tmp_path: Path) -> None:
    out = io.BytesIO()
    Image.new("RGBA", (10, 10), (0, 0, 0, 0)).save(out, "PNG")
    tiff.convert(put(tmp_path, out.getvalue()), {"kind": "image"}, quiet)
    with Image.open(tmp_path / "output") as picture:
        assert picture.mode == "L" and picture.getextrema() == (255, 255)


def test_an_enormous_page_is_drawn_smaller_with_a_warning(tmp_path: Path) -> None:
    with pikepdf.new() as document:
        document.add_blank_page(page_size=(14400, 14400))
        document.save(tmp_path / "input")
    properties = tiff.convert(tmp_path / "input", {"kind": "pdf"}, quiet)["properties"]
    [(_, (width, height), _, _)] = frames_of(tmp_path / "output")
    assert width * height <= tiff.MAX_PIXELS * 1.01 and "dpi" in properties["warning.ContentRasterized"]


@pytest.mark.parametrize(("kind", "code"), [("docx", "unsupported_type"), ("pdf", "damaged")])
def test_what_cannot_be_a_tiff(tmp_path: Path, kind: str, code: str) -> None:
    with pytest.raises(DocumentFault) as refused:
        tiff.convert(put(tmp_path, b"x"), {"kind": kind}, quiet)
    assert refused.value.code == code


def pages_of(data: bytes) -> int:
    with pikepdf.open(io.BytesIO(data)) as document:
        return len(document.pages)


def carrying(**files: bytes) -> bytes:
    """A PDF with embedded files, whose names have `__` for a dot."""
    out = io.BytesIO()
    with pikepdf.open(SAMPLES / "contract-nda.pdf") as document:
        for name, data in files.items():
            spec = pikepdf.AttachedFileSpec(document, data, filename=name.replace("__", "."), mime_type="text/plain")
            document.attachments[name] = spec
        document.save(out)
    return out.getvalue()


def test_xml_embedded_in_a_pdf(tmp_path: Path) -> None:
    path = put(tmp_path, carrying(factur_x__xml=b"<a/>", note__txt=b"no", b__XML=b"<b/>"))
    found = embedded.extract_xml(path, {"kind": "pdf"}, quiet)
    read = {name: (tmp_path / f"output-{n}").read_bytes() for n, name in enumerate(found["names"])}
    assert read == {"factur_x.xml": b"<a/>", "b.XML": b"<b/>"}


def test_too_many_embedded_files_are_reported(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(embedded, "MAX_FILES", 2)
    found = embedded.extract_xml(put(tmp_path, carrying(a__xml=b"<a/>", b__xml=b"<b/>", c__xml=b"<c/>")), {"kind": "pdf"}, quiet)
    assert len(found["names"]) == 2 and "3 XML files" in found["properties"]["warning.PartialExtraction"]


def test_a_name_in_a_pdf_is_no_path(tmp_path: Path) -> None:
    out = io.BytesIO()
    with pikepdf.open(SAMPLES / "contract-nda.pdf") as document:
        for n, name in enumerate(["../../etc/passwd.xml", "C:\\x\\y.xml", "a\r\nX: 1.xml", "..."]):
            spec = pikepdf.AttachedFileSpec(document, b"<a/>", filename=name, mime_type="text/xml")
            document.attachments[f"k{n}"] = spec
        document.save(out)
    names = embedded.extract_xml(put(tmp_path, out.getvalue()), {"kind": "pdf"}, quiet)["names"]
    assert sorted(names) == sorted(["passwd.xml", "y.xml", "aX: 1.xml", "embedded-4.xml"])


@pytest.mark.parametrize(
    ("kind", "data", "code"),
    [("image", b"x", "unsupported_type"), ("pdf", carrying(note__txt=b"no"), "no_xml"), ("pdf", b"%PDF-1.7 nothing", "damaged")],
    ids=["image", "none", "broken"],
)
def test_a_pdf_without_xml(tmp_path: Path, kind: str, data: bytes, code: str) -> None:
    with pytest.raises(DocumentFault) as refused:
        embedded.extract_xml(put(tmp_path, data), {"kind": kind}, quiet)
    assert refused.value.code == code


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
    try:
        judge_answer(status, body, polls)
    except Outcome as outcome:
        kind, code = STATUS[type(outcome)].value, outcome.code
        assert (kind, code, getattr(outcome, "retry_in", None)) == found
    else:
        assert found == ("OK", None, None)


@pytest.mark.parametrize(
    "given", [{"a\r\nb": "1"}, {"a": "1\r\nX: 2"}, {"Host": "x"}, {"": "x"}, {"a": "x" * 5000}, {"Content-Length": "1"}]
)
def test_invalid_headers(given: dict[str, str]) -> None:
    with pytest.raises(DocumentFault):
        make_headers({"headers": given})
