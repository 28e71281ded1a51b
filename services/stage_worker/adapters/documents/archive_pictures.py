"""Smaller pictures in a PDF/A, for mail and web pages. Pictures with a colour-key mask are kept."""

from __future__ import annotations

import io
from typing import Any

import pikepdf
from pikepdf import Array, Name, PdfImage, Stream
from PIL import Image

QUALITY = 85
MODES = {"/DeviceRGB": "RGB", "/DeviceGray": "L"}


def shrink_pictures(document: pikepdf.Pdf, longest: int) -> int:
    """Limit pictures to `longest` pixels a side, as JPEG. Returns how many were larger."""
    count = 0
    for item in document.objects:
        if isinstance(item, Stream) and item.get("/Subtype") == Name.Image:
            mode = _mode(item)
            if mode is not None and max(int(item.Width), int(item.Height)) > longest:
                _write(item, mode, longest)
                count += 1
    return count


def _mode(item: Any) -> str | None:
    """Pillow's mode of a picture of plain 8-bit colours; None for any other."""
    if item.get("/ImageMask", False) or int(item.get("/BitsPerComponent", 0)) != 8 or "/Decode" in item or "/Mask" in item:
        return None
    space = item.get("/ColorSpace")
    if isinstance(space, Array) and space[0] == Name.ICCBased:
        profile: Any = space[1]
        return {1: "L", 3: "RGB"}.get(int(profile.N))
    return MODES.get(str(space))


def _write(item: Any, mode: str, longest: int) -> None:
    picture = PdfImage(item).as_pil_image().convert(mode)
    picture.thumbnail((longest, longest), Image.Resampling.LANCZOS)
    packed = io.BytesIO()
    picture.save(packed, "JPEG", quality=QUALITY)
    item.write(packed.getvalue(), filter=Name.DCTDecode)
    item.Width, item.Height = picture.size
