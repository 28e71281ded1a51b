"""The catalogue: one static page with every topic, type, version, field and example. `make docs` writes it."""

from __future__ import annotations

import json
from html import escape
from typing import Any

from contracts.message import Message
from contracts.registry.asyncapi import flattened, summary
from contracts.registry.schemas import released
from contracts.topics import TOPICS, Topic, task_topic

STYLE = """
body{font:15px/1.5 system-ui,sans-serif;margin:0;color:#1c2430;background:#fff;display:grid;grid-template-columns:17rem 1fr}
nav{position:sticky;top:0;height:100vh;overflow:auto;padding:1rem;background:#f4f6f9;box-sizing:border-box;font-size:13px}
nav a{display:block;color:#1f4f82;text-decoration:none;padding:.1rem 0}nav .type{padding-left:1rem}
main{padding:1rem 2rem 4rem;max-width:62rem}h2{margin-top:2.5rem;border-top:1px solid #d8dee6;padding-top:1rem}
table{border-collapse:collapse;width:100%;font-size:14px}td,th{text-align:left;vertical-align:top;padding:.25rem .6rem .25rem 0;
border-bottom:1px solid #e7ebf0}code,pre{font:13px/1.45 ui-monospace,monospace}pre{background:#f4f6f9;padding:.8rem;overflow:auto}
.need{color:#9a3412}.faint{color:#5b6675}@media(max-width:50rem){body{display:block}nav{position:static;height:auto}}
"""


def page(examples: dict[str, Message], version: str) -> str:
    """The page of the release `version`, as HTML. `examples` holds one message of each type."""
    topics = (*TOPICS, task_topic("{action}"))
    links = "".join(_links(t) for t in topics)
    body = "".join(_topic(t, examples) for t in topics)
    return (
        f'<!doctype html>\n<html lang="en"><meta charset="utf-8"><meta name="viewport" content="width=device-width">'
        f"<title>Stageline topics {version}</title><style>{STYLE}</style>\n<nav><b>Stageline topics</b> {version}{links}</nav>\n"
        f"<main><h1>Topics and messages</h1><p>Generated from the topic table. The same for machines: "
        f'<a href="asyncapi.json">asyncapi.json</a>, <a href="schemas/">schemas/</a>. Records are CloudEvents in binary mode.</p>'
        f"\n{body}</main></html>\n"
    )


def _links(topic: Topic) -> str:
    types = "".join(f'<a class="type" href="#{m.TYPE}">{m.__name__}</a>' for m in topic.models)
    return f'<a href="#{escape(topic.name)}"><b>{escape(topic.name)}</b></a>{types}\n'


def _topic(topic: Topic, examples: dict[str, Message]) -> str:
    kept = "the last record of each key" if topic.cleanup == "compact" else f"{topic.retention_s / 86_400:g} days"
    facts = f"key: {topic.key} · kept: {kept} · written by {', '.join(topic.producers)} · read by {', '.join(topic.consumers)}"
    types = "".join(_type(m, examples[m.TYPE]) for m in topic.models)
    return f'<h2 id="{escape(topic.name)}">{escape(topic.name)}</h2><p class="faint">{escape(facts)}</p>\n{types}'


def _type(model: type[Message], example: Message) -> str:
    versions = ", ".join(f'<a href="schemas/{model.TYPE}/{v}.json">{v}</a>' for v in released(model.TYPE))
    shown = escape(json.dumps(json.loads(example.to_json()), indent=1, ensure_ascii=False))
    return (
        f'<h3 id="{model.TYPE}">{model.__name__}</h3><p>{escape(summary(model))}</p>'
        f'<p class="faint"><code>{model.TYPE}</code> · versions {versions}</p>\n'
        f"<table><tr><th>field<th>type<th>meaning</tr>{_fields(model)}</table>\n"
        f"<details><summary>Example</summary><pre>{shown}</pre></details>\n"
    )


def _fields(model: type[Message]) -> str:
    parts = flattened(model)
    return "".join(_rows(parts[model.__name__], parts, ""))


def _rows(schema: dict[str, Any], parts: dict[str, Any], prefix: str) -> list[str]:
    rows: list[str] = []
    for name, field in schema.get("properties", {}).items():
        kind, inner = _kind(field, parts)
        need = ' <span class="need">required</span>' if name in schema.get("required", ()) else ""
        about = escape(field.get("description", ""))
        rows.append(f"<tr><td><code>{escape(prefix + name)}</code>{need}<td>{escape(kind)}<td>{about}</tr>\n")
        if inner is not None:
            rows += _rows(inner, parts, f"{prefix}{name}{'[]' if kind.startswith('list') else ''}.")
    return rows


def _kind(field: dict[str, Any], parts: dict[str, Any]) -> tuple[str, dict[str, Any] | None]:
    """A field's type in words, and the schema of its value when the value has fields of its own."""
    if "$ref" in field:
        target = parts[field["$ref"].rpartition("/")[2]]
        return _kind(target, parts) if "enum" in target else ("object", target)
    if "anyOf" in field:
        found = [_kind(branch, parts) for branch in field["anyOf"]]
        return " or ".join(dict.fromkeys(words for words, _ in found)), next((inner for _, inner in found if inner), None)
    if "enum" in field or "const" in field:
        return " | ".join(map(str, field.get("enum", [field.get("const")]))), None
    if field.get("type") == "array":
        words, inner = _kind(field.get("items", {}), parts)
        return f"list of {words}", inner
    limits = [f"{sign} {field[w]}" for w, sign in (("minimum", "≥"), ("maximum", "≤"), ("maxLength", "at most")) if w in field]
    return " ".join([str(field.get("format", field.get("type", "anything"))), *limits]), None
