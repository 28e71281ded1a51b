"""The whole text of a Word document (ISO/IEC 29500, strict and transitional): what Word shows, in reading order.

Body, then footnotes, endnotes and comments; headers before it and footers after it. Insertions are read, deletions are not. Lists have
their numbers. Text boxes, content controls, fields, nested tables, charts and embedded HTML are read where they stand.
"""

from __future__ import annotations

import posixpath
import zipfile
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any
from urllib.parse import unquote

from lxml import etree

from services.stage_worker.adapters.documents.list_numbers import ListNumbers, local

MAX_DEPTH = 60
"""Nesting of tables, boxes and embedded documents."""
SKIPPED = frozenset(
    (
        "del",
        "moveFrom",
        "instrText",
        "delText",
        "Fallback",
        "rPr",
        "pPr",
        "tblPr",
        "tcPr",
        "trPr",
        "sectPr",
        "sdtPr",
        "delInstrText",
    )
)
"""Elements whose text Word does not show, or that are read elsewhere. `Fallback` repeats the `Choice` beside it."""
CHARACTERS = {"tab": "\t", "ptab": "\t", "br": "\n", "cr": "\n", "noBreakHyphen": "-", "softHyphen": ""}
Html = Callable[[bytes], str]


class DamagedWord(Exception):
    """The package cannot be read; the text has the reason."""


def read_word(path: Path, html_text: Html) -> str:
    """The text. `html_text` reads embedded HTML. Raises `DamagedWord`."""
    try:
        with zipfile.ZipFile(path) as package:
            return _Reader(package, html_text).whole()
    except (zipfile.BadZipFile, KeyError, OSError, ValueError, RuntimeError, etree.XMLSyntaxError, NotImplementedError) as error:
        raise DamagedWord(str(error) or type(error).__name__) from None


def parsed(data: bytes) -> Any:
    """The root of an XML part. Resolves no entity, fetches nothing. Raises `XMLSyntaxError`."""
    return etree.fromstring(data, etree.XMLParser(resolve_entities=False, no_network=True, huge_tree=False, remove_comments=True))


class _Reader:
    def __init__(self, package: zipfile.ZipFile, html_text: Html) -> None:
        self.package = package
        self.names = set(package.namelist())
        self.html_text = html_text
        self.main = self._main_part()
        numbering = self._related(self.main, "numbering")
        styles = self._related(self.main, "styles")
        self.numbers = ListNumbers(
            parsed(package.read(numbering[0])) if numbering else None, parsed(package.read(styles[0])) if styles else None
        )

    def whole(self) -> str:
        parts = [self._part(name) for name in self._related(self.main, "header")]
        parts.append(self._part(self.main))
        for kind in ("footnotes", "endnotes", "comments", "footer"):
            parts += [self._part(name) for name in self._related(self.main, kind)]
        # The headers of first, even and odd pages are often the same.
        return "\n".join(dict.fromkeys(part for part in parts if part.strip()))

    def _main_part(self) -> str:
        for name in self._related("", "officeDocument"):
            return name
        return "word/document.xml"

    def _relations(self, part: str) -> list[tuple[str, str, str]]:
        """(id, last word of the type, name of the part) of what a part refers to inside the package."""
        folder, name = posixpath.split(part)
        path = posixpath.join(folder, "_rels", f"{name}.rels")
        if path not in self.names:
            return []
        found = []
        for relation in parsed(self.package.read(path)):
            target = unquote(relation.get("Target", ""))
            inside = target.lstrip("/") if target.startswith("/") else posixpath.normpath(posixpath.join(folder, target))
            if relation.get("TargetMode") != "External" and inside in self.names:
                found.append((relation.get("Id", ""), relation.get("Type", "").rpartition("/")[2], inside))
        return found

    def _related(self, part: str, kind: str) -> list[str]:
        return sorted({target for _, type_, target in self._relations(part) if type_ == kind})

    def _part(self, name: str, depth: int = 0) -> str:
        if depth > MAX_DEPTH:
            return ""
        walk = _Walk(self, {i: (kind, target) for i, kind, target in self._relations(name)}, depth)
        return walk.blocks(parsed(self.package.read(name)))

    def embedded(self, target: str, depth: int) -> str:
        """The text of a part that stands within another: a chart, HTML, or a document of its own."""
        if target.endswith((".htm", ".html", ".xhtml", ".mht")):
            return self.html_text(self.package.read(target))
        if target.endswith(".txt"):
            return self.package.read(target).decode("utf-8", "replace")
        if not target.endswith(".xml"):
            return ""
        root = parsed(self.package.read(target))
        if local(root) == "chartSpace":
            # `c:v` are names and values, `a:t` the words of titles.
            return "\n".join(e.text for e in root.iter() if local(e) in ("v", "t") and e.text and e.text.strip())
        return self._part(target, depth + 1)


class _Walk:
    """Reads one part. `relations`: id → (kind, part)."""

    def __init__(self, reader: _Reader, relations: dict[str, tuple[str, str]], depth: int) -> None:
        self.reader = reader
        self.relations = relations
        self.depth = depth

    def blocks(self, element: Any, depth: int = 0) -> str:
        return "\n".join(text for text in self._blocks(element, depth) if text.strip())

    def _blocks(self, element: Any, depth: int) -> Iterator[str]:
        if depth > MAX_DEPTH:
            return
        for child in element:
            name = local(child)
            if name == "p":
                yield self._paragraph(child, depth)
            elif name == "tbl":
                yield from self._rows(child, depth)
            elif name == "altChunk":
                yield self._embedded(child)
            elif name not in SKIPPED and not _is_separator(child):
                yield from self._blocks(child, depth + 1)

    def _rows(self, table: Any, depth: int) -> Iterator[str]:
        for row in _rows_of(table):
            cells = [cell for cell in _cells_of(row) if not _continues(cell)]
            yield "\t".join(self.blocks(cell, depth + 1).replace("\n", " ") for cell in cells)

    def _paragraph(self, paragraph: Any, depth: int) -> str:
        boxes: list[str] = []
        text = "".join(self._runs(paragraph, boxes, depth))
        number = self.reader.numbers.of(paragraph)
        return "\n".join(part for part in (f"{number} {text}" if number and text.strip() else text, *boxes) if part.strip())

    def _runs(self, element: Any, boxes: list[str], depth: int) -> Iterator[str]:
        if depth > MAX_DEPTH:
            return
        for child in element:
            name = local(child)
            if name == "t":
                yield child.text or ""
            elif name in CHARACTERS:
                yield CHARACTERS[name]
            elif name == "sym":
                yield _symbol(child)
            elif name in ("txbxContent", "textbox"):
                boxes.append(self.blocks(child, depth + 1))
            elif name == "chart":
                boxes.append(self._embedded(child))
            elif name not in SKIPPED:
                yield from self._runs(child, boxes, depth + 1)

    def _embedded(self, element: Any) -> str:
        wanted = next((value for key, value in element.attrib.items() if etree.QName(key).localname == "id"), "")
        _, target = self.relations.get(wanted, ("", ""))
        return self.reader.embedded(target, self.depth) if target else ""


def _rows_of(table: Any) -> Iterator[Any]:
    """The rows of a table, also those within content controls and insertions."""
    for child in table:
        if local(child) == "tr":
            if not any(local(e) == "del" for p in child if local(p) == "trPr" for e in p):
                yield child
        elif local(child) in ("sdt", "sdtContent", "ins", "customXml"):
            yield from _rows_of(child)


def _cells_of(row: Any) -> Iterator[Any]:
    for child in row:
        if local(child) == "tc":
            yield child
        elif local(child) in ("sdt", "sdtContent", "ins", "customXml"):
            yield from _cells_of(child)


def _continues(cell: Any) -> bool:
    """True for a cell that is part of the one above it: its text stands there."""
    for properties in cell:
        for merge in properties if local(properties) == "tcPr" else ():
            if local(merge) == "vMerge":
                return next((v for k, v in merge.attrib.items() if etree.QName(k).localname == "val"), "continue") == "continue"
    return False


def _is_separator(note: Any) -> bool:
    """True for the line between text and footnotes, which is stored as a footnote."""
    kind = next((v for k, v in note.attrib.items() if etree.QName(k).localname == "type"), "")
    return kind in ("separator", "continuationSeparator", "continuationNotice")


def _symbol(element: Any) -> str:
    code = next((v for k, v in element.attrib.items() if etree.QName(k).localname == "char"), "")
    try:
        value = int(code, 16)
    except ValueError:
        return ""
    # Symbol fonts lie in the private area: no character of Unicode says what they show.
    return chr(value) if 32 <= value < 0xE000 and not 0xD800 <= value < 0xE000 else ""
