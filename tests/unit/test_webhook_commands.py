"""`stageline webhooks …` against a real notifier and a real receiver: what each command does, prints and answers with its exit code."""

from __future__ import annotations

import asyncio
import contextlib
import json
import os
import socket
import subprocess
from collections.abc import AsyncIterator
from pathlib import Path
from typing import Any

import pytest
import uvicorn

from services.notifier.adapters import endpoints
from services.notifier.adapters import sql_store as db
from services.notifier.adapters.delivery_queue import Limits
from services.notifier.dispatcher import Dispatcher
from shared import clock
from tests.command_line import run_command
from tests.documents import ROOT, blocks, calls
from tests.eventually import eventually
from tests.notifier_app import notifier_app
from tests.webhook_receiver import Receiver

JOB = "3f2a91c0-8a41-5f39-9d8e-1a2b3c4d5e6f"
EVENT = "0193a5b0-1111-7222-8333-444455556666"
WHAT_IS_DONE = {"add", "list", "show", "edit", "test", "rotate", "disable", "enable", "delete", "replay", "log"}


class Commands:
    """A notifier that sends, and the command line of an operator."""

    def __init__(self, app: Any, key: str, url: str, folder: Path) -> None:
        self.state = app.state.notifier
        own = {f"STAGELINE_{name}": value for name, value in (("URL", url), ("NOTIFIER_URL", url), ("KEY", key))}
        self.environment = {"PATH": os.environ["PATH"], "HOME": str(folder), "NO_COLOR": "1", **own}

    async def run(self, *arguments: str) -> subprocess.CompletedProcess[str]:
        """`stageline webhooks` with these arguments."""
        return await asyncio.to_thread(run_command, ["webhooks", *arguments], self.environment)

    async def printed(self, *arguments: str) -> str:
        """Its output, where it succeeds."""
        done = await self.run(*arguments)
        assert done.returncode == 0, (arguments, done.stderr)
        return done.stdout

    async def json(self, *arguments: str) -> Any:
        """Its output with `--json`."""
        return json.loads(await self.printed(*arguments, "--json"))

    async def deliver(self, endpoint: str) -> None:
        """An event for the endpoint, as it comes from Kafka."""
        row = {
            "endpoint_id": endpoint, "event_id": EVENT, "tenant_id": "default", "event_type": "job.finished", "job_id": JOB,
            "body": b'{"type": "job.finished"}', "trace": None, "state": "pending", "reason": None, "due_at": clock.unix(),
            "created_at": clock.unix(), "position": 1,
        }  # fmt: skip
        await self.state.processor.run_unit(lambda unit: db.add_deliveries(unit.connection, [row]))

    async def ends(self, endpoint: str, state: str) -> bool:
        """True when the only delivery is in this state."""
        return bool((await self.json("show", endpoint))["deliveries"] == {state: 1})


@contextlib.asynccontextmanager
async def sending(state: Any) -> AsyncIterator[None]:
    """Sends what is due, twice at most."""
    telemetry = state.processor.relay.telemetry
    dispatcher = Dispatcher(state.processor, state.sender, telemetry, (0.0, 0.05), Limits(8, 8, 8, 0), 5.0)
    task = asyncio.create_task(dispatcher.run())
    yield
    await dispatcher.drain()
    await task


@pytest.fixture
async def commands(tmp_path: Path) -> AsyncIterator[Commands]:
    async with notifier_app(tmp_path, allow_loopback=True) as (app, key):
        listening = socket.create_server(("127.0.0.1", 0))
        server = uvicorn.Server(uvicorn.Config(app, lifespan="off", log_config=None))
        serving = asyncio.create_task(server.serve(sockets=[listening]))
        made = Commands(app, key, f"http://127.0.0.1:{listening.getsockname()[1]}", tmp_path)
        async with sending(made.state):
            yield made
        server.should_exit = True
        await serving


async def test_an_endpoint_from_its_first_day_to_its_last(commands: Commands) -> None:
    async with Receiver() as receiver:
        added = await commands.printed("add", receiver.url, "--event", "job.*", "--description", "orders")
        endpoint, _, receiver.secret = added.strip().partition("\nsecret: ")
        assert receiver.secret.startswith("whsec_")
        assert receiver.url in await commands.printed("list") and receiver.secret not in await commands.printed("list")
        short = endpoint[:8]
        assert (await commands.printed("test", short)).startswith("delivered: status 204 after ")
        assert receiver.received[-1][2]["type"] == "webhook.test"

        rotated = await commands.printed("rotate", short, "--overlap", "1")
        assert (await commands.run("test", short)).returncode == 0, "the receiver still has the former secret"
        assert "the former secret signs too until 20" in rotated
        receiver.secret = rotated.partition("secret: ")[2].partition("\n")[0]
        assert (await commands.run("test", short)).returncode == 0, "and may change over"
        await commands.printed("rotate", short, "--overlap", "0")
        failed = await commands.run("test", short)
        assert failed.returncode == 1 and failed.stdout.startswith("failed: status 400 after "), failed.stderr

        edited = await commands.json("edit", short, "--event", "job.finished", "--event", "job.failed")
        assert (edited["events"], edited["description"]) == (["job.finished", "job.failed"], "orders")
        assert (await commands.json("edit", short, "--all-events"))["events"] == []
        assert "receiver moves" in await commands.printed("disable", short, "--reason", "receiver moves")
        assert "disabled" in await commands.printed("list")
        assert await commands.printed("enable", short) == "enabled; 0 held deliveries are sent now\n"
        assert (await commands.json("show", short))["state"] == "active"
        assert await commands.printed("delete", short) == ""
        assert (await commands.run("show", short)).returncode == 4


async def test_what_was_given_up_is_found_in_the_log_and_replayed(commands: Commands) -> None:
    status = 500
    async with Receiver(lambda event_id, attempt: status) as receiver:
        endpoint, _, receiver.secret = (await commands.printed("add", receiver.url)).strip().partition("\nsecret: ")
        await commands.deliver(endpoint)
        await eventually(lambda: commands.ends(endpoint, "exhausted"), every_s=0.2)
        log = (await commands.json("log", endpoint, "--outcome", "failed", "--job", JOB, "--since", "1h"))["result"]
        assert [(row["attempt"], row["outcome"], row["status_code"]) for row in log] == [
            (2, "exhausted", 500),
            (1, "retrying", 500),
        ]
        heads, last, first = (await commands.printed("log", endpoint)).splitlines()
        assert heads.split() == ["time", "event", "job", "try", "outcome", "status", "error", "ms", "next", "try", "event", "id"]
        assert JOB in last and "exhausted" in last and "http_status" in last and EVENT in last
        assert len(first.split()) == len(last.split()) + 2, "the first attempt shows the day and the time of the next"

        status = 204
        assert await commands.printed("replay", endpoint, "--failed", "--since", "1h") == "1 deliveries are sent again\n"
        await eventually(lambda: commands.ends(endpoint, "delivered"), every_s=0.2)
        assert await commands.json("replay", endpoint, "--failed") == {"due": 0}, "nothing is given up any more"
        assert await commands.json("replay", endpoint, "--event-id", EVENT) == {"due": 1}

        async def twice() -> bool:
            return [attempt for _, attempt, _ in receiver.received] == [1, 2, 3, 4]

        await eventually(twice)
        assert len({event_id for event_id, _, _ in receiver.received}) == 1, "a receiver knows a replay by its webhook-id"


@pytest.mark.parametrize(
    ("arguments", "codes", "said"),
    [
        (("show", "nonsense"), (4,), "there is no such endpoint"),
        (("test", "nonsense"), (4,), "there is no such endpoint"),
        (("edit", "nonsense"), (2,), "nothing to change: give --url, --event, --all-events or --description"),
        (("replay", "nonsense"), (2,), "say which deliveries"),
        (("log", "nonsense", "--since", "yesterday"), (2,), "neither a time"),
        (("add", "https://192.168.1.5/hook"), (2, 5), "STAGELINE_TRUSTED_NETWORKS"),
        (("add", "https://example.com/hook", "--event", "job.done"), (2, 5), "job.finished"),
    ],
)
async def test_a_wrong_request_says_what_is_right(
    commands: Commands, arguments: tuple[str, ...], codes: tuple[int, ...], said: str
) -> None:
    done = await commands.run(*arguments)
    assert done.returncode in codes and done.stdout == "", done.stderr
    assert said in done.stderr


async def test_several_endpoints_that_begin_alike_are_not_guessed(commands: Commands) -> None:
    for name in ("abc", "abd"):
        row = {
            "id": name, "tenant_id": "default", "url": "https://example.com/", "secret": "s", "events": "[]", "description": "",
            "created_at": 0.0, "disabled_reason": None, "failing_since": None, "shape": None, "former_secrets": None,
        }  # fmt: skip
        await commands.state.store.transact(lambda c, row=row: endpoints.add(c, row))
    done = await commands.run("delete", "ab")
    assert done.returncode == 2 and "several endpoints begin so" in done.stderr
    assert await commands.printed("delete", "abc") == ""
    assert [one["id"] for one in await commands.json("list")] == ["abd"]


async def test_the_commands_of_the_guide_do_what_it_says(commands: Commands) -> None:
    lines = [line for block in blocks(ROOT / "docs" / "how-to" / "webhooks.md") if block.language == "sh" for line in block.lines]
    found = [arguments[1:] for line in lines for arguments in calls(line) if arguments[0] == "webhooks"]
    assert {arguments[0] for arguments in found} == WHAT_IS_DONE
    async with Receiver() as receiver:
        for arguments in found:
            if arguments[0] == "add":
                made = await commands.json(*arguments)
                receiver.secret = made["secret"]
                await commands.json("edit", made["id"], "--url", receiver.url)
                continue
            given = {"ENDPOINT": made["id"], "JOB_ID": JOB, "EVENT_ID": EVENT}
            await commands.printed(*(given.get(word, word) for word in arguments))
    assert await commands.json("list") == []
