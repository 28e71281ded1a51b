"""Inspection of a page for PDF/A (ISO 19005-1 §6, ISO 19005-2 §6), operator by operator and resource by resource.

A part is known to conform, or is fixed invisibly, or raises `NotArchivable`. Anything unknown is refused.
"""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass, field
from typing import Any

import pikepdf
from pikepdf import Array, Dictionary, Name, Stream

from services.stage_worker.adapters.documents.archive_colours import check_colour_space
from services.stage_worker.adapters.documents.archive_fonts import NotArchivable, fix_font

OPERATORS = frozenset((
    "b", "B", "b*", "B*", "BDC", "BMC", "BT", "c", "cm", "CS", "cs", "d", "Do", "EMC", "ET", "f", "F", "f*", "G", "g", "gs",
    "h", "i", "j", "J", "l", "m", "M", "MP", "DP", "n", "q", "Q", "re", "RG", "rg", "ri", "s", "S", "SC", "sc", "SCN", "scn",
    "sh", "T*", "Tc", "Td", "TD", "Tf", "TJ", "Tj", "TL", "Tm", "Tr", "Ts", "Tw", "Tz", "v", "w", "W", "W*", "y", "'", '"',
    "INLINE IMAGE",
))  # fmt: skip
"""Operators of ISO 32000-1 Annex A without CMYK, Type 3 and compatibility."""
SHOWS = frozenset(("Tj", "TJ", "'", '"'))
INTENTS = (Name.RelativeColorimetric, Name.AbsoluteColorimetric, Name.Perceptual, Name.Saturation)
BLENDS = frozenset(
    ("Normal", "Compatible", "Multiply", "Screen", "Overlay", "Darken", "Lighten", "ColorDodge", "ColorBurn", "HardLight", "SoftLight",
     "Difference", "Exclusion", "Hue", "Saturation", "Color", "Luminosity")
)  # fmt: skip
FILTERS = (
    "/FlateDecode",
    "/DCTDecode",
    "/CCITTFaxDecode",
    "/RunLengthDecode",
    "/ASCIIHexDecode",
    "/ASCII85Decode",
    "/JBIG2Decode",
    "/LZWDecode",
)
"""LZW is rewritten as Flate; JPEG 2000 is refused."""
INLINE_FILTERS = (
    "/Fl",
    "/FlateDecode",
    "/DCT",
    "/DCTDecode",
    "/CCF",
    "/CCITTFaxDecode",
    "/RL",
    "/RunLengthDecode",
    "/AHx",
    "/A85",
)
INLINE_SPACES = ("/DeviceRGB", "/DeviceGray", "/RGB", "/G", "/Indexed", "/I")
MAX_NESTING = 28
MAX_DEPTH = 12


Key = tuple[int, int]


@dataclass
class DocumentInspection:
    """Inspection of one document. Shared parts are inspected once. `level` is the part of PDF/A, 1 to 3."""

    pdf: pikepdf.Pdf
    level: int
    codes: dict[Key, set[int]] = field(default_factory=dict)
    """Font → codes that any page shows in it."""
    fonts: dict[Key, Any] = field(default_factory=dict)
    parts: dict[Key, set[Key] | NotArchivable] = field(default_factory=dict)
    """Picture, form or pattern → its fonts, or the reason why it does not conform."""

    def inspect_page(self, page: pikepdf.Page) -> set[Key]:
        """Fix what can be fixed. Returns the fonts of the page for `fix_fonts`. Raises `NotArchivable` with the reason."""
        if "/Group" in page.obj:
            if self.level == 1:
                del page.obj.Group
            else:
                self._group(page.obj.Group)
        return self._content(page, page.resources, 0)

    def fix_fonts(self) -> dict[Key, str]:
        """Fix the fonts of all inspected pages. Returns font → reason for those that cannot be fixed."""
        wrong: dict[Key, str] = {}
        for key, font in self.fonts.items():
            try:
                fix_font(self.pdf, font, self.codes[key], self.level)
            except NotArchivable as reason:
                wrong[key] = str(reason)
            except Exception as error:  # noqa: BLE001 - a font program can raise anything; its pages are drawn
                wrong[key] = f"font {font.get('/BaseFont')} cannot be read ({type(error).__name__})"
        return wrong

    def _content(self, source: Any, resources: Any, depth: int) -> set[Key]:
        if depth > MAX_DEPTH:
            raise NotArchivable("its parts are nested too deeply")
        used = self._resources(resources, depth)
        fonts = self._fonts(resources)
        state: tuple[Any, int] = (None, 0)
        kept: list[tuple[Any, int]] = []
        for instruction in pikepdf.parse_content_stream(source):
            operands: Any = instruction.operands
            name = str(instruction.operator)
            if name not in OPERATORS:
                raise NotArchivable(
                    "it uses colours of printing (CMYK)" if name in ("k", "K") else f"it uses the operator {name[:10]}"
                )
            if name == "q":
                kept.append(state)
                if len(kept) > MAX_NESTING:
                    raise NotArchivable("its graphics states are nested too deeply")
            elif name == "Q" and kept:
                state = kept.pop()
            elif name == "Tf":
                state = (fonts.get(str(operands[0])), state[1])
            elif name == "Tr":
                state = (state[0], int(operands[0]))
            elif name in SHOWS:
                used.add(self._note_text(state[0], state[1], operands))
            else:
                self._check_operator(name, operands)
        return used

    def _fonts(self, resources: Any) -> dict[str, Any]:
        """Fonts by name, each made indirect, so that a fix reaches every page that uses it."""
        fonts = resources.get("/Font", Dictionary())
        for name, font in list(fonts.items()):
            if not font.is_indirect:
                fonts[name] = self.pdf.make_indirect(font)
        return dict(fonts.items())

    def _note_text(self, font: Any, mode: int, operands: Any) -> Key:
        if font is None:
            raise NotArchivable("it shows text in no font")
        key = font.objgen
        self.fonts[key] = font
        codes = self.codes.setdefault(key, set())
        if mode != 3:  # mode 3 is invisible text, e.g. the OCR layer of a scan
            wide = font.get("/Subtype") == Name.Type0
            for text in _strings(operands):
                found = (int.from_bytes(text[n : n + 2], "big") for n in range(0, len(text), 2)) if wide else text
                codes.update(found)
        return (int(key[0]), int(key[1]))

    def _check_operator(self, name: str, operands: Any) -> None:
        if name == "INLINE IMAGE":
            self._inline(operands[0])
        elif name == "ri" and operands[0] not in INTENTS:
            raise NotArchivable("it names an unknown rendering intent")
        elif name in ("cs", "CS") and operands[0] in (Name.DeviceCMYK, Name.CMYK):
            raise NotArchivable("it uses colours of printing (CMYK)")
        elif name == "BDC" and operands[0] == Name.OC:
            raise NotArchivable("it has layers")

    def _resources(self, resources: Any, depth: int) -> set[Key]:
        used: set[Key] = set()
        for space in _values(resources, "/ColorSpace"):
            self._colours(space)
        for state in _values(resources, "/ExtGState"):
            used |= self._state(state, depth)
        for shading in _values(resources, "/Shading"):
            self._colours(shading.get("/ColorSpace"))
        for item in _values(resources, "/XObject") + _values(resources, "/Pattern"):
            used |= self._inspect_once(item, depth)
        for note in _values(resources, "/Properties"):
            if isinstance(note, Dictionary) and note.get("/Type") in (Name.OCG, Name.OCMD):
                raise NotArchivable("it has layers")
        return used

    def _inspect_once(self, item: Any, depth: int) -> set[Key]:
        """Fonts of a picture, form or pattern, which is inspected the first time only."""
        if not item.is_indirect:
            return self._inspect_part(item, depth)
        known = self.parts.get(item.objgen)
        if known is None:
            try:
                known = self._inspect_part(item, depth)
            except NotArchivable as reason:
                known = reason
            self.parts[item.objgen] = known
        if isinstance(known, NotArchivable):
            raise known
        return known

    def _inspect_part(self, item: Any, depth: int) -> set[Key]:
        if not isinstance(item, Stream):
            self._colours(item.Shading.get("/ColorSpace"))
            return self._state(item.ExtGState, depth) if "/ExtGState" in item else set()
        _drop(item, "/Metadata", "/OPI", "/PieceInfo", "/Alternates")
        kind = item.get("/Subtype")
        if kind == Name.Image:
            self._image(item)
            return set()
        if kind == Name.Form:
            return self._form(item, depth)
        if "/PatternType" in item:
            return self._content(item, item.get("/Resources", Dictionary()), depth + 1)
        raise NotArchivable("it uses PostScript")

    def _form(self, form: Any, depth: int) -> set[Key]:
        if "/PS" in form or "/Ref" in form or "/Subtype2" in form or "/OC" in form:
            raise NotArchivable("it refers to something outside, or to layers")
        if "/Group" in form:
            if self.level == 1:
                raise NotArchivable("something in it is transparent")
            self._group(form.Group)
        resources = form.get("/Resources")
        if resources is None:
            form.Resources = resources = Dictionary()
        return self._content(form, resources, depth + 1)

    def _group(self, group: Any) -> None:
        if "/CS" in group:
            self._colours(group.CS)

    def _image(self, image: Any) -> None:
        _filters(image, FILTERS)
        if image.get("/Interpolate", False):
            image.Interpolate = False
        if "/OC" in image:
            raise NotArchivable("it has layers")
        if image.get("/Intent") is not None and image.Intent not in INTENTS:
            raise NotArchivable("a picture names an unknown rendering intent")
        if not image.get("/ImageMask", False):
            self._colours(image.get("/ColorSpace"))
        if self.level == 1 and ("/SMask" in image or int(image.get("/BitsPerComponent", 8)) > 8):
            raise NotArchivable("something in it is transparent, or has more than 8 bits a colour")
        if "/SMask" in image:
            self._image(image.SMask)

    def _inline(self, image: Any) -> None:
        head = image.unparse().partition(b"ID")[0]
        if b"/Interpolate true" in head or b"/I true" in head:
            raise NotArchivable("a picture in it is to be smoothed")
        if any(str(f) not in INLINE_FILTERS for f in image.filters):
            raise NotArchivable("a picture in it is packed in a way that an archive does not take")
        if b"CMYK" in head or not (image.image_mask or str(image.colorspace) in INLINE_SPACES):
            raise NotArchivable("a picture in it has colours that an archive does not take")

    def _colours(self, space: Any) -> None:
        check_colour_space(space, self.level)

    def _state(self, state: Any, depth: int) -> set[Key]:
        _drop(state, "/TR", "/TR2", "/HT", "/HTP")
        if "/Font" in state:
            raise NotArchivable("a graphics state names a font")
        if "/RI" in state and state.RI not in INTENTS:
            raise NotArchivable("it names an unknown rendering intent")
        blend = state.get("/BM", Name.Normal)
        names = [str(b)[1:] for b in (blend if isinstance(blend, Array) else [blend])]
        if not BLENDS.issuperset(names) or (self.level == 1 and not {"Normal", "Compatible"}.issuperset(names)):
            raise NotArchivable("colours are mixed in a way that an archive does not take")
        mask = state.get("/SMask", Name("/None"))
        if self.level == 1 and (mask != Name("/None") or float(state.get("/CA", 1)) != 1 or float(state.get("/ca", 1)) != 1):
            raise NotArchivable("something in it is transparent")
        if isinstance(mask, Dictionary):
            _drop(mask, "/TR")
            return self._inspect_once(mask.G, depth)
        return set()


def _filters(stream: Any, allowed: Iterable[str]) -> None:
    found = stream.get("/Filter", Array())
    if any(str(f) not in allowed for f in (found if isinstance(found, Array) else [found])):
        raise NotArchivable("a picture in it is packed in a way that an archive does not take")


def _values(resources: Any, kind: str) -> list[Any]:
    return [value for _, value in resources.get(kind, Dictionary()).items()]


def _strings(operands: Any) -> list[bytes]:
    last = operands[-1]
    return [bytes(x) for x in (last if isinstance(last, Array) else [last]) if isinstance(x, pikepdf.String)]


def _drop(container: Any, *keys: str) -> None:
    for key in keys:
        if key in container:
            del container[key]
