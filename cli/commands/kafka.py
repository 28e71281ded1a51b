"""`stageline kafka`: what an administrator does once on a cluster whose users may not create topics."""

from __future__ import annotations

from typing import Annotated

import typer

from cli.command import say

app = typer.Typer(help="Topics and rights on a Kafka cluster (KAFKA_* says which, and who you are).", no_args_is_help=True)
Actions = Annotated[list[str] | None, typer.Option("--action", help="An action of your own workers; may repeat")]


@app.command()
def apply(
    partitions: Annotated[int, typer.Option(min=1, help="Partitions of hot topics")] = 6,
    task_partitions: Annotated[int | None, typer.Option(min=1, help="Of task topics; by default the same")] = None,
    replication: Annotated[int, typer.Option(min=1, help="Replicas of each topic")] = 3,
    prefix: Annotated[str, typer.Option(help="The services' users are PREFIX and the service's name")] = "stageline-",
    rights: Annotated[bool, typer.Option("--rights/--no-rights", help="Also grant the services' rights")] = True,
    action: Actions = None,
) -> None:
    """Create every topic that is missing and grant each service what it needs, and no more. Again: changes nothing."""
    from cli.inspect import cluster
    from shared.kafka.topics import TopicSizes

    topics, count = cluster.apply(action, TopicSizes(partitions, task_partitions or partitions, replication), prefix, rights)
    say(f"{topics} topics are there; {count} rights are granted")


@app.command()
def grant(
    user: Annotated[str, typer.Argument(help="Kafka user of a program outside")],
    role: Annotated[str, typer.Argument(help="producers, consumers or workers")],
    groups: Annotated[str | None, typer.Option(help="What the names of its consumer groups begin with")] = None,
) -> None:
    """Grant a program outside the rights of its role."""
    from cli.inspect import cluster

    count = cluster.grant(user, role, groups)
    say(f"{user} has the {count} rights of {role}")


@app.command()
def show(role: str, user: Annotated[str, typer.Option(help="Kafka user")] = "USER", action: Actions = None) -> None:
    """Print the rights of a service or role as arguments of Kafka's own kafka-acls.sh."""
    from cli.inspect import cluster

    for line in cluster.commands(role, user, action):
        say(line)
