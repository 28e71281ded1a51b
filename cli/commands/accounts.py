"""`stageline tenants`, `users`, `keys` and `applications`: who may use the pipeline. What is secret is printed once."""

from __future__ import annotations

from enum import StrEnum
from pathlib import Path
from typing import Annotated, Any

import typer

from cli.client import Client
from cli.command import DEFAULT_DATA_DIR, AsJson, DataDir, Yes, run
from cli.commands.confirm import confirm
from cli.commands.secrets import read_value
from cli.groups import Listing, noun
from cli.output import show, show_rows
from cli.target import CliError, route

tenants = noun("Create, list and erase tenants. Needs an admin key of the platform.", Listing)
users = noun("Create, list and delete users of your tenant, who sign in with a password.", Listing)
keys = noun("Create, list and revoke API keys.", Listing)
applications = noun("Create, list and revoke credentials for signed requests (amx).", Listing)


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
    """Create a tenant, or change all of an existing one: name, quotas and inbox.

    Example: stageline tenants create acme --name "Acme Ltd" --quota jobs_open=1000
    """
    body = {"name": name or tenant, "quotas": _quotas(quota or []), "inbox": inbox}
    made = _call(data_dir, "PUT", route("/v1/tenants/{}", tenant), json=body)
    show(made, as_json, lambda: f"{made['tenant_id']}: {made['name']}")


@tenants.command("list")
def list_tenants(as_json: AsJson = False, data_dir: DataDir = DEFAULT_DATA_DIR) -> None:
    """List tenants and their quotas.

    Example: stageline tenants list --output json
    """
    found = _call(data_dir, "GET", "/v1/tenants")["result"]
    columns: dict[str, Any] = {
        "tenant": "tenant_id", "name": "name",
        "quotas": lambda t: ", ".join(f"{k}={v}" for k, v in t["quotas"].items() if v is not None),
    }  # fmt: skip
    show_rows(found, columns, as_json, empty="there is no tenant yet; `stageline tenants create` makes one")


@tenants.command("revoke")
def revoke_tenant(
    tenant: str,
    yes: Yes = False,
    as_json: AsJson = False,
    data_dir: DataDir = DEFAULT_DATA_DIR,
) -> None:
    """Shut a tenant out at once, and erase all that it has: accounts, jobs, documents. Repeat it to see what is left.

    Example: stageline tenants revoke acme --yes
    """
    confirm(f"Erase {tenant} and all that it has?", yes)
    state = _call(data_dir, "DELETE", route("/v1/tenants/{}", tenant))
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
    """Create a user, or change one and end its sessions. The password is never an argument, because other users could see it.

    Example: stageline users create ann --role operator
    """
    body: dict[str, Any] = {"role": role, "rights": right or [], "disabled": disabled}
    if not keep_password:
        body["password"] = read_value(password_file, "Password")
    made = _call(data_dir, "PUT", route("/v1/users/{}", user), json=body)
    show(made, as_json, lambda: f"{made['user_name']}: {made['role']}")


@users.command("list")
def list_users(as_json: AsJson = False, data_dir: DataDir = DEFAULT_DATA_DIR) -> None:
    """List the users of your tenant.

    Example: stageline users list
    """
    found = _call(data_dir, "GET", "/v1/users")["result"]
    columns: dict[str, Any] = {
        "user": "user_name", "role": "role", "rights": "rights", "state": lambda u: "disabled" if u["disabled"] else "active",
    }  # fmt: skip
    show_rows(found, columns, as_json, empty="there is no user yet; `stageline users create` makes one")


@users.command("revoke")
def revoke_user(user: str, data_dir: DataDir = DEFAULT_DATA_DIR) -> None:
    """Delete a user. Tokens, keys, applications and shared links under its name end too.

    Example: stageline users revoke ann
    """
    _call(data_dir, "DELETE", route("/v1/users/{}", user))
    show({"id": user, "deleted": True}, False, lambda: f"{user} is deleted")


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
    """Create a key. It is printed once.

    Example: stageline keys create --user scanner --role producer
    """
    body = {"user_name": user, "role": role, "rights": right or [], "tenant_id": tenant, "expires_at": expires_at}
    made = _call(data_dir, "POST", "/v1/keys", json=body)
    show(made, as_json, lambda: f"{made['key_id']}\nkey: {made['key']}")


@keys.command("list")
def list_keys(
    tenant: Annotated[str | None, typer.Option(help="Another tenant; needs an admin key of the platform")] = None,
    as_json: AsJson = False,
    data_dir: DataDir = DEFAULT_DATA_DIR,
) -> None:
    """List the keys that are not revoked, each with its first characters.

    Example: stageline keys list --output csv
    """
    found = _call(data_dir, "GET", "/v1/keys", params={"tenant_id": tenant} if tenant else {})["result"]
    columns: dict[str, Any] = {
        "key id": "key_id", "begins with": "prefix", "user": "user_name", "role": "role", "rights": "rights",
        "ends": lambda k: k["expires_at"] or "never",
    }  # fmt: skip
    show_rows(found, columns, as_json, empty="there is no key yet; `stageline keys create` makes one")


@keys.command("revoke")
def revoke_key(key_id: str, data_dir: DataDir = DEFAULT_DATA_DIR) -> None:
    """Revoke a key by its id. What is open with it ends within five seconds.

    Example: stageline keys revoke key_3f2a91c0
    """
    _call(data_dir, "DELETE", route("/v1/keys/{}", key_id))
    show({"id": key_id, "revoked": True}, False, lambda: f"{key_id} is revoked")


@applications.command("create")
def create_application(
    user: Owner,
    role: WithRole = Role.PRODUCER,
    right: Rights = None,
    as_json: AsJson = False,
    data_dir: DataDir = DEFAULT_DATA_DIR,
) -> None:
    """Create an application. `secret_key` names it in each request; `api_key` signs, and is printed once.

    Example: stageline applications create --user crm
    """
    made = _call(data_dir, "POST", "/v1/applications", json={"user_name": user, "role": role, "rights": right or []})
    show(made, as_json, lambda: f"secret_key: {made['secret_key']}\napi_key: {made['api_key']}")


@applications.command("list")
def list_applications(as_json: AsJson = False, data_dir: DataDir = DEFAULT_DATA_DIR) -> None:
    """List the applications that are not revoked.

    Example: stageline applications list
    """
    found = _call(data_dir, "GET", "/v1/applications")["result"]
    columns = {"secret_key": "secret_key", "user": "user_name", "role": "role"}
    show_rows(found, columns, as_json, empty="there is no application yet; `stageline applications create` makes one")


@applications.command("revoke")
def revoke_application(secret_key: str, data_dir: DataDir = DEFAULT_DATA_DIR) -> None:
    """Revoke an application by its secret_key, at once on every replica.

    Example: stageline applications revoke 3f2a91c0
    """
    _call(data_dir, "DELETE", route("/v1/applications/{}", secret_key))
    show({"id": secret_key, "revoked": True}, False, lambda: f"{secret_key} is revoked")
