"""Results of the vendors' clients as data: `results/<client>.json`, from which `scripts.docs` makes the tables of the migration guides."""

from __future__ import annotations

import json
import os
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

FOLDER = Path(__file__).parent / "results"
WORKS = "works"
WRITE = "STAGELINE_WRITE_CLIENT_RESULTS"
"""Environment variable: a test run with it writes the files again instead of comparing with them."""


@dataclass(frozen=True)
class Fault:
    """A known fault of a client, or something that its vendor's design forbids: where it shows, and how."""

    methods: tuple[str, ...]
    """Names of methods. One that ends in `*` stands for all that begin with it."""
    credentials: tuple[str, ...]
    shows: str
    """A part of the error that the client reports."""
    reason: str
    """One sentence for the table."""

    def explains(self, method: str, credential: str, error: str) -> bool:
        """True when this fault is the cause of `error`."""
        named = any(method == m or (m.endswith("*") and method.startswith(m[:-1])) for m in self.methods)
        return named and credential in self.credentials and self.shows in error


@dataclass
class Results:
    """What each method of a client did with each credential."""

    client: str
    version: str
    vendor: str
    faults: tuple[Fault, ...]
    calls: dict[str, dict[str, str]] = field(default_factory=dict)

    def add(self, method: str, credential: str, error: str | None) -> None:
        """Note a result. An error that no known fault explains is ours, until somebody shows otherwise."""
        known = next((f.reason for f in self.faults if error is not None and f.explains(method, credential, error)), None)
        said = WORKS if error is None else f"differs: {known}" if known else f"fails: {error}"
        self.calls.setdefault(method, {})[credential] = said

    def failures(self) -> list[str]:
        """The results that nothing explains."""
        return [f"{m} with {c}: {r}" for m, by in self.calls.items() for c, r in by.items() if r.startswith("fails")]

    def document(self) -> dict[str, Any]:
        """The content of the file."""
        calls = [{"method": method, "results": by} for method, by in self.calls.items()]
        return {"client": self.client, "version": self.version, "vendor": self.vendor, "calls": calls}

    def check(self) -> None:
        """Fail unless the recorded file says the same, or write it where the environment asks for that."""
        assert not self.failures(), "\n".join(self.failures())
        path = FOLDER / f"{self.client}.json"
        if os.environ.get(WRITE):
            path.write_text(json.dumps(self.document(), indent=1, ensure_ascii=False) + "\n")
        assert json.loads(path.read_text()) == self.document(), f"{path.name} says otherwise: run this test with {WRITE}=1"
