"""The AsyncAPI 3 document of all topics, `contracts/asyncapi.json`. Generated from the topic table and the models."""

from __future__ import annotations

import json
from typing import Any

from contracts.cloudevents import to_record
from contracts.message import Message
from contracts.registry.described import described
from contracts.registry.schemas import current
from contracts.topics import BUILT_IN_ACTIONS, TASK_PREFIX, TOPICS, Topic, task_topic

Node = dict[str, Any]
DESCRIPTION = """\
All Kafka topics and messages of Stageline. Any program may be a producer (`job.commands`, `session.commands`), a worker
(`stage.tasks.*`, `stage.reports`) or a consumer (`job.events`, `file.events`, `job.state`). Records are CloudEvents 1.0 in binary
mode: attributes in `ce_*` headers, the data as JSON value. Readers ignore unknown fields. All versions of a type are
FULL_TRANSITIVE compatible, so producers and consumers may be upgraded in any order."""
INSIDE = {"ingest", "session", "job_orchestrator", "stage_worker", "notifier"}


def document(examples: dict[str, Message], version: str) -> Node:
    """The document of the release `version`. `examples` holds one message of each type."""
    topics = (*TOPICS, task_topic("{action}"))
    models = {m.TYPE: m for t in topics for m in t.models}
    schemas: Node = {}
    for model in models.values():
        schemas |= flattened(model)
    return {
        "asyncapi": "3.1.0",
        "id": "urn:stageline:topics",
        "info": {
            "title": "Stageline", "version": version, "description": DESCRIPTION, "tags": [{"name": "kafka"}, {"name": "cloudevents"}],
            "license": {"name": "Apache-2.0", "url": "https://www.apache.org/licenses/LICENSE-2.0"},
            "contact": {"name": "Stageline"},
        },
        "defaultContentType": "application/json",
        "servers": _servers(),
        "channels": {channel_id(t): channel(t) for t in topics},
        "operations": {f"{verb}.{channel_id(t)}": _operation(t, verb) for t in topics for verb in verbs(t)},
        "components": {
            "securitySchemes": {
                "scram": {"type": "scramSha512", "description": "One user per service or program, with the ACLs of its role."},
                "tls": {"type": "X509", "description": "Mutual TLS instead of a password."},
            },
            "schemas": dict(sorted(schemas.items())),
            "messages": {m.__name__: _message(m, examples[type_]) for type_, m in models.items()},
        },
    }  # fmt: skip


def text(examples: dict[str, Message], version: str) -> str:
    """The document as the text of its file."""
    return json.dumps(document(examples, version), indent=1, ensure_ascii=False) + "\n"


def _servers() -> Node:
    return {
        "embedded": {"host": "127.0.0.1:29092", "protocol": "kafka", "description": "The broker that `stageline up` or the compose file starts on this machine."},
        "cluster": {
            "host": "kafka.example.com:9093", "protocol": "kafka-secure", "description": "A cluster of your own.",
            "security": [{"$ref": "#/components/securitySchemes/scram"}, {"$ref": "#/components/securitySchemes/tls"}],
        },
    }  # fmt: skip


def channel_id(topic: Topic) -> str:
    """The id of a topic's channel in the document."""
    return topic.name.replace(".{action}", "").replace(".", "_")


def channel(topic: Topic) -> Node:
    """The channel of a topic: address, description, messages and Kafka settings."""
    settings: Node = {"cleanup.policy": topic.cleanup.split(",")}
    if topic.cleanup != "compact":
        settings["retention.ms"] = topic.retention_s * 1000
    node: Node = {
        "address": topic.name,
        "description": f"Key: {topic.key}. Written by {', '.join(topic.producers)}; read by {', '.join(topic.consumers)}.",
        "messages": {m.__name__: {"$ref": f"#/components/messages/{m.__name__}"} for m in topic.models},
        "bindings": {"kafka": {"topicConfiguration": settings, "bindingVersion": "0.5.0"}},
    }
    if not topic.hot:
        node["bindings"]["kafka"]["partitions"] = 1
    if topic.name.startswith(TASK_PREFIX):
        node["parameters"] = {
            "action": {
                "description": "The action of a step. Each action, built-in or your own, has a topic.",
                "examples": list(BUILT_IN_ACTIONS),
            }
        }
    return node


def verbs(topic: Topic) -> list[str]:
    """The operations of an outside program on a topic, named from its side: `send`, `receive`."""
    found = ["send"] if set(topic.producers) - INSIDE else []
    outside_readers = set(topic.consumers) - INSIDE or topic.name.startswith(TASK_PREFIX)
    return [*found, *(["receive"] if outside_readers or not found else [])]


def _operation(topic: Topic, verb: str) -> Node:
    summary = f"{'Publish to' if verb == 'send' else 'Read'} {topic.name}"
    return {"action": verb, "channel": {"$ref": f"#/channels/{channel_id(topic)}"}, "summary": summary}


def _message(model: type[Message], example: Message) -> Node:
    record = to_record(example, "/your/program")
    return {
        "name": model.TYPE, "title": model.__name__, "summary": summary(model), "contentType": "application/json",
        "headers": headers(model), "payload": {"$ref": f"#/components/schemas/{model.__name__}"},
        "bindings": {"kafka": {"key": {"type": "string"}, "bindingVersion": "0.5.0"}},
        "examples": [{
            "name": model.__name__, "payload": json.loads(record.value),
            "headers": {name: value.decode() for name, value in record.headers if name != "content-type"},
        }],
    }  # fmt: skip


def summary(model: type[Message]) -> str:
    """The first line of a model's docstring."""
    return (model.__doc__ or model.__name__).strip().splitlines()[0]


def headers(model: type[Message]) -> Node:
    """CloudEvents attributes of a message, as Kafka headers."""
    texts = {
        "ce_id": "Identity of the message. Ignore a record whose id you have processed.", "ce_source": "The producing program.",
        "ce_time": "Time of the event or command, RFC 3339.", "ce_subject": "The record's key.", "ce_tenant": "Id of the owning tenant.",
        "ce_dataschema": f"Type and version of the data, e.g. `{model.data_schema()}`.",
        "traceparent": "W3C Trace Context of the message's cause.",
    }  # fmt: skip
    return {
        "type": "object",
        "required": ["ce_specversion", "ce_id", "ce_source", "ce_type"],
        "properties": {
            "ce_specversion": {"type": "string", "const": "1.0"},
            "ce_type": {"type": "string", "const": model.TYPE},
            **{name: {"type": "string", "description": words} for name, words in texts.items()},
        },
    }


def flattened(model: type[Message]) -> Node:
    """The model's schema and the schemas that it refers to, by name. References point into this document."""
    schema = current(model)
    parts = {model.__name__: {k: v for k, v in schema.items() if k not in ("$defs", "$schema", "$id")}, **schema.get("$defs", {})}
    return described(_pointed(parts))


def _pointed(node: Any) -> Any:
    if isinstance(node, dict):
        return {k: v.replace("#/$defs/", "#/components/schemas/") if k == "$ref" else _pointed(v) for k, v in node.items()}
    return [_pointed(item) for item in node] if isinstance(node, list) else node
