"""Colour spaces of a PDF/A: defined by the output intent (sRGB), or by a profile of their own (ISO 19005-2 §6.2.4)."""

from __future__ import annotations

from typing import Any

from pikepdf import Array, Name

from services.stage_worker.adapters.documents.archive_fonts import NotArchivable

PLAIN_SPACES = (Name.DeviceRGB, Name.DeviceGray, Name.RGB, Name.G, Name.Pattern)
PRINTING = (Name.DeviceCMYK, Name.CMYK)


def check_colour_space(space: Any, level: int) -> None:
    """Check one colour space, or None. Raises `NotArchivable`."""
    if space is None or (isinstance(space, Name) and space in PLAIN_SPACES):
        return
    if not isinstance(space, Array):
        raise NotArchivable("it uses colours of printing (CMYK)" if space in PRINTING else "it uses unknown colours")
    kind: Any = space[0]
    if kind == Name.ICCBased:
        _profile(space[1], level)
    elif kind in (Name.Indexed, Name.Pattern):
        check_colour_space(space[1] if len(space) > 1 else None, level)
    elif kind not in (Name.CalRGB, Name.CalGray, Name.Lab, *PLAIN_SPACES):
        raise NotArchivable("it uses colours of printing (CMYK, or inks by name)")


def _profile(stream: Any, level: int) -> None:
    """The header of a profile (ICC.1 §7.2) must agree with its use in the document."""
    data = stream.read_bytes()
    spaces = {b"GRAY": 1, b"RGB ": 3, b"Lab ": 3}
    known = len(data) >= 128 and data[36:40] == b"acsp" and data[8] <= (2 if level == 1 else 4)
    if (
        not known
        or data[12:16] not in (b"prtr", b"mntr", b"scnr", b"spac")
        or spaces.get(data[16:20]) != int(stream.get("/N", 0))
    ):
        raise NotArchivable("it uses a colour profile that an archive does not take")
    for key in ("/Metadata", "/Alternate"):
        if key in stream:
            del stream[key]
