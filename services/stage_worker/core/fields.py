"""Extracts fields from text: dates, amounts, invoice, account and tax numbers. Patterns find, validators decide."""

from __future__ import annotations

import re
from collections.abc import Iterable, Iterator
from decimal import Decimal, InvalidOperation
from typing import Any

from services.stage_worker.core.validators import valid_date, valid_iban, valid_vat

LIMIT = 50
"""Values per field at most, so that a result fits into an event."""
IBAN_LENGTHS, VAT_LENGTHS = range(15, 35), range(4, 15)
"""Lengths without spaces (ISO 13616; the European Commission's VIES page)."""
_LEFT_OUT = str.maketrans({"\u00a0": " ", ".": None, "-": None})

_MONTHS = {
    name: i // 4 + 1
    for i, name in enumerate(
        [
            "january",
            "jan",
            "enero",
            "januar",
            "february",
            "feb",
            "febrero",
            "februar",
            "march",
            "mar",
            "marzo",
            "märz",
            "april",
            "apr",
            "abril",
            "apr.",
            "may",
            "mai",
            "mayo",
            "mai.",
            "june",
            "jun",
            "junio",
            "juni",
            "july",
            "jul",
            "julio",
            "juli",
            "august",
            "aug",
            "agosto",
            "aug.",
            "september",
            "sep",
            "septiembre",
            "sept",
            "october",
            "oct",
            "octubre",
            "oktober",
            "november",
            "nov",
            "noviembre",
            "nov.",
            "december",
            "dec",
            "diciembre",
            "dezember",
        ]
    )
}
# Every repeat is bounded, and neighbours in a pattern share no character: the time grows with the length of the text alone.
_GAP = r"\s{1,20}"
# Any word of the length of a month's name: a list of all names would be tried at each word of the text.
_MONTH = r"[^\W\d_]{3,10}"
_DATES = (
    re.compile(r"\b(?P<y>\d{4})-(?P<m>\d{1,2})-(?P<d>\d{1,2})\b"),
    re.compile(r"\b(?P<d>\d{1,2})[./](?P<m>\d{1,2})[./](?P<y>\d{4})\b"),
    re.compile(rf"\b(?P<d>\d{{1,2}})\.?{_GAP}(?:de{_GAP})?(?P<n>{_MONTH})\.?,?{_GAP}(?:de{_GAP})?(?P<y>\d{{4}})\b", re.I),
    re.compile(rf"\b(?P<n>{_MONTH})\.?{_GAP}(?P<d>\d{{1,2}})(?:st|nd|rd|th)?,?{_GAP}(?P<y>\d{{4}})\b", re.I),
)
_SYMBOLS = {"€": "EUR", "$": "USD", "£": "GBP", "RD$": "DOP", "US$": "USD", "¥": "JPY"}
_CODE = r"EUR|USD|GBP|CHF|DOP|MXN|SEK|NOK|DKK|PLN|CZK|JPY|CAD|AUD"
_NUMBER = r"\d{1,3}(?:[.,'\u00a0\u202f ]\d{3}){0,6}(?:[.,]\d{2})|\d{1,18}[.,]\d{2}|\d{1,3}(?:[.,]\d{3}){1,6}|\d{1,18}"
_SYMBOL = r"US\$|RD\$|[€$£¥]"
_AMOUNT = re.compile(
    rf"(?P<pre>{_SYMBOL}|\b(?:{_CODE}))\s?(?P<n1>{_NUMBER})(?![\d])|(?<![\d.,])(?P<n2>{_NUMBER})\s?(?P<post>{_SYMBOL}|(?:{_CODE})\b)"
)
_INVOICE = re.compile(
    r"\b(?:invoice|factura|rechnung|facture|fattura)s?[ \t]{0,100}(?:no|nr|num(?:ber|ero)?|número|nummer|n[°º]|#|id)"
    r"[.:#°º]{0,5}[ \t]{0,100}(?:[:#][ \t]{0,100})?(?P<v>[A-Z0-9][A-Z0-9/\-.]{2,29})",
    re.I,
)  # fmt: skip
_IBAN = re.compile(r"\b[A-Z]{2}\d{2}(?:[ \u00a0]?[A-Z0-9]){6,32}\b")
_VAT = re.compile(
    r"\b(?:AT|BE|BG|CY|CZ|DE|DK|EE|EL|ES|FI|FR|GB|HR|HU|IE|IT|LT|LU|LV|MT|NL|PL|PT|RO|SE|SI|SK)[ ]?[A-Z0-9][A-Z0-9 .\-]{6,13}[A-Z0-9]\b"
)
_EMAIL = re.compile(
    r"(?<![\w.%+\-])[.%+\-]{0,8}(?P<v>[A-Za-z0-9_][A-Za-z0-9._%+\-]{0,63}@"
    r"[A-Za-z0-9\-]{1,63}(?:\.[A-Za-z0-9\-]{1,63}){0,10}\.[A-Za-z]{2,24})\b"
)
_TOTAL = re.compile(
    r"^(?!.*\bsub[- ]?total\b).*\b(?:grand total|total due|amount due|total|gesamtbetrag|gesamt|importe total|montant total|totale)\b(?P<rest>.*)$",
    re.I,
)


def extract_fields(text: str) -> dict[str, Any]:
    """Returns the fields found in `text`; kinds without a value are absent.

    `dates` ISO 8601 · `amounts` `{value, currency}` with value as decimal text · `invoice_number` · `ibans` and
    `vat_numbers` with valid check digits, without spaces · `emails` · `total` `{value, currency}`.
    """
    found: dict[str, Any] = {
        "dates": _dates(text),
        "amounts": _amounts(text),
        "invoice_number": _invoice_number(text),
        "ibans": _kept(filter(valid_iban, _candidates(_IBAN, text, IBAN_LENGTHS))),
        "vat_numbers": _kept(filter(valid_vat, _candidates(_VAT, text, VAT_LENGTHS))),
        "emails": _kept(m["v"].lower() for m in _EMAIL.finditer(text)),
        "total": _total(text),
    }
    return {name: value for name, value in found.items() if value}


def _kept(values: Iterable[str]) -> list[str]:
    """The first `LIMIT` different values. Looks for no more."""
    found: dict[str, None] = {}
    for value in values:
        found[value] = None
        if len(found) == LIMIT:
            break
    return list(found)


def _candidates(pattern: re.Pattern[str], text: str, lengths: range) -> Iterator[str]:
    """Matches without spaces, points and hyphens, longest first. A match may run on into the next word, so shorter readings follow."""
    read: set[str] = set()
    for match in pattern.finditer(text):
        if match.group() in read:
            continue
        read.add(match.group())
        words = match.group().translate(_LEFT_OUT).split(" ")
        for count in range(len(words), 0, -1):
            candidate = "".join(words[:count])
            if len(candidate) in lengths:
                yield candidate


def _dates(text: str) -> list[str]:
    hits: list[tuple[int, str]] = []
    for pattern in _DATES:
        # The first dates of each form hold the first dates of all.
        seen: dict[str, int] = {}
        for match in pattern.finditer(text):
            parts = match.groupdict()
            month = _MONTHS.get(parts["n"].lower(), 0) if parts.get("n") else int(parts["m"])
            iso = valid_date(int(parts["y"]), month, int(parts["d"]))
            if iso:
                seen.setdefault(iso, match.start())
            if len(seen) == LIMIT:
                break
        hits += [(start, iso) for iso, start in seen.items()]
    return _kept(iso for _, iso in sorted(hits))


def parse_amount(text: str) -> Decimal | None:
    """Decimal of `1.234,56`, `1,234.56`, `1'234.56` or `1234`, or None. The last separator is the point unless three digits follow."""
    digits = re.sub(r"[\s'\u00a0\u202f]", "", text)
    point = max(digits.rfind("."), digits.rfind(","))
    if point >= 0 and len(digits) - point - 1 == 3:
        point = -1
    whole = re.sub(r"[.,]", "", digits if point < 0 else digits[:point])
    try:
        return Decimal(whole if point < 0 else f"{whole}.{digits[point + 1 :]}")
    except InvalidOperation:
        return None


def _amounts(text: str) -> list[dict[str, str]]:
    found: dict[tuple[str, str], dict[str, str]] = {}
    read: set[str] = set()
    for match in _AMOUNT.finditer(text):
        if match.group() in read:
            continue
        read.add(match.group())
        value = parse_amount(match["n1"] or match["n2"])
        mark = (match["pre"] or match["post"]).upper()
        if value is not None:
            amount = {"value": str(value), "currency": _SYMBOLS.get(mark, mark)}
            found.setdefault((amount["value"], amount["currency"]), amount)
        if len(found) == LIMIT:
            break
    return list(found.values())


def _invoice_number(text: str) -> str | None:
    for match in _INVOICE.finditer(text):
        value = match["v"].rstrip(".-/")
        if any(c.isdigit() for c in value):
            return value
    return None


def _total(text: str) -> dict[str, str] | None:
    lines = text.splitlines()
    best: list[dict[str, str]] = []
    for i, line in enumerate(lines):
        match = _TOTAL.match(line)
        if match:
            # The amount follows the word, or stands on the next line in a two-column layout.
            best = _amounts(match["rest"]) or (_amounts(lines[i + 1]) if i + 1 < len(lines) else []) or best
    return best[-1] if best else None
