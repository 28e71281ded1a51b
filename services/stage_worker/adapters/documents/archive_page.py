"""What a page of an archived PDF may hold (ISO 19005-1 §6, ISO 19005-2 §6): looked at operator by operator, resource by resource.

Known to be right, mended where that shows nowhere, or `Unfit`: nothing passes because it was not thought of.
"""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass, field
from typing import Any

import pikepdf
from pikepdf import Array, Dictionary, Name, Stream

from services.stage_worker.adapters.documents.archive_colours import judge
from services.stage_worker.adapters.documents.archive_fonts import Unfit, settle

OPERATORS = frozenset((
    "b", "B", "b*", "B*", "BDC", "BMC", "BT", "c", "cm", "CS", "cs", "d", "Do", "EMC", "ET", "f", "F", "f*", "G", "g", "gs",
    "h", "i", "j", "J", "l", "m", "M", "MP", "DP", "n", "q", "Q", "re", "RG", "rg", "ri", "s", "S", "SC", "sc", "SCN", "scn",
    "sh", "T*", "Tc", "Td", "TD", "Tf", "TJ", "Tj", "TL", "Tm", "Tr", "Ts", "Tw", "Tz", "v", "w", "W", "W*", "y", "'", '"',
    "INLINE IMAGE",
))  # fmt: skip
"""All of ISO 32000-1 Annex A but the CMYK, Type 3 and compatibility ones."""
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
"""LZW is written anew as Flate; JPEG 2000 is not looked into."""
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
class Look:
    """One document's looking: what is seen once is not looked at again. `level` is PDF/A's part, 1 to 3."""

    pdf: pikepdf.Pdf
    level: int
    codes: dict[Key, set[int]] = field(default_factory=dict)
    """Font → codes that are shown in it, anywhere."""
    fonts: dict[Key, Any] = field(default_factory=dict)
    parts: dict[Key, set[Key] | Unfit] = field(default_factory=dict)
    """Pictures, forms and patterns that were looked at: their fonts, or what is wrong with them."""

    def page(self, page: pikepdf.Page) -> set[Key]:
        """Mend what can be mended. Returns the page's fonts, which `settle_fonts` judges. Raises `Unfit` with the reason."""
        if "/Group" in page.obj:
            if self.level == 1:
                del page.obj.Group
            else:
                self._group(page.obj.Group)
        return self._content(page, page.resources, 0)

    def settle_fonts(self) -> dict[Key, str]:
        """Once all pages are looked at: the fonts that no archive may hold, with the reason."""
        wrong: dict[Key, str] = {}
        for key, font in self.fonts.items():
            try:
                settle(self.pdf, font, self.codes[key], self.level)
            except Unfit as reason:
                wrong[key] = str(reason)
            except Exception as error:  # noqa: BLE001 - whatever is in a font program, its pages are drawn
                wrong[key] = f"font {font.get('/BaseFont')} cannot be read ({type(error).__name__})"
        return wrong

    def _content(self, source: Any, resources: Any, depth: int) -> set[Key]:
        if depth > MAX_DEPTH:
            raise Unfit("its parts are nested too deeply")
        used = self._resources(resources, depth)
        fonts = self._fonts(resources)
        state: tuple[Any, int] = (None, 0)
        kept: list[tuple[Any, int]] = []
        for instruction in pikepdf.parse_content_stream(source):
            operands: Any = instruction.operands
            name = str(instruction.operator)
            if name not in OPERATORS:
                raise Unfit("it uses colours of printing (CMYK)" if name in ("k", "K") else f"it uses the operator {name[:10]}")
            if name == "q":
                kept.append(state)
                if len(kept) > MAX_NESTING:
                    raise Unfit("its graphics states are nested too deeply")
            elif name == "Q" and kept:
                state = kept.pop()
            elif name == "Tf":
                state = (fonts.get(str(operands[0])), state[1])
            elif name == "Tr":
                state = (state[0], int(operands[0]))
            elif name in SHOWS:
                used.add(self._shown(state[0], state[1], operands))
            else:
                self._other(name, operands)
        return used

    def _fonts(self, resources: Any) -> dict[str, Any]:
        """The fonts by name, each an object of its own: what is mended must be mended for all who use it."""
        fonts = resources.get("/Font", Dictionary())
        for name, font in list(fonts.items()):
            if not font.is_indirect:
                fonts[name] = self.pdf.make_indirect(font)
        return dict(fonts.items())

    def _shown(self, font: Any, mode: int, operands: Any) -> Key:
        if font is None:
            raise Unfit("it shows text in no font")
        key = font.objgen
        self.fonts[key] = font
        codes = self.codes.setdefault(key, set())
        if mode != 3:  # else nobody sees it: what a reader of scans has put under the picture
            wide = font.get("/Subtype") == Name.Type0
            for text in _strings(operands):
                found = (int.from_bytes(text[n : n + 2], "big") for n in range(0, len(text), 2)) if wide else text
                codes.update(found)
        return (int(key[0]), int(key[1]))

    def _other(self, name: str, operands: Any) -> None:
        if name == "INLINE IMAGE":
            self._inline(operands[0])
        elif name == "ri" and operands[0] not in INTENTS:
            raise Unfit("it names an unknown rendering intent")
        elif name in ("cs", "CS") and operands[0] in (Name.DeviceCMYK, Name.CMYK):
            raise Unfit("it uses colours of printing (CMYK)")
        elif name == "BDC" and operands[0] == Name.OC:
            raise Unfit("it has layers")

    def _resources(self, resources: Any, depth: int) -> set[Key]:
        used: set[Key] = set()
        for space in _values(resources, "/ColorSpace"):
            self._colours(space)
        for state in _values(resources, "/ExtGState"):
            used |= self._state(state, depth)
        for shading in _values(resources, "/Shading"):
            self._colours(shading.get("/ColorSpace"))
        for item in _values(resources, "/XObject") + _values(resources, "/Pattern"):
            used |= self._part(item, depth)
        for note in _values(resources, "/Properties"):
            if isinstance(note, Dictionary) and note.get("/Type") in (Name.OCG, Name.OCMD):
                raise Unfit("it has layers")
        return used

    def _part(self, item: Any, depth: int) -> set[Key]:
        """A picture, form or pattern, looked at when it is first met."""
        if not item.is_indirect:
            return self._look_at(item, depth)
        known = self.parts.get(item.objgen)
        if known is None:
            try:
                known = self._look_at(item, depth)
            except Unfit as reason:
                known = reason
            self.parts[item.objgen] = known
        if isinstance(known, Unfit):
            raise known
        return known

    def _look_at(self, item: Any, depth: int) -> set[Key]:
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
        raise Unfit("it uses PostScript")

    def _form(self, form: Any, depth: int) -> set[Key]:
        if "/PS" in form or "/Ref" in form or "/Subtype2" in form or "/OC" in form:
            raise Unfit("it refers to something outside, or to layers")
        if "/Group" in form:
            if self.level == 1:
                raise Unfit("something in it is transparent")
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
            raise Unfit("it has layers")
        if image.get("/Intent") is not None and image.Intent not in INTENTS:
            raise Unfit("a picture names an unknown rendering intent")
        if not image.get("/ImageMask", False):
            self._colours(image.get("/ColorSpace"))
        if self.level == 1 and ("/SMask" in image or int(image.get("/BitsPerComponent", 8)) > 8):
            raise Unfit("something in it is transparent, or has more than 8 bits a colour")
        if "/SMask" in image:
            self._image(image.SMask)

    def _inline(self, image: Any) -> None:
        head = image.unparse().partition(b"ID")[0]
        if b"/Interpolate true" in head or b"/I true" in head:
            raise Unfit("a picture in it is to be smoothed")
        if any(str(f) not in INLINE_FILTERS for f in image.filters):
            raise Unfit("a picture in it is packed in a way that an archive does not take")
        if b"CMYK" in head or not (image.image_mask or str(image.colorspace) in INLINE_SPACES):
            raise Unfit("a picture in it has colours that an archive does not take")

    def _colours(self, space: Any) -> None:
        judge(space, self.level)

    def _state(self, state: Any, depth: int) -> set[Key]:
        _drop(state, "/TR", "/TR2", "/HT", "/HTP")
        if "/Font" in state:
            raise Unfit("a graphics state names a font")
        if "/RI" in state and state.RI not in INTENTS:
            raise Unfit("it names an unknown rendering intent")
        blend = state.get("/BM", Name.Normal)
        names = [str(b)[1:] for b in (blend if isinstance(blend, Array) else [blend])]
        if not BLENDS.issuperset(names) or (self.level == 1 and not {"Normal", "Compatible"}.issuperset(names)):
            raise Unfit("colours are mixed in a way that an archive does not take")
        mask = state.get("/SMask", Name("/None"))
        if self.level == 1 and (mask != Name("/None") or float(state.get("/CA", 1)) != 1 or float(state.get("/ca", 1)) != 1):
            raise Unfit("something in it is transparent")
        if isinstance(mask, Dictionary):
            _drop(mask, "/TR")
            return self._part(mask.G, depth)
        return set()


def _filters(stream: Any, allowed: Iterable[str]) -> None:
    found = stream.get("/Filter", Array())
    if any(str(f) not in allowed for f in (found if isinstance(found, Array) else [found])):
        raise Unfit("a picture in it is packed in a way that an archive does not take")


def _values(resources: Any, kind: str) -> list[Any]:
    return [value for _, value in resources.get(kind, Dictionary()).items()]


def _strings(operands: Any) -> list[bytes]:
    last = operands[-1]
    return [bytes(x) for x in (last if isinstance(last, Array) else [last]) if isinstance(x, pikepdf.String)]


def _drop(container: Any, *keys: str) -> None:
    for key in keys:
        if key in container:
            del container[key]
