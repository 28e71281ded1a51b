"""The numbers of a Word document's lists (ISO/IEC 29500-1, §17.9), which are stored as rules and not as text."""

from __future__ import annotations

from typing import Any

from lxml import etree

LEVELS = 9
ROMAN = ((1000, "m"), (900, "cm"), (500, "d"), (400, "cd"), (100, "c"), (90, "xc"), (50, "l"), (40, "xl"), (10, "x"), (9, "ix"), (5, "v"), (4, "iv"), (1, "i"))  # fmt: skip
Level = tuple[int, str, str]
"""First number, format, and text such as `%1.%2`."""


def local(element: Any) -> str:
    """The name of an element without its namespace, which differs between strict and transitional files."""
    tag = element.tag
    return tag.rpartition("}")[2] if isinstance(tag, str) else ""


def value_of(element: Any, name: str = "val") -> str:
    """The value of an attribute, whatever its namespace; empty when there is none."""
    return next((str(v) for k, v in element.attrib.items() if etree.QName(k).localname == name), "")


def child_of(element: Any, *names: str) -> Any | None:
    """The element at the end of a path of child elements; None where one is missing."""
    for name in names:
        element = next((child for child in element if local(child) == name), None)
        if element is None:
            return None
    return element


class ListNumbers:
    """Counts the paragraphs of each list, in the order in which they are asked for."""

    def __init__(self, numbering: Any | None, styles: Any | None) -> None:
        abstract: dict[str, dict[int, Level]] = {}
        self.levels: dict[str, dict[int, Level]] = {}
        self.list_of: dict[str, str] = {}
        for element in numbering if numbering is not None else ():
            if local(element) == "abstractNum":
                abstract[value_of(element, "abstractNumId")] = dict(map(_level, (e for e in element if local(e) == "lvl")))
            elif local(element) == "num":
                self._add(element, abstract)
        self.of_style = {value_of(e, "styleId"): found for e in styles if (found := _own(e))} if styles is not None else {}
        self.counts: dict[str, list[int]] = {}

    def _add(self, element: Any, abstract: dict[str, dict[int, Level]]) -> None:
        number, base = value_of(element, "numId"), child_of(element, "abstractNumId")
        shared = value_of(base) if base is not None else ""
        levels, overridden = dict(abstract.get(shared, {})), False
        for change in (e for e in element if local(e) == "lvlOverride"):
            at, start, own = int(value_of(change, "ilvl") or 0), child_of(change, "startOverride"), child_of(change, "lvl")
            if own is not None:
                levels[at] = _level(own)[1]
            if start is not None:
                _, form, text = levels.get(at, (1, "decimal", f"%{at + 1}."))
                levels[at], overridden = (_number(value_of(start), 1), form, text), True
        self.levels[number] = levels
        # Lists of one definition go on counting, unless one begins again.
        self.list_of[number] = number if overridden else f"shared {shared}"

    def of(self, paragraph: Any) -> str:
        """The number of a paragraph, such as `2.1.` or `•`; empty for one that is in no list. Counts it."""
        properties = child_of(paragraph, "pPr")
        style = child_of(properties, "pStyle") if properties is not None else None
        found = _own(paragraph) or (self.of_style.get(value_of(style)) if style is not None else None)
        if not found or found[0] == "0" or found[0] not in self.levels:
            return ""
        number, at = found
        levels = self.levels[number]
        if at not in levels:
            return ""
        counts = self.counts.setdefault(self.list_of[number], [0] * LEVELS)
        counts[at] = max(counts[at] + 1, levels[at][0]) if counts[at] else levels[at][0]
        counts[at + 1 :] = [0] * (LEVELS - at - 1)
        return _written(levels, counts, at)


def _own(element: Any) -> tuple[str, int] | None:
    """(List, level) that a paragraph or a style names."""
    found = child_of(element, "pPr", "numPr")
    if found is None:
        return None
    number, level = child_of(found, "numId"), child_of(found, "ilvl")
    at = min(_number(value_of(level), 0) if level is not None else 0, LEVELS - 1)
    return (value_of(number), max(0, at)) if number is not None else None


def _level(element: Any) -> tuple[int, Level]:
    start, form, text = (child_of(element, name) for name in ("start", "numFmt", "lvlText"))
    return min(max(_number(value_of(element, "ilvl"), 0), 0), LEVELS - 1), (
        _number(value_of(start), 1) if start is not None else 1,
        value_of(form) if form is not None else "decimal",
        value_of(text) if text is not None else "",
    )


def _number(text: str, other: int) -> int:
    return int(text) if text.isascii() and text.lstrip("-").isdigit() and len(text) < 10 else other


def _written(levels: dict[int, Level], counts: list[int], at: int) -> str:
    _, form, text = levels[at]
    if form == "bullet":
        return "•"
    if form == "none":
        return ""
    for other in range(at + 1):
        start, its_form, _ = levels.get(other, (1, "decimal", ""))
        text = text.replace(f"%{other + 1}", in_form(counts[other] or start, its_form))
    return text


def in_form(number: int, form: str) -> str:
    """A number as its format writes it: decimal, letters or Roman numerals."""
    if number <= 0:
        return str(number)
    if form in ("lowerLetter", "upperLetter"):
        letters = chr(ord("a") + (number - 1) % 26) * min((number - 1) // 26 + 1, 30)
        return letters.upper() if form == "upperLetter" else letters
    if form in ("lowerRoman", "upperRoman") and number < 4000:
        written, left = "", number
        for value, digits in ROMAN:
            written += digits * (left // value)
            left %= value
        return written.upper() if form == "upperRoman" else written
    return f"{number:02}" if form == "decimalZero" else str(number)
