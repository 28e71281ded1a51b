"""PDF/A, validated by veraPDF: every sample, and documents that each hold one feature that PDF/A does not allow."""

from __future__ import annotations

import io
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pikepdf
import pypdfium2 as pdfium
import pytest
from fontTools.fontBuilder import FontBuilder
from fontTools.pens.ttGlyphPen import TTGlyphPen
from pikepdf import Array, Dictionary, Name, Pdf
from PIL import Image

from services.stage_worker.adapters.documents.archive import archive
from services.stage_worker.adapters.documents.fault import DocumentFault
from tests.conftest import SAMPLES
from tests.unit.test_pdf import protected, put, quiet
from tests.verapdf import faults

pytestmark = pytest.mark.timeout(240)
PARTS = (1, 2, 3)
TEXT = b"BT /F 12 Tf 20 100 Td (Total due: 1,240.50) Tj ET"


def helvetica(**more: Any) -> Dictionary:
    return Dictionary(Type=Name.Font, Subtype=Name.Type1, BaseFont=Name.Helvetica, Encoding=Name.WinAnsiEncoding, **more)


def document(content: bytes = TEXT, **resources: Any) -> Pdf:
    """A page of one font with `content`."""
    made = Pdf.new()
    page = made.add_blank_page(page_size=(300, 200))
    page.obj.Contents = made.make_stream(content)
    page.obj.Resources = Dictionary(Font=Dictionary(F=helvetica()), **resources)
    return made


def true_type() -> bytes:
    """A font of two glyphs, as a subset in a PDF is."""
    pen = TTGlyphPen(None)
    for move, *lines in (((0, 0), (0, 700), (500, 700), (500, 0)),):
        pen.moveTo(move)
        for line in lines:
            pen.lineTo(line)
        pen.closePath()
    square = pen.glyph()
    builder = FontBuilder(1000, isTTF=True)
    builder.setupGlyphOrder([".notdef", "A"])
    builder.setupCharacterMap({0x41: "A"})
    builder.setupGlyf({".notdef": square, "A": square})
    builder.setupHorizontalMetrics({".notdef": (600, 0), "A": (600, 0)})
    builder.setupHorizontalHeader(ascent=800, descent=-200)
    builder.setupOS2()
    builder.setupPost()
    builder.setupNameTable({"familyName": "Square", "styleName": "Regular"})
    out = io.BytesIO()
    builder.save(out)
    return out.getvalue()


def embedded(width: int) -> Pdf:
    """Text in an embedded font, whose glyph the document declares to be `width` wide."""
    made = document(b"BT /F 12 Tf 20 100 Td (AAA) Tj ET")
    facts = Dictionary(
        Type=Name.FontDescriptor, FontName=Name("/ABCDEF+Square"), Flags=32, FontBBox=Array([0, 0, 500, 700]), ItalicAngle=0, Ascent=800,
        Descent=-200, CapHeight=700, StemV=80, FontFile2=made.make_stream(true_type()),
    )  # fmt: skip
    made.pages[0].obj.Resources.Font.F = Dictionary(
        Type=Name.Font, Subtype=Name.TrueType, BaseFont=Name("/ABCDEF+Square"), Encoding=Name.WinAnsiEncoding, FirstChar=65, LastChar=65,
        Widths=Array([width]), FontDescriptor=made.make_indirect(facts),
    )  # fmt: skip
    return made


def with_layers() -> Pdf:
    made = document(b"/OC /L BDC " + TEXT + b" EMC")
    layer = made.make_indirect(Dictionary(Type=Name.OCG, Name="Layer"))
    made.pages[0].obj.Resources.Properties = Dictionary(L=layer)
    made.Root.OCProperties = Dictionary(OCGs=Array([layer]), D=Dictionary(Order=Array([layer])))
    return made


def lively() -> Pdf:
    """A document with scripts, an attachment, a form, a signature, a film and two links."""
    made = document()
    made.Root.Names = Dictionary(JavaScript=Dictionary(Names=Array(["a", Dictionary(S=Name.JavaScript, JS="app.alert(1)")])))
    made.Root.OpenAction = Dictionary(S=Name.JavaScript, JS="app.alert(2)")
    made.attachments["note.txt"] = pikepdf.AttachedFileSpec(made, b"hello", filename="note.txt", mime_type="text/plain")
    box = Array([10, 10, 90, 30])
    field = Dictionary(Type=Name.Annot, Subtype=Name.Widget, FT=Name.Tx, T="name", V="Ada", Rect=box, DA="/F 10 Tf 0 g", F=4)
    signed = Dictionary(Type=Name.Annot, Subtype=Name.Widget, FT=Name.Sig, T="sig", V=Dictionary(Type=Name.Sig), Rect=box, F=4)
    fields = [made.make_indirect(field), made.make_indirect(signed)]
    made.Root.AcroForm = Dictionary(Fields=Array(fields), DR=Dictionary(Font=Dictionary(F=helvetica())), DA="/F 10 Tf 0 g")
    uri = Dictionary(Type=Name.Annot, Subtype=Name.Link, Rect=box, A=Dictionary(S=Name.URI, URI="https://example.com"))
    launch = Dictionary(Type=Name.Annot, Subtype=Name.Link, Rect=box, A=Dictionary(S=Name.Launch, F="cmd.exe"))
    film = Dictionary(Type=Name.Annot, Subtype=Name.Screen, Rect=box)
    made.pages[0].obj.Annots = made.make_indirect(Array([*fields, *(made.make_indirect(x) for x in (uri, launch, film))]))
    return made


def transparent() -> Pdf:
    return document(b"/G gs " + TEXT, ExtGState=Dictionary(G=Dictionary(Type=Name.ExtGState, ca=0.5)))


CASES: dict[str, tuple[Callable[[], Pdf], dict[int, str | None]]] = {
    "standard font": (document, dict.fromkeys(PARTS)),
    "own font": (lambda: embedded(600), dict.fromkeys(PARTS)),
    "wrong widths": (lambda: embedded(500), dict.fromkeys(PARTS, "another width")),
    "printing colours": (lambda: document(b"0 1 0 0 k " + TEXT), dict.fromkeys(PARTS, "CMYK")),
    "unknown operator": (lambda: document(b"(x) PS " + TEXT), dict.fromkeys(PARTS, "the operator PS")),
    "layers": (with_layers, dict.fromkeys(PARTS, "layers")),
    "transparency": (transparent, {1: "transparent", 2: None, 3: None}),
    "unseen text": (lambda: document(b"BT 3 Tr /F 12 Tf (\\001) Tj ET"), dict.fromkeys(PARTS)),
    "lively": (lively, dict.fromkeys(PARTS)),
}  # fmt: skip
"""Document → per page the reason why it is rendered as an image; None for a page that stays."""


def made_of(data: bytes, folder: Path, part: int, kind: str = "pdf", **config: Any) -> tuple[bytes, dict[str, Any]]:
    folder.mkdir(exist_ok=True)
    result = archive(put(folder, data), {"kind": kind, "part": part, **config}, quiet)
    return (folder / "output").read_bytes(), result["properties"]


def saved(pdf: Pdf) -> bytes:
    out = io.BytesIO()
    pdf.save(out)
    return out.getvalue()


def contents(pdf: Pdf) -> list[bytes]:
    """Every stream that is not an image."""
    return [o.read_bytes() for o in pdf.objects if isinstance(o, pikepdf.Stream) and o.get("/Subtype") != Name.Image]


def words(data: bytes) -> str:
    with pdfium.PdfDocument(data) as read:
        return str(read[0].get_textpage().get_text_bounded())


@pytest.mark.parametrize("part", PARTS)
def test_what_comes_out_is_pdf_a(part: int, tmp_path: Path) -> None:
    folder = tmp_path / "made"
    folder.mkdir()
    for name, (make, reasons) in CASES.items():
        data, properties = made_of(saved(make()), tmp_path / "work", part, meta={"META.TITLE": "Ünïcode"})
        (folder / f"{name}.pdf").write_bytes(data)
        drawn = properties.get("warning.ContentRasterized", "")
        assert (reasons[part] or "") in drawn and bool(drawn) == (reasons[part] is not None), f"{name}: {properties}"
        if name not in ("own font", "wrong widths", "unseen text"):
            assert "Total due: 1,240.50" in words(data), f"{name}: its words can be searched, drawn or not"
    for sample in sorted(SAMPLES.iterdir()):
        kind = {".pdf": "pdf", ".png": "image"}.get(sample.suffix)
        if kind is not None and not sample.stem.startswith(("damaged", "locked")):
            (folder / sample.name).with_suffix(".pdf").write_bytes(made_of(sample.read_bytes(), tmp_path / "work", part, kind)[0])
    made = sorted(folder.glob("*.pdf"))
    assert len(made) >= len(CASES) + 7
    assert faults(made, f"{part}b") == {}


def test_verapdf_rejects_files_that_are_not_pdf_a(tmp_path: Path) -> None:
    (tmp_path / "plain.pdf").write_bytes(saved(document()))
    assert set(faults([tmp_path / "plain.pdf"], "2b")) == {"plain.pdf"}


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
    source = document()
    source.attachments["factur-x.xml"] = pikepdf.AttachedFileSpec(
        source, b"<invoice/>", filename="factur-x.xml", mime_type="text/xml"
    )
    bare = Dictionary(Type=Name.Filespec, F="note.bin", EF=Dictionary(F=source.make_stream(b"note", Type=Name.EmbeddedFile)))
    source.Root.Names.EmbeddedFiles.Names = Array(
        [*source.Root.Names.EmbeddedFiles.Names, "note.bin", source.make_indirect(bare)]
    )
    data, properties = made_of(saved(source), tmp_path / "work", 3)
    (tmp_path / "kept.pdf").write_bytes(data)
    assert faults([tmp_path / "kept.pdf"], "3b") == {} and "warning.MultimediaRemoved" not in properties
    with pikepdf.open(io.BytesIO(data)) as made:
        assert made.attachments["factur-x.xml"].get_file().read_bytes() == b"<invoice/>"
        assert len(made.attachments) == len(made.Root.AF) == 2
    data, properties = made_of(saved(source), tmp_path / "work", 2)
    with pikepdf.open(io.BytesIO(data)) as made:
        assert not made.attachments and "warning.MultimediaRemoved" in properties


def test_links_to_a_rendered_page_still_work(tmp_path: Path) -> None:
    source = document(b"0 1 0 0 k 50 50 100 60 re f " + TEXT)
    source.pages[0].obj.CropBox = Array([20, 30, 280, 190])
    link = Dictionary(
        Type=Name.Annot, Subtype=Name.Link, Rect=Array([50, 50, 150, 110]), A=Dictionary(S=Name.URI, URI="https://example.com")
    )
    source.pages[0].obj.Annots = Array([source.make_indirect(link)])
    with source.open_outline() as outline:
        outline.root.append(pikepdf.OutlineItem("Here", 0))
    data, properties = made_of(saved(source), tmp_path / "work", 2)
    assert "warning.ContentRasterized" in properties
    (tmp_path / "made.pdf").write_bytes(data)
    assert faults([tmp_path / "made.pdf"], "2b") == {}
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
    frames = [Image.new(mode, (60, 80), "red") for mode in ("RGB", "P", "RGBA")]
    out = io.BytesIO()
    frames[0].save(out, "TIFF", save_all=True, append_images=frames[1:])
    (tmp_path / "frames.pdf").write_bytes(made_of(out.getvalue(), tmp_path / "work", 1, "image")[0])
    opened, _ = made_of(protected("secret"), tmp_path / "work", 1, passwords=["secret"])
    (tmp_path / "opened.pdf").write_bytes(opened)
    assert faults([tmp_path / "frames.pdf", tmp_path / "opened.pdf"], "1b") == {}


@pytest.mark.parametrize(
    ("data", "kind", "code"),
    [(protected("x"), "pdf", "password"), (b"%PDF-1.7 nothing", "pdf", "damaged"), (b"x", "docx", "unsupported_type")],
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
    source = Pdf.new()
    page = source.add_blank_page(page_size=(300, 200))
    pictures: dict[str, Any] = {}
    for name, mode in (("Rgb", "RGB"), ("Grey", "L"), ("Keyed", "RGB"), ("Small", "L")):
        size = (400, 300) if name == "Small" else (3000, 1500)
        facts = {"ColorSpace": Name.DeviceRGB if mode == "RGB" else Name.DeviceGray, "BitsPerComponent": 8}
        data = Image.effect_noise(size, 40).convert(mode).tobytes()
        pictures[name] = source.make_stream(data, Type=Name.XObject, Subtype=Name.Image, Width=size[0], Height=size[1], **facts)
    pictures["Keyed"].Mask = Array([0, 1, 0, 1, 0, 1])
    page.obj.Resources = Dictionary(XObject=Dictionary(**pictures))
    page.obj.Contents = source.make_stream(b"".join(b"q 200 0 0 100 0 0 cm /%s Do Q " % name.encode() for name in pictures))
    data, _ = made_of(saved(source), tmp_path / "work", 2, longest_side=600, linearize=True)
    (tmp_path / "small.pdf").write_bytes(data)
    assert faults([tmp_path / "small.pdf"], "2b") == {}
    with pikepdf.open(io.BytesIO(data)) as made:
        found = {name: (int(i.Width), int(i.Height)) for name, i in made.pages[0].obj.Resources.XObject.items()}
        assert made.is_linearized
    assert found == {"/Rgb": (600, 300), "/Grey": (600, 300), "/Keyed": (3000, 1500), "/Small": (400, 300)}
