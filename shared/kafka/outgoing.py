"""A record on its way out."""

from __future__ import annotations

from dataclasses import dataclass

from contracts.cloudevents import Headers


@dataclass(slots=True)
class Outgoing:
    """One record to publish: the outbox row and, once the transaction is open, its id."""

    topic: str
    key: bytes | None
    value: bytes
    headers: Headers
    urgent: bool = True
    """Facts go first, the commands that follow from them after."""

    @property
    def traceparent(self) -> str | None:
        for name, value in self.headers:
            if name == "traceparent":
                return value.decode("ascii", "replace")  # a dead letter keeps hostile headers as they are
        return None
