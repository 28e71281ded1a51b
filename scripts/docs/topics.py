"""Reference of topics and messages, from the topic table and the contract registry."""

from __future__ import annotations

from contracts.event_names import EVENT_NAMES
from contracts.message import Message
from contracts.registry.asyncapi import summary
from contracts.registry.schemas import released
from contracts.topics import (
    BUILT_IN_ACTIONS,
    OPERATOR_COMMANDS_TOPIC,
    TASK_PREFIX,
    TOPICS,
    Topic,
    dead_letter_topic,
    task_topic,
    tenant_commands_topic,
    tenant_events_topic,
)
from scripts.docs.markdown import table

HEAD = """\
# Topics and messages

Generated from `contracts/topics.py` and the contract registry by `make docs`. Do not edit.

The topics are the public API. A program may publish commands, work on tasks or read events; HTTP is one client of them.
Records are CloudEvents 1.0 in binary mode, with the JSON value described by the linked schema.
[PROTOCOL.md](../../contracts/PROTOCOL.md) holds the rules beyond the schemas. For machines: [asyncapi.json](../../contracts/asyncapi.json).
"""
PARTITIONS = """\
"hot" topics have `STAGELINE_PARTITIONS` partitions, "tasks" topics `STAGELINE_TASK_PARTITIONS`; the others have one. The number is
set when the topic is created. Producers and consumers
are services, or `producers`, `workers`, `consumers` and `operators` for programs outside. A `tenant` reads and writes its own two
topics alone."""
NAMES = """\
An event has one name: `type` in the bodies of webhooks and the event stream, the header `stageline-event-type`, the stream's `event:`.
Filters take it, and the other names of its row; `*` stands for any part. A filter that matches no event is refused with the list."""
TASKS = task_topic("{action}")
TENANTS = (tenant_commands_topic("{tenant}"), tenant_events_topic("{tenant}"))


def page() -> str:
    """The whole page: one table of topics, then each topic with its messages."""
    topics = (*TOPICS, TASKS, *TENANTS)
    parts = [
        HEAD,
        "## Topics\n",
        topic_table(topics),
        "",
        PARTITIONS,
        "",
        _dead_letters(),
        "",
        "## Names of events\n",
        NAMES,
        "",
        name_table(),
        "",
    ]
    for topic in topics:
        parts += [f"## {topic.name}\n", _facts(topic), "", message_table(topic), ""]
    return "\n".join(parts)


def topic_table(topics: tuple[Topic, ...]) -> str:
    """A row per topic: name, key, partitions, retention, cleanup, producers, consumers and number of message types."""
    return table(
        ["topic", "key", "partitions", "retention", "cleanup", "producers", "consumers", "messages"],
        (
            [
                f"[`{t.name}`](#{_anchor(t)})", t.key, "tasks" if t.tasks else "hot" if t.hot else "1", retention(t), f"`{t.cleanup}`",
                ", ".join(t.producers), ", ".join(t.consumers), str(len(t.models)),
            ]
            for t in topics
        ),
    )  # fmt: skip


def message_table(topic: Topic) -> str:
    """A row per message of a topic: name, type, schema of each version, and meaning."""
    return table(["message", "type", "schema", "meaning"], (_message(model) for model in topic.models))


def name_table() -> str:
    """A row per event: its name, Alfred's name, the CloudEvents type, its class, and what carries it."""
    return table(
        ["`type`", "Alfred's name", "CloudEvents type", "class", "carried by"],
        (
            [
                f"`{row.name}`", f"`{row.alfred}`" if row.alfred else "", f"`{row.type_}`", f"`{row.model.__name__}`",
                "webhooks, stream" if row.streamed else "webhooks",
            ]
            for row in EVENT_NAMES
        ),
    )  # fmt: skip


def retention(topic: Topic) -> str:
    """The retention of records, in days or hours; `last of each key` for a compacted topic."""
    if topic.cleanup == "compact":
        return "last of each key"
    hours = topic.retention_s // 3600
    return f"{hours // 24} d" if hours >= 24 else f"{hours} h"


def _message(model: type[Message]) -> list[str]:
    schemas = ", ".join(f"[{v}](../../contracts/schemas/{model.TYPE}/{v}.json)" for v in released(model.TYPE))
    return [f"`{model.__name__}`", f"`{model.TYPE}`", schemas, summary(model)]


def _facts(topic: Topic) -> str:
    lines = [
        f"Key: {topic.key}. Kept: {retention(topic)}. Written by {', '.join(topic.producers)}; read by {', '.join(topic.consumers)}."
    ]
    if topic.name.startswith(TASK_PREFIX):
        actions = ", ".join(f"`{action}`" for action in BUILT_IN_ACTIONS)
        lines.append(f"\nOne topic per action. Built in: {actions}. Your own actions get topics of the same kind.")
    if topic.refused:
        names = ", ".join(f"`{model.__name__}`" for model in topic.refused)
        lines.append(f"\nRead here and refused, because they belong on `{OPERATOR_COMMANDS_TOPIC.name}`: {names}.")
    return "\n".join(lines)


def _dead_letters() -> str:
    name = dead_letter_topic("<topic>", "<group>")
    return f"A group that can never process a record copies it, with `dlq-*` headers, to `{name}`, which keeps it for 30 days."


def _anchor(topic: Topic) -> str:
    """The anchor that Markdown renderers give to the topic's heading."""
    return "".join(c for c in topic.name.lower() if c.isalnum() or c in "-_ ").replace(" ", "-")
