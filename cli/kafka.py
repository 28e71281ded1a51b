"""`stageline kafka`: what an administrator does once on a cluster whose users may not create topics."""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Coroutine
from typing import Annotated, Any

import typer
from aiokafka.errors import KafkaError

from cli.client import CliError
from cli.pipeline import say
from contracts import Topic, all_topics, dead_letter_topic
from contracts.topics import BUILT_IN_ACTIONS, dead_letters_of
from shared import acls
from shared.errors import Outcome
from shared.kafka import ensure_topics
from shared.kafka_access import KafkaAccess

app = typer.Typer(help="Topics and rights on a Kafka cluster (KAFKA_* says which, and who you are).", no_args_is_help=True)
Actions = Annotated[list[str] | None, typer.Option("--action", help="An action of your own workers; may repeat")]


def every_topic(actions: tuple[str, ...]) -> list[Topic]:
    """All topics of a deployment, with the dead letters of every group."""
    found = {t.name: t for t in all_topics(actions)}
    for service, groups in acls.GROUPS.items():
        for group, only in groups.items():
            for topic in acls.consumed(service, actions):
                if only in (None, topic.name):
                    found[dead_letter_topic(topic.name, group)] = dead_letters_of(topic, group)
    return list(found.values())


def done(work: Coroutine[Any, Any, int]) -> int:
    """Run it; whatever Kafka refuses is one line and exit code 1."""
    # The client logs what it tries; we say what came of it.
    logging.getLogger("aiokafka").setLevel(logging.CRITICAL)
    try:
        return asyncio.run(work)
    except Outcome as error:
        raise CliError(str(error), 1) from None
    except KafkaError as error:
        raise CliError(
            f"Kafka at {KafkaAccess().bootstrap_servers}: {error} (unreachable, or KAFKA_SASL_* and KAFKA_SSL_* are wrong)", 1
        ) from None


@app.command()
def apply(
    partitions: Annotated[int, typer.Option(min=1)] = 6,
    replication: Annotated[int, typer.Option(min=1, help="Replicas of each topic")] = 3,
    prefix: Annotated[str, typer.Option(help="The services' users are PREFIX and the service's name")] = "stageline-",
    rights: Annotated[bool, typer.Option("--rights/--no-rights", help="Also grant the services' rights")] = True,
    action: Actions = None,
) -> None:
    """Create every topic that is missing and grant each service what it needs, and no more. Again: changes nothing."""
    actions = (*BUILT_IN_ACTIONS, *(action or ()))
    granted = [(f"User:{prefix}{s}", acl) for s in acls.GROUPS for acl in acls.rights(s, actions)] if rights else []

    async def work() -> int:
        access = KafkaAccess()
        await ensure_topics(access, every_topic(actions), partitions, replication)
        return await acls.apply(access, granted)

    count = done(work())
    say(f"{len(every_topic(actions))} topics are there; {count} rights are granted")


@app.command()
def grant(
    user: Annotated[str, typer.Argument(help="Kafka user of a program outside")],
    role: Annotated[str, typer.Argument(help="producers, consumers or workers")],
    groups: Annotated[str | None, typer.Option(help="What the names of its consumer groups begin with")] = None,
) -> None:
    """Grant a program outside the rights of its role."""
    if role not in acls.OUTSIDE:
        raise CliError(f"role: {role!r} is none of {', '.join(acls.OUTSIDE)}", 2)
    count = done(acls.apply(KafkaAccess(), [(f"User:{user}", acl) for acl in acls.rights(role, group_prefix=groups)]))
    say(f"{user} has the {count} rights of {role}")


@app.command()
def show(role: str, user: Annotated[str, typer.Option(help="Kafka user")] = "USER", action: Actions = None) -> None:
    """Print the rights of a service or role as arguments of Kafka's own kafka-acls.sh."""
    try:
        found = acls.rights(role, (*BUILT_IN_ACTIONS, *(action or ())))
    except ValueError as error:
        raise CliError(str(error), 2) from None
    for acl in found:
        say(acl.command(f"User:{user}"))
