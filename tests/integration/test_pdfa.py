"""veraPDF validates all archived files in one run: samples, documents with forbidden features, invoices, and one invalid file."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from services.stage_worker.adapters.documents.invoice import make_invoice
from tests.conftest import SAMPLES
from tests.integration.archivable import CASES, PARTS, document, frames, hybrid, linked, made_of, pictured, sample_files, saved
from tests.integration.test_invoice import DATA, GUIDELINES, INVOICE, made_with
from tests.unit.test_pdf import protected, put, quiet
from tests.verapdf import faults

pytestmark = [pytest.mark.slow, pytest.mark.timeout(600)]


def archived(work: Path) -> Iterator[tuple[str, str, bytes]]:
    """Name, flavour and bytes of everything that is archived."""
    for part in PARTS:
        for name, (make, _) in CASES.items():
            yield name, f"{part}b", made_of(saved(make()), work, part, meta={"META.TITLE": "Ünïcode"})[0]
        for path, kind in sample_files():
            yield path.stem, f"{part}b", made_of(path.read_bytes(), work, part, kind)[0]
    yield "hybrid", "3b", made_of(saved(hybrid()), work, 3)[0]
    yield "linked", "2b", made_of(saved(linked()), work, 2)[0]
    yield "frames", "1b", made_of(frames(), work, 1, "image")[0]
    yield "opened", "1b", made_of(protected("secret"), work, 1, passwords=["secret"])[0]
    yield "pictured", "2b", made_of(saved(pictured()), work, 2, longest_side=600, linearize=True)[0]


def invoices(work: Path) -> Iterator[tuple[str, str, bytes]]:
    """Name, flavour and bytes of an invoice of each level."""
    for guideline, level, _, _ in GUIDELINES:
        path = put(work, (SAMPLES / "invoice-globex-117.pdf").read_bytes())
        put(work, INVOICE.format(guideline).encode(), "input-1")
        make_invoice(path, {"kind": "pdf"}, quiet)
        yield f"invoice {level}", "3b", (work / "output").read_bytes()
    about: dict[str, Any] = {"media_type": "text/csv", "relationship": "Source", "description": "Hours"}
    yield "invoice with a sheet", "3b", made_with(work, (DATA, {}), (b"a;b", {"name": "hours.csv", **about}))[1]
    yield "paper with a sheet", "3b", made_with(work, (b"a;b", {"name": "Stunden März.csv", **about}))[1]


def test_archived_files_are_pdf_a_and_verapdf_rejects_others(tmp_path: Path) -> None:
    work, made = tmp_path / "work", tmp_path / "made"
    work.mkdir()
    made.mkdir()
    files: dict[Path, str] = {}
    for name, flavour, data in (*archived(work), *invoices(work), ("plain", "2b", saved(document()))):
        path = made / f"{name} {flavour}.pdf"
        path.write_bytes(data)
        files[path] = flavour
    assert len(files) >= 3 * (len(CASES) + 7) + 5 + len(GUIDELINES) + 1
    found = faults(files)
    assert found.pop("plain 2b.pdf") and found == {}
