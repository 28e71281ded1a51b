"""Reference of the settings, from the pydantic settings of every service."""

from __future__ import annotations

import ast
import inspect
import textwrap
from pathlib import Path
from typing import Any, get_args

from pydantic.fields import FieldInfo
from pydantic_core import PydanticUndefined
from pydantic_settings import BaseSettings

from scripts.docs.markdown import first_sentence, table
from services.ingest.settings import IngestSettings
from services.job_orchestrator.settings import OrchestratorSettings
from services.notifier.settings import NotifierSettings
from services.session.settings import SessionSettings
from services.stage_worker.settings import WorkerSettings
from shared.settings import Settings

SERVICES: dict[str, type[Settings]] = {
    "ingest": IngestSettings, "session": SessionSettings, "job_orchestrator": OrchestratorSettings,
    "stage_worker": WorkerSettings, "notifier": NotifierSettings,
}  # fmt: skip
KAFKA = Settings.model_fields["kafka"].annotation
HEAD = """\
# Settings

Generated from the services' settings by `make docs`. Do not edit.

Every setting is an environment variable. Lists and networks are JSON. A service with an invalid value prints its name and does not start.
"""
OTHER = [
    [
        "`STAGELINE_URL`, `STAGELINE_NOTIFIER_URL`, `STAGELINE_KEY`",
        "command line",
        "A pipeline other than the data directory's.",
    ],
    [
        "`STAGELINE_CACHE`",
        "`stageline up`",
        "Folder for the downloaded Kafka and Java; by default `stageline` in the user's cache folder.",
    ],
    ["`JAVA_HOME`", "`stageline up`", "A Java 17 or newer to use instead of the downloaded one."],
    [
        "`OTEL_EXPORTER_OTLP_ENDPOINT`",
        "all services",
        "Where spans and metrics are sent, by OTLP over HTTP. Without it, none are sent.",
    ],
    [
        "`AWS_*`, `GOOGLE_*`, `AZURE_*`",
        "all services",
        "Credentials of the object store, with the names of the vendors' own tools.",
    ],
]


def page() -> str:
    """The whole page: common settings, Kafka's, and each service's own."""
    assert isinstance(KAFKA, type) and issubclass(KAFKA, BaseSettings)
    common = set(Settings.model_fields)
    parts = [HEAD, "## All services\n", setting_table(Settings, common - {"kafka"}), ""]
    parts += ["## Kafka, all services\n", setting_table(KAFKA, set(KAFKA.model_fields)), ""]
    for service, settings in SERVICES.items():
        own = set(settings.model_fields) - common
        parts += [f"## {service}\n", setting_table(settings, own) if own else "None of its own.", ""]
    parts += ["## Other variables\n", table(["name", "read by", "meaning"], OTHER), ""]
    return "\n".join(parts)


def setting_table(settings: type[BaseSettings], names: set[str]) -> str:
    """A row per setting: name in the environment, type, default and meaning."""
    meanings = docstrings(settings)
    prefix = settings.model_config.get("env_prefix", "")
    fields = settings.model_fields
    rows = [
        [f"`{(prefix + n).upper()}`", type_of(fields[n]), default_of(fields[n]), meanings.get(n, "")]
        for n in fields
        if n in names
    ]
    return table(["name", "type", "default", "meaning"], rows)


def docstrings(settings: type[BaseSettings]) -> dict[str, str]:
    """Field → the docstring below it, of the class and its bases."""
    found: dict[str, str] = {}
    for cls in reversed(settings.__mro__):
        if issubclass(cls, BaseSettings) and cls is not BaseSettings:
            body = ast.parse(textwrap.dedent(inspect.getsource(cls))).body[0]
            assert isinstance(body, ast.ClassDef)
            for field, text in zip(body.body, body.body[1:], strict=False):
                if isinstance(field, ast.AnnAssign) and isinstance(field.target, ast.Name) and isinstance(text, ast.Expr):
                    found[field.target.id] = first_sentence(ast.literal_eval(text.value))
    return found


def type_of(field: FieldInfo) -> str:
    """The type in words, with its bounds."""
    kind = _kind(field.annotation)
    bounds = [f"{sign} {value:,}" for m in field.metadata for sign, value in _bounds(m)]
    return f"{kind}, {', '.join(bounds)}" if bounds else kind


def default_of(field: FieldInfo) -> str:
    """The default as an environment variable's value; `depends` if it is computed at the start."""
    if field.default_factory is not None:
        return "depends"
    default = field.default
    if default is PydanticUndefined:
        return "required"
    if default is None:
        return ""
    if isinstance(default, bool):
        return f"`{int(default)}`"
    if isinstance(default, tuple):
        return "`[" + ", ".join(f'"{x}"' if isinstance(x, str) else f"{x:g}" for x in default) + "]`"
    return f"`{default:g}`" if isinstance(default, float) else f"`{default}`"


WORDS: dict[Any, str] = {str: "text", int: "number", float: "number", bool: "0 or 1", Path: "path"}


def _kind(annotation: Any) -> str:
    options = [a for a in get_args(annotation) if a not in (type(None), Ellipsis)]
    if "Literal" in str(annotation):
        return " or ".join(f"`{option}`" for option in options)
    if str(annotation).startswith("tuple"):
        return f"JSON list of {_kind(options[0])}s"
    if options:
        return " or ".join(_kind(option) for option in options)
    return WORDS.get(annotation) or {"SecretStr": "secret text", "IPvAnyNetwork": "network", "AnyHttpUrl": "URL"}.get(
        annotation.__name__, annotation.__name__
    )


def _bounds(constraint: Any) -> list[tuple[str, float]]:
    signs = (("ge", "≥"), ("gt", ">"), ("le", "≤"), ("lt", "<"))
    return [(sign, getattr(constraint, name)) for name, sign in signs if getattr(constraint, name, None) is not None]
