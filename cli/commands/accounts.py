"""`stageline tenants`, `users`, `keys` and `applications`: who may use the pipeline. What is secret is printed once."""

from __future__ import annotations

import sys
from enum import StrEnum
from pathlib import Path
from typing import Annotated, Any
from urllib.parse import quote

import typer
from rich.table import Table

from cli.client import Client, CliError
from cli.command import DEFAULT_DATA_DIR, AsJson, DataDir, print_line, run, show
from cli.commands.secrets import read_value

tenants = typer.Typer(help="Create, list and erase tenants. Needs an admin key of the platform.", no_args_is_help=True)
users = typer.Typer(help="Create, list and delete users of your tenant, who sign in with a password.", no_args_is_help=True)
keys = typer.Typer(help="Create, list and revoke API keys.", no_args_is_help=True)
applications = typer.Typer(help="Create, list and revoke credentials for signed requests (amx).", no_args_is_help=True)


class Role(StrEnum):
    """Roles of keys, users and applications."""

    ADMIN = "admin"
    OPERATOR = "operator"
    PRODUCER = "producer"
    READER = "reader"


WithRole = Annotated[Role, typer.Option(help="What it may do")]
Rights = Annotated[list[str] | None, typer.Option("--right", help="A right beside the role, such as share; may repeat")]
Owner = Annotated[str, typer.Option("--user", help="Name of the person or program that uses it")]


def register(app: typer.Typer) -> None:
    """Add the four groups of commands to the command line."""
    for name, group in (("tenants", tenants), ("users", users), ("keys", keys), ("applications", applications)):
        app.add_typer(group, name=name)


def _call(data_dir: Path, method: str, path: str, **more: Any) -> Any:
    async def work(client: Client) -> Any:
        return await client.call(method, path, **more)

    return run(data_dir, work)


def _table(first: str, *others: str) -> Table:
    """A table whose first column can be copied: it is never broken into lines."""
    table = Table(box=None)
    table.add_column(first, no_wrap=True)
    for name in others:
        table.add_column(name)
    return table


def _quotas(pairs: list[str]) -> dict[str, int]:
    found: dict[str, int] = {}
    for pair in pairs:
        name, _, value = pair.partition("=")
        if not name or not value.isdecimal():
            raise CliError(f"--quota: NAME=NUMBER is expected, not {pair!r}", 2)
        found[name] = int(value)
    return found


@tenants.command("create")
def create_tenant(
    tenant: str,
    name: Annotated[str | None, typer.Option(help="Its name for people; default: the id")] = None,
    quota: Annotated[list[str] | None, typer.Option(help="A limit, such as jobs_open=1000; may repeat")] = None,
    inbox: Annotated[str | None, typer.Option(help="Address to which mail for it is sent")] = None,
    as_json: AsJson = False,
    data_dir: DataDir = DEFAULT_DATA_DIR,
) -> None:
    """Create a tenant, or change all of an existing one: name, quotas and inbox."""
    body = {"name": name or tenant, "quotas": _quotas(quota or []), "inbox": inbox}
    made = _call(data_dir, "PUT", f"/v1/tenants/{quote(tenant, safe='')}", json=body)
    show(made, as_json, lambda: f"{made['tenant_id']}: {made['name']}")


@tenants.command("list")
def list_tenants(as_json: AsJson = False, data_dir: DataDir = DEFAULT_DATA_DIR) -> None:
    """List tenants and their quotas."""
    found = _call(data_dir, "GET", "/v1/tenants")["result"]

    def plain() -> Table:
        table = _table("tenant", "name", "quotas")
        for t in found:
            table.add_row(t["tenant_id"], t["name"], ", ".join(f"{k}={v}" for k, v in t["quotas"].items() if v is not None))
        return table

    show(found, as_json, plain)


@tenants.command("revoke")
def revoke_tenant(
    tenant: str,
    yes: Annotated[bool, typer.Option("--yes", help="Do not ask")] = False,
    as_json: AsJson = False,
    data_dir: DataDir = DEFAULT_DATA_DIR,
) -> None:
    """Shut a tenant out at once, and erase all that it has: accounts, jobs, documents. Repeat it to see what is left."""
    if not yes:
        if not sys.stdin.isatty():
            raise CliError(f"{tenant} and all that it has would be erased: confirm with --yes", 2)
        typer.confirm(f"Erase {tenant} and all that it has?", abort=True)
    state = _call(data_dir, "DELETE", f"/v1/tenants/{quote(tenant, safe='')}")
    left = ", ".join(f"{count} {what}" for what, count in state["left"].items() if count)
    show(state, as_json, lambda: f"{tenant}: erasure {state['state']}; left: {left or 'nothing'}")


@users.command("create")
def create_user(
    user: str,
    role: WithRole = Role.PRODUCER,
    right: Rights = None,
    password_file: Annotated[
        Path | None, typer.Option(help="File with the password; default: a prompt, or standard input")
    ] = None,
    keep_password: Annotated[
        bool, typer.Option("--keep-password", help="Change an existing user's role and rights alone")
    ] = False,
    disabled: Annotated[bool, typer.Option("--disabled", help="The user cannot sign in")] = False,
    as_json: AsJson = False,
    data_dir: DataDir = DEFAULT_DATA_DIR,
) -> None:
    """Create a user, or change one and end its sessions. The password is never an argument, because other users could see it."""
    body: dict[str, Any] = {"role": role, "rights": right or [], "disabled": disabled}
    if not keep_password:
        body["password"] = read_value(password_file, "Password")
    made = _call(data_dir, "PUT", f"/v1/users/{quote(user, safe='')}", json=body)
    show(made, as_json, lambda: f"{made['user_name']}: {made['role']}")


@users.command("list")
def list_users(as_json: AsJson = False, data_dir: DataDir = DEFAULT_DATA_DIR) -> None:
    """List the users of your tenant."""
    found = _call(data_dir, "GET", "/v1/users")["result"]

    def plain() -> Table:
        table = _table("user", "role", "rights", "state")
        for u in found:
            table.add_row(u["user_name"], u["role"], ", ".join(u["rights"]), "disabled" if u["disabled"] else "active")
        return table

    show(found, as_json, plain)


@users.command("revoke")
def revoke_user(user: str, data_dir: DataDir = DEFAULT_DATA_DIR) -> None:
    """Delete a user. Tokens, keys, applications and shared links under its name end too."""
    _call(data_dir, "DELETE", f"/v1/users/{quote(user, safe='')}")
    print_line(f"{user} is deleted")


@keys.command("create")
def create_key(
    user: Owner,
    role: WithRole = Role.PRODUCER,
    right: Rights = None,
    tenant: Annotated[str | None, typer.Option(help="Another tenant; needs an admin key of the platform")] = None,
    expires_at: Annotated[str | None, typer.Option(help="When it ends, such as 2027-12-31T00:00:00Z; default: never")] = None,
    as_json: AsJson = False,
    data_dir: DataDir = DEFAULT_DATA_DIR,
) -> None:
    """Create a key. It is printed once."""
    body = {"user_name": user, "role": role, "rights": right or [], "tenant_id": tenant, "expires_at": expires_at}
    made = _call(data_dir, "POST", "/v1/keys", json=body)
    show(made, as_json, lambda: f"{made['key_id']}\nkey: {made['key']}")


@keys.command("list")
def list_keys(
    tenant: Annotated[str | None, typer.Option(help="Another tenant; needs an admin key of the platform")] = None,
    as_json: AsJson = False,
    data_dir: DataDir = DEFAULT_DATA_DIR,
) -> None:
    """List the keys that are not revoked, each with its first characters."""
    found = _call(data_dir, "GET", "/v1/keys", params={"tenant_id": tenant} if tenant else {})["result"]

    def plain() -> Table:
        table = _table("key id", "begins with", "user", "role", "rights", "ends")
        for k in found:
            ends = str(k["expires_at"] or "never")
            table.add_row(k["key_id"], k["prefix"], k["user_name"], k["role"], ", ".join(k["rights"]), ends)
        return table

    show(found, as_json, plain)


@keys.command("revoke")
def revoke_key(key_id: str, data_dir: DataDir = DEFAULT_DATA_DIR) -> None:
    """Revoke a key by its id. What is open with it ends within five seconds."""
    _call(data_dir, "DELETE", f"/v1/keys/{quote(key_id, safe='')}")
    print_line(f"{key_id} is revoked")


@applications.command("create")
def create_application(
    user: Owner,
    role: WithRole = Role.PRODUCER,
    right: Rights = None,
    as_json: AsJson = False,
    data_dir: DataDir = DEFAULT_DATA_DIR,
) -> None:
    """Create an application. `secret_key` names it in each request; `api_key` signs, and is printed once."""
    made = _call(data_dir, "POST", "/v1/applications", json={"user_name": user, "role": role, "rights": right or []})
    show(made, as_json, lambda: f"secret_key: {made['secret_key']}\napi_key: {made['api_key']}")


@applications.command("list")
def list_applications(as_json: AsJson = False, data_dir: DataDir = DEFAULT_DATA_DIR) -> None:
    """List the applications that are not revoked."""
    found = _call(data_dir, "GET", "/v1/applications")["result"]

    def plain() -> Table:
        table = _table("secret_key", "user", "role")
        for a in found:
            table.add_row(a["secret_key"], a["user_name"], a["role"])
        return table

    show(found, as_json, plain)


@applications.command("revoke")
def revoke_application(secret_key: str, data_dir: DataDir = DEFAULT_DATA_DIR) -> None:
    """Revoke an application by its secret_key, at once on every replica."""
    _call(data_dir, "DELETE", f"/v1/applications/{quote(secret_key, safe='')}")
    print_line(f"{secret_key} is revoked")
