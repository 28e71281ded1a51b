"""What remains on topics after an erasure, from the topic table."""

from __future__ import annotations

from contracts.content import content_of
from contracts.topics import TOPICS, dead_letters_of, holds_content, tenant_commands_topic, tenant_events_topic
from scripts.docs.markdown import table
from scripts.docs.topics import TASKS, retention


def remaining() -> str:
    """A row per topic: what its records hold of people and documents, and how long they stay."""
    topics = (*TOPICS, TASKS, tenant_commands_topic("{tenant}"), tenant_events_topic("{tenant}"))
    rows = [[f"`{t.name}`", content_of(t), retention(t), "yes" if holds_content(t.name) else ""] for t in topics]
    dead = dead_letters_of(TOPICS[0], "group")
    rows.append(["`<topic>.<group>.dlq`", "the whole record that could not be processed, and the fault", retention(dead), "yes"])
    return table(["topic", "of people and documents", "kept", "can be sealed"], rows)
