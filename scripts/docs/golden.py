"""Golden records of message types that have none yet."""

from __future__ import annotations

import base64
import json
from pathlib import Path

from contracts import MODELS, to_record
from tests.contracts.corpus import add_missing
from tests.contracts.examples import example

FOLDER = Path(__file__).parents[2] / "contracts" / "golden"


def add_missing_records() -> None:
    """Write one record per new type, and the corpus of each new version. Existing records are never touched."""
    for type_, model in MODELS.items():
        target = FOLDER / f"{type_}.json"
        if not target.exists():
            record = to_record(example(model), "/stageline/golden")
            golden = {
                "key": record.key.decode(),
                "headers": [[name, value.decode()] for name, value in record.headers],
                "value": json.loads(record.value),
                "value_base64": base64.b64encode(record.value).decode(),
            }
            target.write_text(json.dumps(golden, indent=1) + "\n")
    add_missing()
