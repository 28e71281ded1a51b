"""`stageline kafka`: one-time set-up of topics and ACLs on a cluster whose users may not create topics."""

from __future__ import annotations

from typing import Annotated

import typer

from cli.command import say

app = typer.Typer(
    help="Topics and ACLs on a Kafka cluster. KAFKA_* variables name the cluster and the user.", no_args_is_help=True
)
Actions = Annotated[list[str] | None, typer.Option("--action", help="An action of your own workers; may repeat")]


@app.command()
def apply(
    partitions: Annotated[int, typer.Option(min=1, help="Partitions of hot topics")] = 6,
    task_partitions: Annotated[int | None, typer.Option(min=1, help="Partitions of task topics; default: the same")] = None,
    replication: Annotated[int, typer.Option(min=1, help="Replicas of each topic")] = 3,
    prefix: Annotated[str, typer.Option(help="A service's Kafka user is PREFIX plus the service's name")] = "stageline-",
    rights: Annotated[bool, typer.Option("--rights/--no-rights", help="Also grant the services' ACLs")] = True,
    action: Actions = None,
) -> None:
    """Create missing topics and grant each service the ACLs it needs. Safe to repeat."""
    from cli.inspect import cluster
    from shared.kafka.topics import TopicSizes

    topics, count = cluster.apply(action, TopicSizes(partitions, task_partitions or partitions, replication), prefix, rights)
    say(f"{topics} topics exist; {count} ACLs are granted")


@app.command()
def grant(
    user: Annotated[str, typer.Argument(help="Kafka user of an external program")],
    role: Annotated[str, typer.Argument(help="producers, consumers or workers")],
    groups: Annotated[str | None, typer.Option(help="Prefix of its consumer groups")] = None,
) -> None:
    """Grant an external program the ACLs of its role."""
    from cli.inspect import cluster

    count = cluster.grant(user, role, groups)
    say(f"{user} has the {count} ACLs of {role}")


@app.command()
def show(role: str, user: Annotated[str, typer.Option(help="Kafka user")] = "USER", action: Actions = None) -> None:
    """Print the ACLs of a service or role as arguments for Kafka's kafka-acls.sh."""
    from cli.inspect import cluster

    for line in cluster.commands(role, user, action):
        say(line)
