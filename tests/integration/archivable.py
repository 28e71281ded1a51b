"""PDF documents that each hold one feature that PDF/A does not allow, and the expected results."""

from __future__ import annotations

import io
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pikepdf
import pypdfium2 as pdfium
from fontTools.fontBuilder import FontBuilder
from fontTools.pens.ttGlyphPen import TTGlyphPen
from pikepdf import Array, Dictionary, Name, Pdf
from PIL import Image

from services.stage_worker.adapters.documents.archive import archive
from tests.conftest import SAMPLES
from tests.unit.test_pdf import put, quiet

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


def hybrid() -> Pdf:
    """An invoice with embedded data, and an embedded file without any optional entry."""
    made = document()
    made.attachments["factur-x.xml"] = pikepdf.AttachedFileSpec(
        made, b"<invoice/>", filename="factur-x.xml", mime_type="text/xml"
    )
    bare = Dictionary(Type=Name.Filespec, F="note.bin", EF=Dictionary(F=made.make_stream(b"note", Type=Name.EmbeddedFile)))
    made.Root.Names.EmbeddedFiles.Names = Array([*made.Root.Names.EmbeddedFiles.Names, "note.bin", made.make_indirect(bare)])
    return made


def linked() -> Pdf:
    """A cropped page that must be rendered, with a link on it and a bookmark to it."""
    made = document(b"0 1 0 0 k 50 50 100 60 re f " + TEXT)
    made.pages[0].obj.CropBox = Array([20, 30, 280, 190])
    link = Dictionary(
        Type=Name.Annot, Subtype=Name.Link, Rect=Array([50, 50, 150, 110]), A=Dictionary(S=Name.URI, URI="https://example.com")
    )
    made.pages[0].obj.Annots = Array([made.make_indirect(link)])
    with made.open_outline() as outline:
        outline.root.append(pikepdf.OutlineItem("Here", 0))
    return made


def frames() -> bytes:
    """A TIFF of three frames, each of another colour model."""
    images = [Image.new(mode, (60, 80), "red") for mode in ("RGB", "P", "RGBA")]
    out = io.BytesIO()
    images[0].save(out, "TIFF", save_all=True, append_images=images[1:])
    return out.getvalue()


def pictured() -> Pdf:
    """Large images, one of them with a colour-key mask, and a small one."""
    made = Pdf.new()
    page = made.add_blank_page(page_size=(300, 200))
    pictures: dict[str, Any] = {}
    for name, mode in (("Rgb", "RGB"), ("Grey", "L"), ("Keyed", "RGB"), ("Small", "L")):
        size = (400, 300) if name == "Small" else (1200, 600)
        facts = {"ColorSpace": Name.DeviceRGB if mode == "RGB" else Name.DeviceGray, "BitsPerComponent": 8}
        data = Image.effect_noise(size, 40).convert(mode).tobytes()
        pictures[name] = made.make_stream(data, Type=Name.XObject, Subtype=Name.Image, Width=size[0], Height=size[1], **facts)
    pictures["Keyed"].Mask = Array([0, 1, 0, 1, 0, 1])
    page.obj.Resources = Dictionary(XObject=Dictionary(**pictures))
    page.obj.Contents = made.make_stream(b"".join(b"q 200 0 0 100 0 0 cm /%s Do Q " % name.encode() for name in pictures))
    return made


def sample_files() -> list[tuple[Path, str]]:
    """Samples that can be archived, and their kinds."""
    kinds = {".pdf": "pdf", ".png": "image"}
    found = [(path, kinds[path.suffix]) for path in sorted(SAMPLES.iterdir()) if path.suffix in kinds]
    return [(path, kind) for path, kind in found if not path.stem.startswith(("damaged", "locked"))]
