"""Fonts of a PDF/A: embedded, with every used glyph and the declared widths (ISO 19005-2 §6.2.11).

A font that is not embedded and is one of the twelve standard text fonts is replaced by PDFium's font of the same metrics.
Anything else is refused (`NotArchivable`), and its page is drawn.
"""

from __future__ import annotations

import ctypes
import io
from collections.abc import Callable, Iterable, Mapping
from functools import cache, lru_cache
from typing import Any

import pikepdf
import pypdfium2 as pdfium
import pypdfium2.raw as pdfium_c
from fontTools.agl import UV2AGL
from fontTools.cffLib import CFFFontSet
from fontTools.encodings.StandardEncoding import StandardEncoding
from fontTools.pens.basePen import NullPen
from fontTools.ttLib import TTFont
from pikepdf import Array, Dictionary, Name, Stream

WIDTH_TOLERANCE = 1.0
SYMBOLIC, NONSYMBOLIC = 4, 32
Widths = Callable[[int], float | None]
"""Code → width of its glyph in thousandths of the font size, or None without a glyph."""
_FAMILIES = {
    "Helvetica": "Helvetica", "Arial": "Helvetica", "ArialMT": "Helvetica", "Times": "Times", "TimesNewRoman": "Times",
    "TimesNewRomanPS": "Times", "TimesNewRomanPSMT": "Times", "Courier": "Courier", "CourierNew": "Courier",
    "CourierNewPSMT": "Courier", "CourierNewPS": "Courier",
}  # fmt: skip
_STYLES = {
    "Helvetica": ("Helvetica", "Helvetica-Bold", "Helvetica-Oblique", "Helvetica-BoldOblique"),
    "Times": ("Times-Roman", "Times-Bold", "Times-Italic", "Times-BoldItalic"),
    "Courier": ("Courier", "Courier-Bold", "Courier-Oblique", "Courier-BoldOblique"),
}


class NotArchivable(Exception):
    """A part of a page does not conform to PDF/A and cannot be fixed. The text is the reason."""


def fix_font(pdf: pikepdf.Pdf, font: Any, codes: Iterable[int], level: int) -> None:
    """Make `font` of `pdf` conform. `codes` are those that are shown; `level` is the part of PDF/A. Raises `NotArchivable`."""
    used = sorted(set(codes))
    kind = font.get("/Subtype")
    if kind == Name.Type0:
        widths, declared = _composite(pdf, font, level)
    elif kind in (Name.Type1, Name.MMType1, Name.TrueType):
        descriptor = font.get("/FontDescriptor")
        if descriptor is None or not any(k in descriptor for k in ("/FontFile", "/FontFile2", "/FontFile3")):
            _embed(pdf, font, used)
            return
        widths, declared = _simple(font, descriptor, level), _declared_widths(font)
    else:
        raise NotArchivable(f"a font of kind {kind} is used")
    for code in used:
        real, claimed = widths(code), declared(code)
        if real is None or claimed is None or abs(real - claimed) > WIDTH_TOLERANCE:
            raise NotArchivable(f"a glyph of font {font.get('/BaseFont')} is missing or has another width than the document says")


def _declared_widths(font: Any) -> Widths:
    """Widths that a simple font's dictionary declares."""
    first, listed = int(font.get("/FirstChar", 0)), font.get("/Widths")
    if listed is None:
        raise NotArchivable("a font says no widths")
    values = [float(w) for w in listed]
    return lambda code: values[code - first] if 0 <= code - first < len(values) else None


def _composite(pdf: pikepdf.Pdf, font: Any, level: int) -> tuple[Widths, Widths]:
    if font.get("/Encoding") not in (Name("/Identity-H"), Name("/Identity-V")):
        raise NotArchivable("a composite font has an encoding of its own")
    [inner] = font.DescendantFonts
    descriptor = inner.get("/FontDescriptor")
    if descriptor is None:
        raise NotArchivable("a composite font is not embedded")
    if "/FontFile2" in descriptor and inner.get("/Subtype") == Name.CIDFontType2:
        program = TTFont(io.BytesIO(descriptor.FontFile2.read_bytes()), lazy=True)
        order, metrics, scale = program.getGlyphOrder(), program["hmtx"], 1000 / program["head"].unitsPerEm
        to_glyph = _cid_to_gid(inner)

        def widths(cid: int) -> float | None:
            gid = to_glyph(cid)
            return metrics[order[gid]][0] * scale if 0 < gid < len(order) else None

        present = {0, *(cid for cid in range(65_536) if 0 < to_glyph(cid) < len(order))}
    elif "/FontFile3" in descriptor and descriptor.FontFile3.get("/Subtype") == Name.CIDFontType0C:
        names, width = read_widths(descriptor.FontFile3.read_bytes())
        by_cid = {int(n[3:]): n for n in names if n.startswith("cid")} or dict(enumerate(names))

        def widths(cid: int) -> float | None:
            return width(by_cid[cid]) if cid in by_cid and cid != 0 else None

        present = {0, *by_cid}
    else:
        raise NotArchivable("a composite font is not embedded")
    _cid_set(pdf, descriptor, inner, present if level == 1 else None)
    return widths, _declared_widths_by_cid(inner)


def _cid_to_gid(inner: Any) -> Callable[[int], int]:
    mapping = inner.get("/CIDToGIDMap")
    if mapping == Name.Identity:
        return lambda cid: cid
    if not isinstance(mapping, Stream):
        raise NotArchivable("a composite font does not say which glyphs its characters are")
    table = mapping.read_bytes()
    return lambda cid: int.from_bytes(table[2 * cid : 2 * cid + 2], "big")


def _declared_widths_by_cid(inner: Any) -> Widths:
    """Widths that `W` of a CIDFont declares (ISO 32000-1 §9.7.4.3)."""
    default = float(inner.get("/DW", 1000))
    found: dict[int, float] = {}
    entries = list(inner.get("/W", Array()))
    at = 0
    while at < len(entries):
        first = int(entries[at])
        if isinstance(entries[at + 1], Array):
            found |= {first + n: float(w) for n, w in enumerate(entries[at + 1])}
            at += 2
        else:
            last = int(entries[at + 1])
            if last - first > 70_000:
                raise NotArchivable("a composite font says widths of more characters than there are")
            found |= dict.fromkeys(range(first, last + 1), float(entries[at + 2]))
            at += 3
    return lambda cid: found.get(cid, default)


def _cid_set(pdf: pikepdf.Pdf, descriptor: Any, inner: Any, present: set[int] | None) -> None:
    """Write the list of characters of a subset for PDF/A-1; remove it for later parts, where it must be exact or absent."""
    if "/CIDSet" in descriptor:
        del descriptor.CIDSet
    if present is not None and "+" in str(inner.get("/BaseFont")):
        bits = bytearray(max(present) // 8 + 1)
        for cid in present:
            bits[cid // 8] |= 0x80 >> cid % 8
        descriptor.CIDSet = pdf.make_stream(bytes(bits))


def _simple(font: Any, descriptor: Any, level: int) -> Widths:
    if "/FontFile2" in descriptor and font.Subtype == Name.TrueType:
        program = TTFont(io.BytesIO(descriptor.FontFile2.read_bytes()), lazy=True)
        return _true_type(program, font, int(descriptor.get("/Flags", 0)), level)
    if "/FontFile3" in descriptor and descriptor.FontFile3.get("/Subtype") == Name.Type1C:
        data = descriptor.FontFile3.read_bytes()
        names, width = read_widths(data)
        if level == 1 and "+" in str(font.get("/BaseFont")):
            descriptor.CharSet = pikepdf.String("".join(f"/{n}" for n in names if n != ".notdef"))
        elif "/CharSet" in descriptor:
            del descriptor.CharSet
        encoding = _encoding(font, _built_in(data))
        return lambda code: (
            width(encoding[code]) if encoding.get(code, ".notdef") in names and encoding[code] != ".notdef" else None
        )
    raise NotArchivable("a font is embedded in a form that is not looked into")


def _true_type(program: TTFont, font: Any, flags: int, level: int) -> Widths:
    metrics, scale = program["hmtx"], 1000 / program["head"].unitsPerEm
    tables = {(t.platformID, t.platEncID): t.cmap for t in program["cmap"].tables}
    encoding = font.get("/Encoding")
    if flags & SYMBOLIC:
        if encoding is not None or (len(tables) != 1 and (level == 1 or (3, 0) not in tables)):
            raise NotArchivable("a symbolic font has an encoding of its own, or several")
        own = tables.get((3, 0)) or next(iter(tables.values()))
        codes = {code: own.get(code) or own.get(0xF000 + code) for code in range(256)}
    else:
        charset = _charset(encoding)
        if charset is None or (3, 1) not in tables:
            raise NotArchivable("a font's encoding is none of the two that an archive takes")
        codes = {n: tables[3, 1].get(ord(bytes([n]).decode(charset, "replace"))) for n in range(256)}

    def widths(code: int) -> float | None:
        glyph = codes.get(code)
        return metrics[glyph][0] * scale if glyph and glyph != ".notdef" else None

    return widths


def read_widths(data: bytes) -> tuple[list[str], Callable[[str], float]]:
    """Glyph names of a CFF program, and a function of name → width in thousandths."""
    fonts = CFFFontSet()
    fonts.decompile(io.BytesIO(data), None)
    top = fonts[0]
    glyphs = top.CharStrings
    scale = float(getattr(top, "FontMatrix", (0.001,))[0]) * 1000

    @cache
    def width(name: str) -> float:
        glyph = glyphs[name]
        glyph.draw(NullPen())
        return float(glyph.width) * scale

    return list(glyphs.keys()), width


def _built_in(data: bytes) -> dict[int, str]:
    fonts = CFFFontSet()
    fonts.decompile(io.BytesIO(data), None)
    own = getattr(fonts[0], "Encoding", "StandardEncoding")
    return dict(enumerate(StandardEncoding if isinstance(own, str) else own))


def _charset(encoding: Any) -> str | None:
    """Python's name of an encoding that PDF/A allows, else None."""
    return "cp1252" if encoding == Name.WinAnsiEncoding else "mac_roman" if encoding == Name.MacRomanEncoding else None


def _encoding(font: Any, built_in: Mapping[int, str]) -> dict[int, str]:
    """Code → glyph name of a simple font (ISO 32000-1 §9.6.6)."""
    encoding = font.get("/Encoding")
    base = encoding.get("/BaseEncoding") if isinstance(encoding, Dictionary) else encoding
    charset = _charset(base)
    if charset is None and base not in (None, Name.StandardEncoding):
        raise NotArchivable("a font has an unknown encoding")
    found = dict(built_in) if base is None else dict(enumerate(StandardEncoding))
    if charset is not None:
        texts = {n: bytes([n]).decode(charset, "ignore") for n in range(32, 256)}
        found = {n: UV2AGL.get(ord(text), ".notdef") for n, text in texts.items() if text} | {0xA0: "space"}
    code = 0
    for entry in encoding.get("/Differences", ()) if isinstance(encoding, Dictionary) else ():
        if isinstance(entry, Name):
            found[code] = str(entry)[1:]
            code += 1
        else:
            code = int(entry)
    return found


def _standard_name(base: str) -> str:
    """`ABCDEF+Arial,Bold` → `Helvetica-Bold`. Raises `NotArchivable`."""
    family, _, style = base.lstrip("/").rpartition("+")[2].replace(",", "-").partition("-")
    known = _FAMILIES.get(family)
    if known is None:
        raise NotArchivable(f"font {base} is not embedded")
    style = style.lower()
    return _STYLES[known][("bold" in style) + 2 * ("italic" in style or "oblique" in style)]


def _embed(pdf: pikepdf.Pdf, font: Any, used: list[int]) -> None:
    """Embed one of the twelve standard fonts: program, encoding and widths."""
    name = _standard_name(str(font.get("/BaseFont")))
    data = built_in_font(name)
    names, width = read_widths(data)
    encoding = _encoding(font, dict(enumerate(StandardEncoding)))
    if any(encoding.get(code) not in names or encoding[code] == ".notdef" for code in used):
        raise NotArchivable(f"font {name} is not embedded, and has not all of the glyphs")
    if "/Widths" in font:
        declared = _declared_widths(font)
        if any((claimed := declared(c)) is None or abs(claimed - width(encoding[c])) > WIDTH_TOLERANCE for c in used):
            raise NotArchivable(f"font {font.get('/BaseFont')} is not embedded, and has other widths than {name}")
    codes = used or [32]
    font.Subtype, font.BaseFont = Name.Type1, Name(f"/{name}")
    font.FirstChar, font.LastChar = codes[0], codes[-1]
    font.Widths = Array([round(width(encoding[c])) if encoding.get(c) in names else 0 for c in range(codes[0], codes[-1] + 1)])
    differences: list[Any] = [x for c in codes if c in encoding for x in (c, Name(f"/{encoding[c]}"))]
    font.Encoding = Dictionary(Type=Name.Encoding, Differences=Array(differences))
    font.FontDescriptor = _descriptor(pdf, name, data)


def _descriptor(pdf: pikepdf.Pdf, name: str, data: bytes) -> Dictionary:
    fonts = CFFFontSet()
    fonts.decompile(io.BytesIO(data), None)
    box = [round(v) for v in getattr(fonts[0], "FontBBox", (-200, -250, 1200, 950))]
    program = pdf.make_stream(data, Subtype=Name.Type1C)
    flags = NONSYMBOLIC | (1 if name.startswith("Courier") else 0) | (2 if name.startswith("Times") else 0)
    slanted = "Oblique" in name or "Italic" in name
    return Dictionary(
        Type=Name.FontDescriptor, FontName=Name(f"/{name}"), Flags=flags | (64 if slanted else 0), FontBBox=Array(box),
        ItalicAngle=-12 if slanted else 0, Ascent=box[3], Descent=box[1], CapHeight=700, StemV=120 if "Bold" in name else 80,
        FontFile3=program,
    )  # fmt: skip


@lru_cache(maxsize=12)
def built_in_font(name: str) -> bytes:
    """PDFium's own CFF program for one of the twelve standard fonts (BSD licence)."""
    probe = pikepdf.Pdf.new()
    page = probe.add_blank_page(page_size=(100, 100))
    font = Dictionary(Type=Name.Font, Subtype=Name.Type1, BaseFont=Name(f"/{name}"))
    page.obj.Resources = Dictionary(Font=Dictionary(F=font))
    page.obj.Contents = probe.make_stream(b"BT /F 10 Tf (A) Tj ET")
    out = io.BytesIO()
    probe.save(out)
    with pdfium.PdfDocument(out.getvalue()) as document:
        shown = next(document[0].get_objects(filter=[pdfium_c.FPDF_PAGEOBJ_TEXT]))
        handle, size = pdfium_c.FPDFTextObj_GetFont(shown.raw), ctypes.c_size_t()
        pdfium_c.FPDFFont_GetFontData(handle, None, 0, ctypes.byref(size))
        buffer = (ctypes.c_uint8 * size.value)()
        pdfium_c.FPDFFont_GetFontData(handle, buffer, size.value, ctypes.byref(size))
        return bytes(buffer)
