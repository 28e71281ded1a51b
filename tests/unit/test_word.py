"""What Word shows is read, and nothing else: each case is a part of a package, as Word writes it."""

from __future__ import annotations

import zipfile
from pathlib import Path

import pytest

from services.stage_worker.adapters.documents.list_numbers import in_form
from services.stage_worker.adapters.documents.text import extract_text, html_text, page_text
from services.stage_worker.adapters.documents.word import DamagedWord, read_word
from tests.conftest import SAMPLES

W = "http://schemas.openxmlformats.org/wordprocessingml/2006/main"
STRICT = "http://purl.oclc.org/ooxml/wordprocessingml/main"
OFFICE = "http://schemas.openxmlformats.org/officeDocument/2006/relationships"
SPACES = (
    f'xmlns:r="{OFFICE}" xmlns:mc="http://schemas.openxmlformats.org/markup-compatibility/2006" xmlns:v="urn:schemas-microsoft-com:vml" '
    'xmlns:wps="http://schemas.microsoft.com/office/word/2010/wordprocessingShape" xmlns:c="http://schemas.openxmlformats.org/drawingml/2006/chart"'
)


def word(folder: Path, body: str, space: str = W, **parts: str | bytes) -> Path:
    """A package with this body. Other parts are related to it by their names: `footnotes`, `header`, …"""
    path = folder / "document.docx"
    relations = "".join(
        f'<Relationship Id="{name}" Type="{OFFICE}/{name.rstrip("0123456789")}" Target="{_file(name)}"/>' for name in parts
    )
    with zipfile.ZipFile(path, "w") as package:
        package.writestr(
            "_rels/.rels", _relations(f'<Relationship Id="r" Type="{OFFICE}/officeDocument" Target="word/document.xml"/>')
        )
        package.writestr("word/document.xml", f'<w:document xmlns:w="{space}" {SPACES}><w:body>{body}</w:body></w:document>')
        package.writestr("word/_rels/document.xml.rels", _relations(relations))
        for name, content in parts.items():
            whole = content if isinstance(content, bytes) else f'<w:{name} xmlns:w="{space}" {SPACES}>{content}</w:{name}>'
            package.writestr(f"word/{_file(name)}", whole)
    return path


def _file(name: str) -> str:
    return f"{name}.html" if name == "aFChunk" else f"{name}.xml"


def _relations(inner: str) -> str:
    return f'<Relationships xmlns="http://schemas.openxmlformats.org/package/2006/relationships">{inner}</Relationships>'


def p(*runs: str, properties: str = "") -> str:
    """A paragraph."""
    return f"<w:p><w:pPr>{properties}</w:pPr>{''.join(runs)}</w:p>"


def r(text: str) -> str:
    """A run."""
    return f"<w:r><w:t>{text}</w:t></w:r>"


def read(path: Path) -> str:
    return read_word(path, lambda markup: html_text(page_text(markup)))


def cell(inner: str, properties: str = "") -> str:
    return f"<w:tc><w:tcPr>{properties}</w:tcPr>{inner}</w:tc>"


@pytest.mark.parametrize(
    ("body", "text"),
    [
        (p(r("net "), f"<w:ins>{r('4711')}</w:ins>", "<w:del><w:r><w:delText>0815</w:delText></w:r></w:del>"), "net 4711"),
        (p(f"<w:moveFrom>{r('old')}</w:moveFrom>", f"<w:moveTo>{r('new')}</w:moveTo>"), "new"),
        (f"<w:sdt><w:sdtPr/><w:sdtContent>{p(r('in a control'))}</w:sdtContent></w:sdt>", "in a control"),
        (p("<w:r><w:instrText>PAGE</w:instrText></w:r>", r("7")), "7"),
        (p(f'<w:fldSimple w:instr="DATE">{r("1 May")}</w:fldSimple>'), "1 May"),
        (p(f'<w:hyperlink r:id="x">{r("a link")}</w:hyperlink>'), "a link"),
        (p("<w:r><w:t>a</w:t><w:tab/><w:t>b</w:t><w:br/><w:t>c</w:t><w:noBreakHyphen/><w:t>d</w:t></w:r>"), "a\tb\nc-d"),
        (
            p(
                "<w:r><mc:AlternateContent><mc:Choice><wps:txbx><w:txbxContent>" + p(r("in a box")) + "</w:txbxContent></wps:txbx></mc:Choice>"
                "<mc:Fallback><v:textbox><w:txbxContent>" + p(r("in a box")) + "</w:txbxContent></v:textbox></mc:Fallback></mc:AlternateContent></w:r>",
                r("beside"),
            ),
            "beside\nin a box",
        ),
        (p("<w:r><v:shape><v:textbox><w:txbxContent>" + p(r("an old box")) + "</w:txbxContent></v:textbox></v:shape></w:r>"), "an old box"),
    ],
)  # fmt: skip
def test_what_word_shows_is_read_once(tmp_path: Path, body: str, text: str) -> None:
    assert read(word(tmp_path, body)).strip() == text


def test_tables_have_each_cell_once_also_merged_nested_and_inserted_ones(tmp_path: Path) -> None:
    inner = f"<w:tbl><w:tr>{cell(p(r('x')))}{cell(p(r('y')))}</w:tr></w:tbl>"
    wide, tall = cell(p(r("wide")), '<w:gridSpan w:val="2"/>'), cell(p(r("tall")), '<w:vMerge w:val="restart"/>')
    below = cell(p(r("tall")), "<w:vMerge/>")
    body = (
        f"<w:tbl><w:tr>{wide}</w:tr><w:tr>{tall}{cell(p(r('1,00')))}</w:tr><w:tr>{below}{cell(p(r('2,00')))}</w:tr>"
        f"<w:sdt><w:sdtContent><w:tr>{cell(p(r('controlled')))}{cell(inner + p())}</w:tr></w:sdtContent></w:sdt>"
        f"<w:tr><w:trPr><w:del/></w:trPr>{cell(p(r('deleted')))}</w:tr></w:tbl>"
    )
    assert read(word(tmp_path, body)).splitlines() == ["wide", "tall\t1,00", "2,00", "controlled\tx\ty"]


def test_headers_notes_and_comments_are_read(tmp_path: Path) -> None:
    note = f'<w:footnote w:type="separator"><w:p>{r("-----")}</w:p></w:footnote><w:footnote>{p(r("see below"))}</w:footnote>'
    path = word(
        tmp_path, p(r("the body")), header1=p(r("Acme")), header2=p(r("Acme")), footer1=p(r("page 1")), footnotes=note,
        endnotes=f"<w:endnote>{p(r('at the end'))}</w:endnote>", comments=f"<w:comment>{p(r('is this right?'))}</w:comment>",
    )  # fmt: skip
    assert read(path).splitlines() == ["Acme", "the body", "see below", "at the end", "is this right?", "page 1"]


def test_lists_have_their_numbers(tmp_path: Path) -> None:
    def level(at: int, form: str, text: str) -> str:
        return f'<w:lvl w:ilvl="{at}"><w:start w:val="1"/><w:numFmt w:val="{form}"/><w:lvlText w:val="{text}"/></w:lvl>'

    numbering = (
        f'<w:abstractNum w:abstractNumId="9">{level(0, "decimal", "%1.")}{level(1, "lowerLetter", "%1.%2)")}</w:abstractNum>'
        f'<w:abstractNum w:abstractNumId="8">{level(0, "bullet", "·")}</w:abstractNum>'
        '<w:num w:numId="1"><w:abstractNumId w:val="9"/></w:num><w:num w:numId="2"><w:abstractNumId w:val="8"/></w:num>'
        '<w:num w:numId="3"><w:abstractNumId w:val="9"/><w:lvlOverride w:ilvl="0"><w:startOverride w:val="5"/></w:lvlOverride></w:num>'
    )
    styles = '<w:style w:styleId="Clause"><w:pPr><w:numPr><w:numId w:val="1"/></w:numPr></w:pPr></w:style>'

    def item(number: int, at: int, text: str) -> str:
        return p(r(text), properties=f'<w:numPr><w:ilvl w:val="{at}"/><w:numId w:val="{number}"/></w:numPr>')

    body = (
        item(1, 0, "first") + item(1, 1, "inner") + item(1, 1, "other") + p(r("by style"), properties='<w:pStyle w:val="Clause"/>')
        + item(1, 1, "begins again") + item(2, 0, "point") + item(3, 0, "restarted") + item(0, 0, "no list")
    )  # fmt: skip
    path = word(tmp_path, body, numbering=numbering, styles=styles)
    assert read(path).splitlines() == [
        "1. first", "1.a) inner", "1.b) other", "2. by style", "2.a) begins again", "• point", "5. restarted", "no list",
    ]  # fmt: skip


@pytest.mark.parametrize(
    ("number", "form", "text"),
    [(4, "upperRoman", "IV"), (28, "lowerLetter", "bb"), (3, "decimalZero", "03"), (0, "lowerRoman", "0"), (12, "chicago", "12")],
)
def test_formats_of_numbers(number: int, form: str, text: str) -> None:
    assert in_form(number, form) == text


def test_embedded_html_and_charts_are_read(tmp_path: Path) -> None:
    chart = b'<c:chartSpace xmlns:c="http://schemas.openxmlformats.org/drawingml/2006/chart"><c:v>Quarter 3</c:v><c:v>12.5</c:v></c:chartSpace>'
    body = '<w:altChunk r:id="aFChunk"/>' + p('<w:r><w:drawing><c:chart r:id="chart1"/></w:drawing></w:r>')
    path = word(tmp_path, body, aFChunk="<html><body>Gr\u00fc\u00dfe</body></html>".encode(), chart1=chart)
    assert read(path).splitlines() == ["Grüße", "Quarter 3", "12.5"]


def test_a_strict_file_is_read(tmp_path: Path) -> None:
    assert read(word(tmp_path, p(r("strict")), space=STRICT)) == "strict"


@pytest.mark.parametrize("content", [b"not a zip", b""])
def test_a_damaged_file_says_so(tmp_path: Path, content: bytes) -> None:
    path = tmp_path / "x.docx"
    path.write_bytes(content)
    with pytest.raises(DamagedWord):
        read(path)
    body = word(tmp_path, "<w:p><w:r>")
    with pytest.raises(DamagedWord):
        read(body)


def test_no_entity_is_resolved_and_depth_is_bounded(tmp_path: Path) -> None:
    secret = tmp_path / "secret"
    secret.write_text("top secret")
    doctype = f'<!DOCTYPE d [<!ENTITY e SYSTEM "file://{secret}">]>'
    body = p("<w:r><w:t>&e;</w:t></w:r>")
    path = tmp_path / "hostile.docx"
    with zipfile.ZipFile(path, "w") as package:
        package.writestr("word/document.xml", f'{doctype}<w:document xmlns:w="{W}"><w:body>{body}</w:body></w:document>')
    assert "top secret" not in read(path)
    assert read(word(tmp_path, "<w:sdt>" * 100 + p(r("deep")) + "</w:sdt>" * 100 + p(r("after")))) == "after"


def test_the_sample_reads_as_before() -> None:
    text = extract_text(SAMPLES / "letter-offer.docx", {"kind": "docx"}, lambda done, total: None)["pages"][0]
    assert "offer" in text.lower()
