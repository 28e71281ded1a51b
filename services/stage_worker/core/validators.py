"""Validators of IBANs, VAT numbers and dates: form and check digits."""

from __future__ import annotations

import re
from datetime import date

# ISO 13616: length by country, for the SEPA area and some neighbours.
_IBAN_LENGTH = {
    "AD": 24, "AE": 23, "AL": 28, "AT": 20, "BA": 20, "BE": 16, "BG": 22, "CH": 21, "CY": 28, "CZ": 24, "DE": 22, "DK": 18,
    "DO": 28, "EE": 20, "ES": 24, "FI": 18, "FR": 27, "GB": 22, "GI": 23, "GR": 27, "HR": 21, "HU": 28, "IE": 22, "IS": 26,
    "IT": 27, "LI": 21, "LT": 20, "LU": 20, "LV": 21, "MC": 27, "MT": 31, "NL": 18, "NO": 15, "PL": 28, "PT": 25, "RO": 24,
    "RS": 22, "SA": 24, "SE": 24, "SI": 19, "SK": 24, "SM": 27, "TR": 26, "VA": 22,
}  # fmt: skip

# Form of an EU VAT number after the country code, from the European Commission's VIES page.
_VAT_FORM = {
    "AT": r"U\d{8}", "BE": r"[01]\d{9}", "BG": r"\d{9,10}", "CY": r"\d{8}[A-Z]", "CZ": r"\d{8,10}", "DE": r"\d{9}",
    "DK": r"\d{8}", "EE": r"\d{9}", "EL": r"\d{9}", "ES": r"[A-Z0-9]\d{7}[A-Z0-9]", "FI": r"\d{8}", "FR": r"[A-Z0-9]{2}\d{9}",
    "GB": r"\d{9}(\d{3})?", "HR": r"\d{11}", "HU": r"\d{8}", "IE": r"\d[A-Z0-9+*]\d{5}[A-Z]{1,2}", "IT": r"\d{11}",
    "LT": r"(\d{9}|\d{12})", "LU": r"\d{8}", "LV": r"\d{11}", "MT": r"\d{8}", "NL": r"\d{9}B\d{2}", "PL": r"\d{10}",
    "PT": r"\d{9}", "RO": r"\d{2,10}", "SE": r"\d{12}", "SI": r"\d{8}", "SK": r"\d{10}",
}  # fmt: skip


def valid_iban(text: str) -> bool:
    """True for the country's length (ISO 13616) and remainder 1 by ISO 7064 MOD 97-10. Spaces are ignored."""
    iban = re.sub(r"\s", "", text).upper()
    if not re.fullmatch(r"[A-Z]{2}\d{2}[A-Z0-9]{11,30}", iban) or len(iban) != _IBAN_LENGTH.get(iban[:2], len(iban)):
        return False
    digits = "".join(str(int(c, 36)) for c in iban[4:] + iban[:4])
    return int(digits) % 97 == 1


def valid_vat(text: str) -> bool:
    """True for the country's form of an EU or GB VAT number, and a valid check digit for DE, IT and PL."""
    vat = re.sub(r"[\s.\-]", "", text).upper()
    form = _VAT_FORM.get(vat[:2])
    if form is None or not re.fullmatch(form, vat[2:]):
        return False
    check = {"DE": _mod_11_10, "IT": _luhn, "PL": _nip}.get(vat[:2])
    return check is None or check(vat[2:])


def _mod_11_10(digits: str) -> bool:
    # ISO 7064 MOD 11,10, used by the German USt-IdNr.
    product = 10
    for d in digits[:-1]:
        total = (int(d) + product) % 10 or 10
        product = 2 * total % 11
    return (11 - product) % 10 == int(digits[-1])


def _luhn(digits: str) -> bool:
    doubled = [int(d) if i % 2 == 0 else sum(divmod(2 * int(d), 10)) for i, d in enumerate(digits)]
    return sum(doubled) % 10 == 0


def _nip(digits: str) -> bool:
    weights = (6, 5, 7, 2, 3, 4, 5, 6, 7)
    return sum(w * int(d) for w, d in zip(weights, digits, strict=False)) % 11 == int(digits[9])


def valid_date(year: int, month: int, day: int) -> str | None:
    """ISO form of a calendar date between 1900 and 2199, or None."""
    try:
        return date(year, month, day).isoformat() if 1900 <= year < 2200 else None
    except ValueError:
        return None
