"""Classification by rules: patterns add weight to a tag, and the winner's share is its confidence. Rules are data."""

from __future__ import annotations

import re
from collections.abc import Mapping
from typing import Any

import re2

from contracts.rule_patterns import MAX_PATTERN, MAX_RULES, MAX_TAGS, MAX_WEIGHT, RULE_MEMORY, unicode_classes
from services.stage_worker.core.document_fault import DocumentFault

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
SAMPLE = 200_000
"""Characters of a text that are looked at."""
_COMPILED = {tag: [(re.compile(pattern, re.I), weight) for pattern, weight in rules.items()] for tag, rules in RULES.items()}
Rules = Mapping[str, Mapping[str, float]]


def classify(text: str, extra: Rules | None = None) -> dict[str, Any] | None:
    """Returns `{name, confidence, scores}` of the best tag, or None when no tag fits. `extra` adds rules from the step's config.

    Confidence is the winner's share of all scores, between 0 and 1. Raises `DocumentFault` (`rule`) for a rule that is no rule.
    """
    sample = text[:SAMPLE]
    scores = {tag: _score(sample, rules) for tag, rules in _COMPILED.items()}
    if extra:
        # The engine works on bytes; the text is encoded once for all patterns.
        encoded = sample.encode("utf-8", "replace")
        scores |= {tag: _score(encoded, rules) for tag, rules in compile_rules(extra).items()}
    best = max(scores, key=lambda tag: scores[tag])
    if scores[best] < MIN_SCORE:
        return None
    share = scores[best] / sum(scores.values())
    return {"name": best, "confidence": round(share, 3), "scores": {t: s for t, s in scores.items() if s}}


def compile_rules(rules: Rules) -> dict[str, list[tuple[Any, float]]]:
    """Rules of a tenant, compiled by RE2, whose time grows with the length of the text alone. Raises `DocumentFault` (`rule`)."""
    if not isinstance(rules, Mapping) or len(rules) > MAX_TAGS or not all(isinstance(found, Mapping) for found in rules.values()):
        raise DocumentFault("rule", f"rules: at most {MAX_TAGS} tags, each with patterns and their weights, are expected.")
    if sum(map(len, rules.values())) > MAX_RULES:
        raise DocumentFault("rule", f"rules: {sum(map(len, rules.values()))} patterns; at most {MAX_RULES} are allowed.")
    return {tag: [_compile_rule(tag, pattern, weight) for pattern, weight in found.items()] for tag, found in rules.items()}


def _compile_rule(tag: str, pattern: str, weight: float) -> tuple[Any, float]:
    where = f"rules.{tag[:50]}: {pattern[:80]!r}"
    if len(pattern) > MAX_PATTERN:
        raise DocumentFault("rule", f"{where}: longer than {MAX_PATTERN} characters.")
    if isinstance(weight, bool) or not isinstance(weight, int | float) or not 0 <= weight <= MAX_WEIGHT:
        raise DocumentFault("rule", f"{where}: a weight from 0 to 1,000,000 is expected.")
    options = re2.Options()
    options.case_sensitive, options.log_errors, options.max_mem = False, False, RULE_MEMORY
    try:
        return re2.compile(unicode_classes(pattern), options), float(weight)
    except re2.error as error:
        reason = error.args[0] if error.args else "it cannot be compiled"
        text = reason.decode("utf-8", "replace") if isinstance(reason, bytes) else str(reason)
        raise DocumentFault("rule", f"{where}: {text[:200]}.") from None


def _score(text: str | bytes, rules: list[tuple[Any, float]]) -> float:
    total = 0.0
    for pattern, weight in rules:
        hits = 0
        for _ in pattern.finditer(text):
            hits += 1
            if hits == 2:
                break
        total += weight * (0, 1, 1.25)[hits]
    return total
