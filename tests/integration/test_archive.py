"""Documents into PDF/A: what stays, what is drawn, what is taken out, what is refused. `test_pdfa.py` has veraPDF judge the results."""

from __future__ import annotations

import io
from pathlib import Path
from typing import Any

import pikepdf
import pypdfium2 as pdfium
import pytest
from pikepdf import Array

from services.stage_worker.core.document_fault import DocumentFault
from tests.integration.archivable import (
    CASES,
    PARTS,
    TEXT,
    contents,
    document,
    frames,
    hybrid,
    linked,
    lively,
    made_of,
    pictured,
    saved,
    words,
)
from tests.unit.test_pdf import protected


@pytest.mark.parametrize("part", PARTS)
def test_a_page_is_drawn_where_an_archive_cannot_take_it(part: int, tmp_path: Path) -> None:
    for name, (make, reasons) in CASES.items():
        data, properties = made_of(saved(make()), tmp_path / "work", part, meta={"META.TITLE": "Ünïcode"})
        drawn = properties.get("warning.ContentRasterized", "")
        assert (reasons[part] or "") in drawn and bool(drawn) == (reasons[part] is not None), f"{name}: {properties}"
        if name not in ("own font", "wrong widths", "unseen text"):
            assert "Total due: 1,240.50" in words(data), f"{name}: its words can be searched, drawn or not"


def test_active_content_is_removed_and_reported(tmp_path: Path) -> None:
    data, properties = made_of(saved(lively()), tmp_path, 2)
    said = {key.removeprefix("warning.") for key in properties if key.startswith("warning.")}
    assert said == {"ActionRemoved", "MultimediaRemoved", "SignatureRemoved"}
    with pikepdf.open(io.BytesIO(data)) as made:
        [link] = made.pages[0].obj.Annots
        assert str(link.A.URI) == "https://example.com" and "/AcroForm" not in made.Root and not made.attachments
    assert "Ada" in words(data), "the form's values are part of the page"


def test_allowed_embedded_files_stay(tmp_path: Path) -> None:
    """An archived hybrid invoice keeps its data, even if its creator omitted optional entries."""
    source = hybrid()
    data, properties = made_of(saved(source), tmp_path / "work", 3)
    assert "warning.MultimediaRemoved" not in properties
    with pikepdf.open(io.BytesIO(data)) as made:
        assert made.attachments["factur-x.xml"].get_file().read_bytes() == b"<invoice/>"
        assert len(made.attachments) == len(made.Root.AF) == 2
    data, properties = made_of(saved(source), tmp_path / "work", 2)
    with pikepdf.open(io.BytesIO(data)) as made:
        assert not made.attachments and "warning.MultimediaRemoved" in properties


def test_links_to_a_rendered_page_still_work(tmp_path: Path) -> None:
    data, properties = made_of(saved(linked()), tmp_path / "work", 2)
    assert "warning.ContentRasterized" in properties
    with pikepdf.open(io.BytesIO(data)) as made, made.open_outline() as outline:
        page: Any = made.pages[0].obj
        [item] = outline.root
        assert item.destination is not None and item.destination[0].objgen == page.objgen
        assert [int(x) for x in page.MediaBox] == [20, 30, 280, 190]
        assert [int(x) for x in page.Annots[0].Rect] == [50, 50, 150, 110]
        assert b"0 1 0 0 k" not in b"".join(contents(made)), "the page's vector content is replaced"


def test_a_rendered_page_looks_as_before(tmp_path: Path) -> None:
    source = document(b"0 1 0 0 k 50 50 100 60 re f " + TEXT)
    source.pages[0].obj.Rotate = 90
    data, _ = made_of(saved(source), tmp_path, 2)
    shown = []
    for some in (saved(source), data):
        with pdfium.PdfDocument(some) as read:
            shown.append(read[0].render(scale=1).to_pil().convert("L"))
    assert shown[0].size == shown[1].size
    apart = [abs(a - b) for a, b in zip(shown[0].tobytes(), shown[1].tobytes(), strict=True)]
    assert sum(apart) / len(apart) < 3


def test_images_and_passwords(tmp_path: Path) -> None:
    data, _ = made_of(frames(), tmp_path / "work", 1, "image")
    with pikepdf.open(io.BytesIO(data)) as made:
        assert len(made.pages) == 3
    opened, _ = made_of(protected("secret"), tmp_path / "work", 1, passwords=["secret"])
    with pikepdf.open(io.BytesIO(opened)) as made:
        assert not made.is_encrypted


@pytest.mark.parametrize(
    ("data", "kind", "code"),
    [(protected("x"), "pdf", "password"), (b"%PDF-1.7 nothing", "pdf", "damaged"), (b"x", "docx", "unsupported_type")],
    ids=["password", "damaged", "unsupported"],  # an encrypted document is another one each time, and so would be its name
)
def test_files_that_cannot_be_archived_are_reported(data: bytes, kind: str, code: str, tmp_path: Path) -> None:
    with pytest.raises(DocumentFault) as refused:
        made_of(data, tmp_path, 2, kind)
    assert refused.value.code == code


def test_a_page_without_a_size(tmp_path: Path) -> None:
    huge = document()
    huge.pages[0].mediabox = Array([0, 0, 20_000, 200])
    with pytest.raises(DocumentFault) as refused:
        made_of(saved(huge), tmp_path, 2)
    assert refused.value.code == "conformance"


def test_large_images_are_reduced(tmp_path: Path) -> None:
    """Plain images with or without a mask are reduced. An image with a colour-key mask stays as it is."""
    data, _ = made_of(saved(pictured()), tmp_path / "work", 2, longest_side=600, linearize=True)
    with pikepdf.open(io.BytesIO(data)) as made:
        found = {name: (int(i.Width), int(i.Height)) for name, i in made.pages[0].obj.Resources.XObject.items()}
        assert made.is_linearized
    assert found == {"/Rgb": (600, 300), "/Grey": (600, 300), "/Keyed": (1200, 600), "/Small": (400, 300)}
