"""Extraction of fields and tags, and check digits, without false matches."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from services.stage_worker.core.classify import classify
from services.stage_worker.core.fields import extract_fields, parse_amount
from services.stage_worker.core.search_text import normalise
from services.stage_worker.core.validators import valid_date, valid_iban, valid_vat


@pytest.mark.parametrize(
    "iban",
    ["DE89 3704 0044 0532 0130 00", "GB29NWBK60161331926819", "FR1420041010050500013M02606", "do28BAGR00000001212453611324"],
)
def test_real_ibans(iban: str) -> None:
    assert valid_iban(iban)
    broken = iban[:-1] + ("0" if iban[-1] != "0" else "1")
    assert not valid_iban(broken), "one wrong digit is always noticed"
    assert not valid_iban(iban + "0"), "the length belongs to the country"


@pytest.mark.parametrize(
    ("vat", "valid"),
    [
        ("DE136695976", True),
        ("DE136695975", False),
        ("IT00743110157", True),
        ("IT00743110158", False),
        ("PL5260001246", True),
        ("PL5260001247", False),
        ("IE6388047V", True),
        ("ZZ123", False),
        ("FR 83.404.833.048", True),
    ],
)
def test_vat_numbers(vat: str, valid: bool) -> None:
    assert valid_vat(vat) is valid


@pytest.mark.parametrize(
    ("text", "value"),
    [
        ("1.234,56", "1234.56"),
        ("1,234.56", "1234.56"),
        ("1'234.50", "1234.50"),
        ("1234", "1234"),
        ("1,234", "1234"),
        ("12,5", "12.5"),
        ("0.99", "0.99"),
    ],
)
def test_amounts_in_every_spelling(text: str, value: str) -> None:
    assert str(parse_amount(text)) == value


@pytest.mark.parametrize(
    ("text", "dates"),
    [
        ("2026-03-12", ["2026-03-12"]), ("12/03/2026 and 12.3.2026", ["2026-03-12"]), ("12 March 2026", ["2026-03-12"]),
        ("March 12, 2026", ["2026-03-12"]), ("12. März 2026", ["2026-03-12"]), ("12 de marzo de 2026", ["2026-03-12"]),
        ("31.02.2026", []), ("99/99/2026", []), ("1.1.0001", []),
    ],
)  # fmt: skip
def test_dates(text: str, dates: list[str]) -> None:
    assert extract_fields(text).get("dates", []) == dates


def test_the_total_is_the_last_one_and_never_the_subtotal() -> None:
    text = "Subtotal EUR 100.00\nTotal EUR 50.00\nTotal due: 1.190,00 €\n"
    assert extract_fields(text)["total"] == {"value": "1190.00", "currency": "EUR"}
    assert extract_fields("Total\n$ 12.00\n")["total"] == {"value": "12.00", "currency": "USD"}
    assert "total" not in extract_fields("Subtotal EUR 100.00")


def test_an_invoice_number_has_a_digit() -> None:
    assert extract_fields("Invoice No: INV-7/2026.")["invoice_number"] == "INV-7/2026"
    assert "invoice_number" not in extract_fields("Invoice number pending")


def test_an_invalid_iban_is_not_extracted() -> None:
    assert "ibans" not in extract_fields("IBAN DE00 3704 0044 0532 0130 00")


@given(st.text(max_size=2000))
def test_no_text_breaks_the_extractors(text: str) -> None:
    fields = extract_fields(text)
    for iban in fields.get("ibans", []):
        assert valid_iban(iban)
    tag = classify(text)
    assert tag is None or 0 < tag["confidence"] <= 1
    assert "\n" not in normalise(text)


def test_tags() -> None:
    found = classify("INVOICE\nInvoice No: 7\nAmount due: EUR 5\nIBAN x")
    assert found is not None and found["name"] == "invoice" and found["confidence"] > 0.8
    assert classify("nothing of note") is None
    custom = classify("flux capacitor manual", {"manual": {r"flux capacitor": 9}})
    assert custom is not None and custom["name"] == "manual"


def test_broken_words_are_rejoined_for_search() -> None:
    assert normalise("docu-\nment  \ufb01le") == "document file"


@given(st.integers(-10, 3000), st.integers(-5, 20), st.integers(-5, 40))
def test_dates_are_dates(year: int, month: int, day: int) -> None:
    iso = valid_date(year, month, day)
    assert iso is None or iso == f"{year:04}-{month:02}-{day:02}"
