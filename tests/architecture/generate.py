"""`make docs`: what is generated from code and committed. `test_generated.py` fails when it is out of date."""

from __future__ import annotations

import base64
import json
from pathlib import Path

from contracts import MODELS, all_topics, to_record
from contracts.registry import asyncapi, catalogue
from services.job_orchestrator.core.job import BRANCH_TABLE
from tests.contracts.corpus import add_missing
from tests.contracts.examples import example, examples

ROOT = Path(__file__).parents[2]
START, END = "<!-- generated: {} -->", "<!-- end -->"


def topic_table() -> str:
    """Markdown table of every topic."""
    rows = ["| topic | key | partitions | kept | written by | read by | types |", "|---|---|---|---|---|---|---|"]
    for t in all_topics():
        kept = (
            "last of each key" if t.cleanup == "compact" else f"{t.retention_s // 86_400} d" if t.retention_s >= 86_400 else "1 h"
        )
        types = (
            ", ".join(m.__name__ for m in t.models) if len(t.models) < 9 else f"the {len(t.models)} {t.name.split('.')[0]} events"
        )
        partitions = "deployment's for tasks" if t.tasks else "deployment's" if t.hot else "1"
        rows.append(
            f"| `{t.name}` | {t.key} | {partitions} | {kept} | {', '.join(t.producers)} | {', '.join(t.consumers)} | {types} |"
        )
    return "\n".join(rows)


def branch_diagram() -> str:
    """Mermaid state diagram of a branch, from the transition table."""
    edges: dict[tuple[str, str], list[str]] = {}
    for (state, signal), targets in BRANCH_TABLE.items():
        for target in targets:
            edges.setdefault((state.value, target.value), []).append(signal.value)
    lines = [f"    {a} --> {b}: {', '.join(signals)}" for (a, b), signals in edges.items()]
    return "\n".join(["```mermaid", "stateDiagram-v2", "    [*] --> idle", *lines, "```"])


SECTIONS = {
    Path("contracts/README.md"): {"topics": topic_table},
    Path("services/job_orchestrator/README.md"): {"lanes": branch_diagram},
}


def whole_files() -> dict[Path, str]:
    """Files that are generated as a whole."""
    return {
        Path("contracts/asyncapi.json"): asyncapi.text(examples()),
        Path("contracts/catalogue.html"): catalogue.page(examples()),
    }


def rendered(path: Path) -> str:
    """The file with its generated sections brought up to date."""
    text = (ROOT / path).read_text()
    for name, make in SECTIONS[path].items():
        start = START.format(name)
        head, _, rest = text.partition(start)
        _, _, tail = rest.partition(END)
        text = f"{head}{start}\n{make()}\n{END}{tail}"
    return text


def main() -> None:
    """Write sections; add golden records of types that have none. Existing golden records are never touched."""
    for path in SECTIONS:
        (ROOT / path).write_text(rendered(path))
    for path, text in whole_files().items():
        (ROOT / path).write_text(text)
    for type_, model in MODELS.items():
        target = ROOT / "contracts" / "golden" / f"{type_}.json"
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


if __name__ == "__main__":
    main()
