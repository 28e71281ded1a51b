"""`stageline kafka`: topics, users and ACLs on a cluster."""

from __future__ import annotations

import fnmatch
from pathlib import Path
from typing import Annotated, Any

import typer

from cli.command import DEFAULT_DATA_DIR, AsJson, DataDir, print_line
from cli.groups import Listing, noun
from cli.output import show_rows
from cli.target import CliError

WHERE = "KAFKA_* variables name the cluster and its administrator; without them it is the pipeline here."
app = noun(f"The same as `topics` and `grants`: topics, users and ACLs. {WHERE}")
topics = noun(f"Topics of Kafka. {WHERE}", Listing)
grants = noun(f"Kafka users and their rights. {WHERE}", Listing)
Actions = Annotated[list[str] | None, typer.Option("--action", help="An action of your own workers; may repeat")]
Listed = Annotated[str, typer.Option("--actions", help="A worker's actions, separated by commas")]
Tenant = Annotated[str | None, typer.Option(help="A tenant, which gets topics of its own")]
PasswordFile = Annotated[
    Path | None, typer.Option(help="Create the user on a cluster of yours, by SCRAM-SHA-512, with the password in this file")
]


@app.command()
@topics.command()
def apply(
    partitions: Annotated[int, typer.Option(min=1, help="Partitions of hot topics")] = 6,
    task_partitions: Annotated[int | None, typer.Option(min=1, help="Partitions of task topics; default: the same")] = None,
    replication: Annotated[int, typer.Option(min=1, help="Replicas of each topic")] = 3,
    prefix: Annotated[str, typer.Option(help="A service's Kafka user is PREFIX plus the service's name")] = "stageline-",
    rights: Annotated[bool, typer.Option("--rights/--no-rights", help="Also grant the services' ACLs")] = True,
    action: Actions = None,
) -> None:
    """Create missing topics and grant each service the ACLs it needs, and no others. Shortens retentions of an earlier release. Safe to repeat.

    Example: stageline topics apply --partitions 12 --action acme.count
    """
    from cli.inspect import cluster
    from shared.kafka.topics import TopicSizes

    topics, count = cluster.apply(action, TopicSizes(partitions, task_partitions or partitions, replication), prefix, rights)
    print_line(f"{topics} topics exist; {count} ACLs are granted")


@app.command()
@grants.command("add")
def grant(
    user: Annotated[
        str | None, typer.Argument(help="Kafka user of an external program; of a tenant by default tenant-ID")
    ] = None,
    role: Annotated[str | None, typer.Argument(help="producer, consumer, worker or operator")] = None,
    role_option: Annotated[str | None, typer.Option("--role", help="The same")] = None,
    actions: Listed = "",
    groups: Annotated[str | None, typer.Option(help="Prefix of its consumer groups")] = None,
    tenant: Tenant = None,
    user_option: Annotated[str | None, typer.Option("--user", help="The Kafka user")] = None,
    password_file: PasswordFile = None,
    partitions: Annotated[int, typer.Option(min=1, help="Partitions of a tenant's topics")] = 3,
    replication: Annotated[
        int | None, typer.Option(min=1, help="Replicas of a tenant's topics; default: 1 here, 3 elsewhere")
    ] = None,
    data_dir: DataDir = DEFAULT_DATA_DIR,
) -> None:
    """Grant an external program the ACLs of its role, or a tenant its own topics. Here the user is created, too.

    Example: stageline grants add counter worker --actions acme.count
    """
    password = _password(password_file)
    name, wanted = user_option or user, role_option or role
    if tenant is not None:
        _grant_tenant(data_dir, tenant, name or f"tenant-{tenant}", password, partitions, replication)
    elif name and wanted:
        _grant_role(data_dir, name, wanted, split(actions), groups, password)
    else:
        raise CliError("name a user and a role, or --tenant", 2)


def _grant_tenant(data_dir: Path, tenant: str, name: str, password: str | None, partitions: int, replication: int | None) -> None:
    from cli.inspect import cluster
    from shared.kafka.topics import TopicSizes

    target = cluster.cluster_of(data_dir)
    sizes = TopicSizes(partitions, partitions, replication or (1 if target.credentials else 3))
    count = cluster.grant_tenant(target, tenant, name, sizes, password)
    print_line(f"{name} has the {count} ACLs of tenant {tenant}")
    _say_settings(name, password, target.credentials is not None)


def _grant_role(data_dir: Path, name: str, role: str, actions: list[str], groups: str | None, password: str | None) -> None:
    from cli.inspect import cluster

    target = cluster.cluster_of(data_dir)
    count = cluster.grant(target, name, role, actions, groups, password)
    print_line(f"{name} has the {count} ACLs of {cluster.role_of(role)}")
    _say_settings(name, password, target.credentials is not None)


def _say_settings(name: str, password: str | None, here: bool) -> None:
    if here:
        print_line(f"its settings: stageline env --user {name}")
    elif password is None:
        print_line(f"the user {name} must exist on the cluster; --password-file creates it")


@app.command()
@grants.command()
def revoke(
    user: Annotated[str | None, typer.Argument(help="Kafka user")] = None,
    tenant: Tenant = None,
    user_option: Annotated[str | None, typer.Option("--user", help="The same")] = None,
    keep_topics: Annotated[bool, typer.Option(help="Keep a tenant's topics")] = False,
    data_dir: DataDir = DEFAULT_DATA_DIR,
) -> None:
    """Take all rights from a user, and delete it here. A tenant's topics are deleted with what they hold.

    Example: stageline grants revoke counter
    """
    from cli.inspect import cluster

    name = user_option or user or (f"tenant-{tenant}" if tenant else None)
    if name is None:
        raise CliError("name a user, or --tenant", 2)
    cluster.revoke(cluster.cluster_of(data_dir), name, tenant, keep_topics)
    print_line(f"{name} has no rights")


@app.command()
@grants.command()
def show(
    role: Annotated[str | None, typer.Argument(help="A service, or the role of a program")] = None,
    user: Annotated[str, typer.Option(help="Kafka user")] = "USER",
    action: Actions = None,
    tenant: Tenant = None,
    partitions: Annotated[int, typer.Option(min=1, help="Partitions of a tenant's topics")] = 3,
    replication: Annotated[int, typer.Option(min=1, help="Replicas of a tenant's topics")] = 3,
) -> None:
    """Print the ACLs of a service, role or tenant as arguments for Kafka's kafka-acls.sh, and a tenant's topics for kafka-topics.sh.

    Example: stageline grants show worker --user counter --action acme.count
    """
    from cli.inspect import cluster

    if tenant is None and role is None:
        raise CliError("name a role, or --tenant", 2)
    if tenant is not None:
        lines = cluster.tenant_commands(tenant, user, partitions, replication)
    else:
        lines = cluster.commands(str(role), user, action or ())
    for line in lines:
        print_line(line)


@topics.command("list")
def list_topics(
    pattern: Annotated[str, typer.Argument(metavar="[PATTERN]", help="Only names that fit, such as 'stage.tasks.*'")] = "*",
    as_json: AsJson = False,
    data_dir: DataDir = DEFAULT_DATA_DIR,
) -> None:
    """List the topics of the cluster with their partitions and replicas.

    Example: stageline topics list 'stage.tasks.*'
    """
    from cli.inspect import cluster
    from cli.inspect.grants import topics_of

    found = [t for t in topics_of(cluster.cluster_of(data_dir)) if fnmatch.fnmatchcase(t["name"], pattern)]
    columns: dict[str, Any] = {"topic": "name", "partitions": "partitions", "replicas": "replicas"}
    show_rows(found, columns, as_json, empty="no topic has such a name")


@grants.command("list")
def list_grants(
    pattern: Annotated[str, typer.Argument(metavar="[PATTERN]", help="Only users that fit, such as 'tenant-*'")] = "*",
    as_json: AsJson = False,
    data_dir: DataDir = DEFAULT_DATA_DIR,
) -> None:
    """List what each Kafka user may do.

    Example: stageline grants list 'tenant-*' --output csv
    """
    from cli.inspect import cluster
    from cli.inspect.grants import grants_of

    found = [g for g in grants_of(cluster.cluster_of(data_dir)) if fnmatch.fnmatchcase(g["user"], pattern)]
    columns: dict[str, Any] = {
        "user": "user", "on": "resource", "name": "name", "matches": "pattern", "may": "operation", "rule": "permission",
    }  # fmt: skip
    show_rows(found, columns, as_json, empty="no user has rights here")


def split(listed: str) -> list[str]:
    """The words of a list that is separated by commas."""
    return [word.strip() for word in listed.split(",") if word.strip()]


def _password(file: Path | None) -> str | None:
    if file is None:
        return None
    try:
        return file.read_text().strip()
    except OSError as error:
        raise CliError(f"{file}: {error.strerror}", 2) from None
