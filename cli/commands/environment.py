"""`stageline env`: the Kafka settings of a program of yours."""

from __future__ import annotations

import json
import shlex
from enum import StrEnum
from typing import Annotated

import typer

from cli.command import DEFAULT_DATA_DIR, DataDir, print_line
from cli.commands.kafka import split
from cli.target import CliError


class Format(StrEnum):
    """How settings are printed."""

    EXPORT = "export"
    DOTENV = "dotenv"
    JSON = "json"


class Role(StrEnum):
    """Users that every pipeline has."""

    PRODUCER = "producer"
    CONSUMER = "consumer"
    WORKER = "worker"
    OPERATOR = "operator"
    ADMIN = "admin"


def env(
    role: Annotated[Role, typer.Option(help="What the program does")] = Role.CONSUMER,
    user: Annotated[str | None, typer.Option(help="A user of `stageline kafka grant` instead")] = None,
    actions: Annotated[str, typer.Option(help="Actions whose tasks the worker may read from now on, separated by commas")] = "",
    form: Annotated[Format, typer.Option("--format", help="For the shell, for a .env file, or JSON")] = Format.EXPORT,
    data_dir: DataDir = DEFAULT_DATA_DIR,
) -> None:
    """Print KAFKA_* of a program that connects to the pipeline here, for the shell or a file.

    Example: eval "$(stageline env --role worker --actions acme.count)"
    """
    from cli.inspect import cluster

    target = cluster.cluster_of(data_dir)
    if target.credentials is None:
        raise CliError(f"no pipeline runs in {data_dir}; on a cluster of yours its administrator has the passwords", 3)
    name = user or role.value
    if actions:
        cluster.grant(target, name, Role.WORKER.value, split(actions), None, None)
    if name not in target.credentials.known():
        raise CliError(f"there is no Kafka user {name}; make one with `stageline kafka grant`", 4)
    settings = target.credentials.settings(name, target.bootstrap)
    del settings["KAFKA_SASL_PASSWORD_FILE"]
    settings["KAFKA_SASL_PASSWORD"] = target.credentials.password(name)
    if form is Format.JSON:
        print_line(json.dumps(settings, indent=1))
        return
    for key, value in settings.items():
        print_line(f"export {key}={shlex.quote(value)}" if form is Format.EXPORT else f"{key}={value}")
