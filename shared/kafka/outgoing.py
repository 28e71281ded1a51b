"""A record to be published."""

from __future__ import annotations

from dataclasses import dataclass

from contracts.cloudevents import Headers


@dataclass(slots=True)
class Outgoing:
    """One record to publish. An empty `value` is a tombstone: a compacted topic then forgets the key."""

    topic: str
    key: bytes | None
    value: bytes
    headers: Headers
    urgent: bool = True
    """True for facts, which are sent before the commands that follow from them."""
    plain: Outgoing | None = None
    """The record as it was before it was sealed; None for one that is not sealed."""

    @property
    def traceparent(self) -> str | None:
        """The `traceparent` header, unparsed."""
        for name, value in self.headers:
            if name == "traceparent":
                return value.decode("ascii", "replace")  # a dead letter keeps hostile headers unchanged
        return None
