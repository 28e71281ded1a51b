"""Classification by rules: patterns add weight to a tag, and the winner's share is its confidence. Rules are data."""

from __future__ import annotations

import re
from collections.abc import Mapping
from typing import Any

RULES: Mapping[str, Mapping[str, float]] = {
    "invoice": {
        r"\binvoice\b|\bfactura\b|\brechnung\b": 4, r"\binvoice (?:no|number|date)\b|\brechnungsnummer\b": 4,
        r"\bamount due\b|\btotal due\b": 3, r"\bvat\b|\biva\b|\bmwst\b|\bust\b": 2, r"\bsubtotal\b|\bsub-total\b": 2,
        r"\biban\b": 2, r"\bpayment terms\b|\bdue date\b|\bpayable\b": 2,
    },
    "contract": {
        r"\bagreement\b|\bcontract\b|\bvertrag\b|\bcontrato\b": 4, r"\bparties\b|\bparty\b": 2, r"\bterminat\w+\b": 2,
        r"\bgoverning law\b|\bjurisdiction\b": 4, r"\bconfidential\w*\b": 2, r"\bhereby\b|\bherein\w*\b|\bwitness whereof\b": 3,
        r"\bliabilit\w+\b|\bindemnif\w+\b": 2,
    },
    "price_list": {
        r"\bprice list\b|\bpreisliste\b|\blista de precios\b": 8, r"\bunit price\b|\bprice\b": 2, r"\bsku\b|\barticle\b|\bitem no\b": 3,
        r"\bdiscount\b": 1,
    },
    "letter": {
        r"\bdear (?:mr|mrs|ms|sir|madam|\w+)\b|\bsehr geehrte\b|\bestimad[oa]\b": 6,
        r"\b(?:yours|kind regards|sincerely|best regards)\b|\bmit freundlichen\b": 5, r"\bregarding\b|\bre:": 1,
    },
    "email": {r"(?m)^from:\s": 3, r"(?m)^to:\s": 3, r"(?m)^subject:\s": 4, r"(?m)^date:\s": 1},
    "receipt": {r"\breceipt\b|\bquittung\b|\brecibo\b": 6, r"\bcash\b|\bchange\b|\bcard\b": 2, r"\bthank you for your (?:purchase|visit)\b": 4},
    "report": {r"\breport\b|\bbericht\b|\binforme\b": 4, r"\bsummary\b|\bfindings\b|\bconclusion\w*\b": 3},
}  # fmt: skip
"""Tag → pattern → weight. A second match adds a quarter, further ones nothing, so long documents do not outweigh short ones."""

MIN_SCORE = 5.0
_COMPILED = {tag: [(re.compile(pattern, re.I), weight) for pattern, weight in rules.items()] for tag, rules in RULES.items()}


def classify(text: str, extra: Mapping[str, Mapping[str, float]] | None = None) -> dict[str, Any] | None:
    """Returns `{name, confidence, scores}` of the best tag, or None when no tag fits. `extra` adds rules from the step's config.

    Confidence is the winner's share of all scores, between 0 and 1.
    """
    compiled = dict(_COMPILED)
    for tag, rules in (extra or {}).items():
        compiled[tag] = [(re.compile(pattern, re.I), float(weight)) for pattern, weight in rules.items()]
    sample = text[:200_000]
    scores = {tag: _score(sample, rules) for tag, rules in compiled.items()}
    best = max(scores, key=lambda tag: scores[tag])
    if scores[best] < MIN_SCORE:
        return None
    share = scores[best] / sum(scores.values())
    return {"name": best, "confidence": round(share, 3), "scores": {t: s for t, s in scores.items() if s}}


def _score(text: str, rules: list[tuple[re.Pattern[str], float]]) -> float:
    total = 0.0
    for pattern, weight in rules:
        hits = 0
        for _ in pattern.finditer(text):
            hits += 1
            if hits == 2:
                break
        total += weight * (0, 1, 1.25)[hits]
    return total
