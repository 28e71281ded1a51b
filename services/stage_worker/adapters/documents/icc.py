"""The sRGB profile (ICC version 2.1) that PDF/A documents name as their output intent.

Encoding by ICC.1:2001-04 §6 (header, tag table, XYZ, curv, desc, text); primaries of IEC 61966-2-1 adapted to D50; transfer function of the
same standard at 1,024 points. PDF/A-1 allows profiles of version 2 only, and Pillow's own has version 4.
"""

from __future__ import annotations

import struct
from functools import lru_cache

D50 = (0.9642, 1.0, 0.8249)
PRIMARIES = ((0.4360657, 0.2224884, 0.0139160), (0.3851471, 0.7168732, 0.0970764), (0.1430664, 0.0606079, 0.7140961))
POINTS = 1024


@lru_cache(maxsize=1)
def srgb() -> bytes:
    """The profile's bytes; equal at every call."""
    curve = _curve()
    tags = [
        (b"desc", _description("sRGB IEC61966-2.1")), (b"cprt", b"text\0\0\0\0No copyright, use freely\0"), (b"wtpt", _xyz(D50)),
        *((name, _xyz(value)) for name, value in zip((b"rXYZ", b"gXYZ", b"bXYZ"), PRIMARIES, strict=True)),
        *((name, curve) for name in (b"rTRC", b"gTRC", b"bTRC")),
    ]  # fmt: skip
    return _profile(tags)


def _profile(tags: list[tuple[bytes, bytes]]) -> bytes:
    at = 128 + 4 + 12 * len(tags)
    table, body, placed = struct.pack(">I", len(tags)), b"", {}
    for name, data in tags:
        if data not in placed:
            placed[data] = at + len(body)
            body += data + b"\0" * (-len(data) % 4)
        table += struct.pack(">4sII", name, placed[data], len(data))
    header = struct.pack(
        ">I4sI4s4s4s6H4s4sI4s4sQI3I4s44x", at + len(body), b"\0\0\0\0", 0x02100000, b"mntr", b"RGB ", b"XYZ ", 2026, 1, 1, 0, 0, 0,
        b"acsp", b"\0\0\0\0", 0, b"\0\0\0\0", b"\0\0\0\0", 0, 0, *map(_fixed, D50), b"\0\0\0\0",
    )  # fmt: skip
    return header + table + body


def _fixed(value: float) -> int:
    """Encode an s15Fixed16Number."""
    return round(value * 65536)


def _xyz(value: tuple[float, float, float]) -> bytes:
    return b"XYZ \0\0\0\0" + struct.pack(">3I", *map(_fixed, value))


def _description(text: str) -> bytes:
    ascii_ = text.encode() + b"\0"
    return b"desc\0\0\0\0" + struct.pack(">I", len(ascii_)) + ascii_ + b"\0" * (4 + 4 + 2 + 1 + 67)


def _curve() -> bytes:
    def linear(v: float) -> float:
        return v / 12.92 if v <= 0.04045 else ((v + 0.055) / 1.055) ** 2.4

    values = [round(linear(n / (POINTS - 1)) * 65535) for n in range(POINTS)]
    return b"curv\0\0\0\0" + struct.pack(f">I{POINTS}H", POINTS, *values)
