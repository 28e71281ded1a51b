"""`stageline status`: the processes of the local pipeline, why one is not ready, and the room on its disk."""

from __future__ import annotations

import asyncio
from pathlib import Path
from typing import Any

import aiohttp
import typer

from cli.command import DEFAULT_DATA_DIR, AsJson, DataDir, show
from cli.local.disk_watch import line
from cli.target import CliError, read_state
from shared.runtime.disk_space import FULL_BYTES, free_bytes


def status(as_json: AsJson = False, data_dir: DataDir = DEFAULT_DATA_DIR) -> None:
    """Show the processes, what Kafka refuses, and the room on the disk. Exit code 1 when a part is not ready, 3 when none runs.

    Example: stageline status
    """
    state = read_state(data_dir)
    if not state:
        raise CliError(f"no pipeline runs in {data_dir}", 3)
    found = asyncio.run(_look(state, data_dir.resolve()))
    show(found, as_json, lambda: "\n".join(_lines(found)))
    if not found["ok"]:
        raise typer.Exit(1)


async def _look(state: dict[str, Any], data_dir: Path) -> dict[str, Any]:
    ports: dict[str, int] = {name: port for name, port in state["ports"].items() if name in state["pids"] and name != "kafka"}
    async with aiohttp.ClientSession(timeout=aiohttp.ClientTimeout(total=5)) as http:
        answers = await asyncio.gather(*(_ready(http, port) for port in ports.values()))
    parts = {name: {"pid": state["pids"][name], **answer} for name, answer in zip(ports, answers, strict=True)}
    parts["kafka"] = {"pid": state["pids"].get("kafka"), **_broker(state["pids"].get("kafka"))}
    free = free_bytes(data_dir) or 0
    disk = {"directory": str(data_dir), "free_bytes": free, "message": line(data_dir, free)}
    ok = all(part["ready"] for part in parts.values()) and free >= FULL_BYTES
    return {"ok": ok, "url": state["url"], "parts": parts, "disk": disk}


async def _ready(http: aiohttp.ClientSession, port: int) -> dict[str, Any]:
    try:
        async with http.get(f"http://127.0.0.1:{port}/health/ready") as response:
            said = await response.json()
            return {"ready": response.status == 200, "reasons": said["reasons"], "details": said.get("details", {})}
    except (aiohttp.ClientError, TimeoutError, ValueError):
        return {"ready": False, "reasons": {"http": "no answer"}, "details": {}}


def _broker(pid: int | None) -> dict[str, Any]:
    runs = pid is not None and Path(f"/proc/{pid}").exists() if Path("/proc").exists() else pid is not None
    return {"ready": runs, "reasons": {} if runs else {"process": "it does not run"}, "details": {}}


def _lines(found: dict[str, Any]) -> list[str]:
    lines = []
    for name, part in found["parts"].items():
        why = "; ".join(f"{what}: {reason}" for what, reason in part["reasons"].items())
        lines.append(f"{name:<18} {'ready' if part['ready'] else 'not ready'}  {why}".rstrip())
        for held in part["details"].get("held_back", {}).values():
            lines.append(f"{'':<18} {held['records']} records are held back since {held['since']}: {held['reason']}")
    return [*lines, found["disk"]["message"]]
