"""Keys of sealed records as events; see `contracts/sealing.py`."""

from __future__ import annotations

from datetime import datetime

from pydantic import Field

from contracts.identity import derived
from contracts.loose import Id, Timestamp
from contracts.message import Message


class SealKeyChanged(Message):
    """One part of a seal key, as it is now. The last record of a part holds; a record without a value: the part is gone."""

    TYPE = "stageline.seal.key_changed.v1"
    key_id: Id
    part: int = Field(ge=-1, le=255)
    """-1: the nodes above the 256 parts."""
    version: int = Field(ge=1)
    """Counts the changes of this part."""
    nodes: str = Field(max_length=1_000_000)
    """The nodes, packed (Base64). Secret: with it, the records of every job that it has not forgotten can be read."""
    created_at: Timestamp
    """When the seal key was made. Records are sealed with the newest one."""
    changed_at: Timestamp

    @property
    def message_id(self) -> str:
        return derived(self.key_id, "part", self.part, self.version)

    @property
    def key(self) -> str:
        return f"{self.key_id}/{self.part}"

    @property
    def time(self) -> datetime:
        return self.changed_at

    @property
    def tenant(self) -> str:
        return "operators"
