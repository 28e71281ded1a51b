"""The command line's event stream: an unreachable notifier is an error, never an empty list."""

from __future__ import annotations

import pytest

from cli.client import Client, CliError, Target
from tests.servers import free_port


async def test_an_unreachable_notifier_is_an_error() -> None:
    url = f"http://127.0.0.1:{free_port()}"
    async with Client(Target(url, url, "key")) as client:
        with pytest.raises(CliError, match="cannot be reached") as raised:
            [event async for event in client.events("beginning", "", None, follow=False)]
    assert raised.value.code == 3
