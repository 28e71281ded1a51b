"""The golden corpus: frozen records of every released version, as its writers sent them. Records are added, never changed.

`make docs` adds the records of a new version. Lines of `contracts/golden/<type>/<version>.jsonl`: key, headers and value as text.
"""

from __future__ import annotations

import hashlib
import json
from pathlib import Path
from typing import Any

from contracts import MODELS, Message, to_record
from contracts.registry import released
from tests.contracts.instances import Instances

GOLDEN = Path(__file__).parents[2] / "contracts" / "golden"
RECORDS = 24


def records(model: type[Message]) -> list[dict[str, Any]]:
    """`RECORDS` different records of a model, as our writers make them. Deterministic."""
    drawn = Instances(released(model.TYPE)[model.VERSION], 42)
    found: dict[bytes, dict[str, Any]] = {}
    while len(found) < RECORDS:
        record = to_record(model.read(json.dumps(drawn.draw())), "/stageline/golden")
        headers = [[name, value.decode()] for name, value in record.headers]
        found[record.value] = {"key": record.key.decode(), "headers": headers, "value": record.value.decode()}
    return list(found.values())


def pins() -> dict[str, str]:
    """Path below `golden/` → SHA-256."""
    file = GOLDEN / "pins.json"
    known: dict[str, str] = json.loads(file.read_text()) if file.exists() else {}
    return known


def add_missing() -> None:
    """Write the corpus of each current version that has none, and pin it."""
    known = pins()
    for type_, model in MODELS.items():
        path = GOLDEN / type_ / f"{model.VERSION}.jsonl"
        name = str(path.relative_to(GOLDEN))
        if name not in known:
            path.parent.mkdir(parents=True, exist_ok=True)
            path.write_text("".join(json.dumps(r, ensure_ascii=False) + "\n" for r in records(model)))
            known[name] = hashlib.sha256(path.read_bytes()).hexdigest()
    (GOLDEN / "pins.json").write_text(json.dumps(dict(sorted(known.items())), indent=1) + "\n")
