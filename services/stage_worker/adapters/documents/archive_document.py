"""The document around the pages of a PDF/A: no scripts, no multimedia, one output intent, XMP with part and conformance."""

from __future__ import annotations

import re
from datetime import UTC, datetime
from typing import Any

import pikepdf
from pikepdf import Array, Dictionary, Name
from pikepdf.models.metadata import encode_pdf_date

from services.stage_worker.adapters.documents.icc import srgb

GONE = (
    "/AA", "/OpenAction", "/Requirements", "/Perms", "/Collection", "/Legal", "/NeedsRendering", "/Metadata", "/OutputIntents",
    "/OCProperties", "/PieceInfo", "/SpiderInfo", "/Threads", "/URI", "/AF",
)  # fmt: skip
"""Entries of the catalogue that are removed; some of them are written again."""
MOVES = ("/Movie", "/Sound", "/Screen", "/3D", "/RichMedia", "/FileAttachment")
HARMLESS = (Name.URI, Name.GoTo)
"""Actions that stay."""
DESCRIBED = ("/Title", "/Author", "/Subject", "/Keywords", "/Creator", "/Producer", "/CreationDate", "/ModDate")
"""Entries of the information dictionary that XMP repeats (ISO 19005-1 §6.7.3)."""
PRINT = 4
_XMP_END = "</rdf:RDF>"


def remove_forbidden(document: pikepdf.Pdf, part: int, notes: dict[str, str]) -> None:
    """Remove what PDF/A forbids outside of pages. Losses are added to `notes` (event code → text)."""
    root: Any = document.Root
    _signatures(root, notes)
    _scripts(root, notes)
    if "/AcroForm" in root and _unshown(root.AcroForm.get("/Fields", ())):
        root.AcroForm.NeedAppearances = True
    document.generate_appearance_streams()
    document.flatten_annotations("all")
    if "/AcroForm" in root:
        del root.AcroForm
    for key in GONE:
        if key in root:
            if key == "/OCProperties":
                notes["LayersRemoved"] = "Layers are as they are shown at first."
            del root[key]
    _embedded(document, part, notes)
    for page in document.pages:
        for key in ("/AA", "/Metadata", "/PieceInfo", "/PresSteps", "/Thumb", "/AF"):
            if key in page.obj:
                del page.obj[key]
        _annotations(page, notes)
    _outlines(root, notes)


def _embedded(document: pikepdf.Pdf, part: int, notes: dict[str, str]) -> None:
    """Only PDF/A-3 keeps embedded files (ISO 19005-3 §6.8), each with a type and listed in the catalogue."""
    root: Any = document.Root
    specs: list[Any] = [spec.obj for spec in document.attachments.values()]
    if part == 3:
        for spec in specs:
            if "/AFRelationship" not in spec:
                spec.AFRelationship = Name.Unspecified
            spec.UF = spec.get("/UF", spec.get("/F", "file"))
            spec.F = spec.UF
            stream = spec.EF.get("/F", spec.EF.get("/UF"))
            if "/Subtype" not in stream:
                stream.Subtype = Name("/application/octet-stream")
            if "/Params" not in stream:
                stream.Params = Dictionary()
            if "/ModDate" not in stream.Params:
                stream.Params.ModDate = encode_pdf_date(datetime.now(UTC))
        if specs:
            root.AF = Array(specs)
    elif specs:
        del root.Names.EmbeddedFiles
        notes["MultimediaRemoved"] = f"Embedded files were taken out: PDF/A-{part} takes none."


def _signatures(root: Any, notes: dict[str, str]) -> None:
    def fields(listed: Any, depth: int = 0) -> bool:
        return any(
            (f.get("/FT") == Name.Sig and "/V" in f) or (depth < 20 and fields(f.get("/Kids", ()), depth + 1))
            for f in listed
            if isinstance(f, Dictionary)
        )

    if "/AcroForm" in root and fields(root.AcroForm.get("/Fields", ())):
        notes["SignatureRemoved"] = "The document was signed; what is changed is no longer signed."


def _unshown(listed: Any, depth: int = 0) -> bool:
    """True if a text field has a value and no appearance."""
    return any(
        (f.get("/FT") == Name.Tx and "/V" in f and "/AP" not in f and "/Kids" not in f)
        or (depth < 20 and _unshown(f.get("/Kids", ()), depth + 1))
        for f in listed
        if isinstance(f, Dictionary)
    )


def _scripts(root: Any, notes: dict[str, str]) -> None:
    names = root.get("/Names")
    if names is not None and "/JavaScript" in names:
        del names.JavaScript
        notes["ActionRemoved"] = "Scripts were taken out."
    if "/OpenAction" in root or "/AA" in root:
        notes.setdefault("ActionRemoved", "What was to happen on opening was taken out.")


def _annotations(page: pikepdf.Page, notes: dict[str, str]) -> None:
    """Keep links to a place or an address. Other visible annotations are part of the page already."""
    kept: list[Any] = []
    for note in page.obj.get("/Annots", ()):
        if note.get("/Subtype") == Name.Link and _harmless(note.get("/A")) and ("/A" in note or "/Dest" in note):
            for key in ("/AA", "/PA", "/AP", "/OC", "/AF", "/CA"):
                if key in note:
                    del note[key]
            note.F = PRINT
            kept.append(note)
        elif str(note.get("/Subtype")) in MOVES:
            notes["MultimediaRemoved"] = "Sound, films and attachments were taken out."
        elif note.get("/Subtype") == Name.Link:
            notes["ActionRemoved"] = "Links that run or send something were taken out."
        elif note.get("/Subtype") not in (Name.Popup, Name.Widget):
            notes["AnnotationRemoved"] = "Notes that are not part of the page were taken out."
    if kept:
        page.obj.Annots = Array(kept)
    elif "/Annots" in page.obj:
        del page.obj.Annots


def _harmless(action: Any) -> bool:
    return action is None or (action.get("/S") in HARMLESS and "/Next" not in action)


def _outlines(root: Any, notes: dict[str, str]) -> None:
    if "/Outlines" not in root:
        return
    met: set[tuple[int, int]] = set()
    waiting: list[Any] = [root.Outlines]
    while waiting:
        item = waiting.pop()
        if not _harmless(item.get("/A")):
            del item.A
            notes["ActionRemoved"] = "Bookmarks that run or send something lead nowhere now."
        for key in ("/First", "/Next"):
            following = item.get(key)
            if not isinstance(following, Dictionary) or following.objgen in met:
                if key in item:
                    del item[key]  # a circle of bookmarks would never end
            else:
                met.add(following.objgen)
                waiting.append(following)


def describe_document(document: pikepdf.Pdf, part: int, more: str | None = None) -> None:
    """Write output intent, XMP and information dictionary. `more`: XMP of another standard, as `rdf:Description` elements."""
    profile = document.make_stream(srgb(), N=3)
    intent = Dictionary(
        Type=Name.OutputIntent, S=Name.GTS_PDFA1, OutputConditionIdentifier="sRGB IEC61966-2.1", Info="sRGB IEC61966-2.1",
        RegistryName="http://www.color.org", DestOutputProfile=profile,
    )  # fmt: skip
    document.Root.OutputIntents = Array([document.make_indirect(intent)])
    info = document.docinfo
    for key in list(info.keys()):
        if key not in DESCRIBED:
            del info[key]
    info["/Producer"] = "Stageline"
    with document.open_metadata(set_pikepdf_as_editor=False, update_docinfo=True) as xmp:
        xmp.load_from_docinfo(info)
        xmp["pdfaid:part"], xmp["pdfaid:conformance"] = str(part), "B"
    if more is not None:
        stream: Any = document.Root.Metadata
        text = stream.read_bytes().decode()
        assert _XMP_END in text
        stream.write(re.sub(re.escape(_XMP_END), lambda _: more + _XMP_END, text, count=1).encode())
