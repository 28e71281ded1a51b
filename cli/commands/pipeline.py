"""Commands that start, stop and check the pipeline on this machine."""

from __future__ import annotations

import asyncio
import os
import shutil
import signal
import subprocess
import sys
import time
from importlib.util import find_spec
from pathlib import Path
from typing import Annotated

import typer
from rich.table import Table

from cli.command import DEFAULT_DATA_DIR, DataDir, out, print_line
from cli.local.plan import FOR_OTHERS, MIN_FREE_BYTES, SERVICES, Plan
from cli.local.supervisor import Supervisor, run_until_signalled
from cli.progress import progress
from cli.target import CliError, read_state
from shared.embedded import jars, java
from shared.errors import Outcome, Stop


def up(
    data_dir: DataDir = DEFAULT_DATA_DIR,
    port: Annotated[
        int,
        typer.Option(min=0, max=65_500, help="Port of the gateway; the other services take the next ports. 0: any free ports"),
    ] = 8080,
    kafka_port: Annotated[
        int, typer.Option(min=0, max=65_500, help="Port of the broker; its controller takes the next port. 0: any free ports")
    ] = 29092,
    workers: Annotated[int, typer.Option(min=1, max=64, help="Worker processes")] = 1,
    scale: Annotated[list[str] | None, typer.Option(help="SERVICE=N: number of processes of a service; may repeat")] = None,
    allow_loopback: Annotated[bool, typer.Option(help="Development: allow webhooks and remote files on this machine")] = False,
    otlp: Annotated[str | None, typer.Option(help="OTLP/HTTP endpoint for traces and metrics")] = None,
    detach: Annotated[
        bool, typer.Option("--detach", "-d", help="Return once everything is ready, and keep running in the background")
    ] = False,
) -> None:
    """Start the broker and the services, and restart any that die. Ctrl-C stops them; jobs and events are kept.

    Example: stageline up --detach --workers 2
    """
    require_embedded_extra()
    os.umask(FOR_OTHERS)  # of this process and all that it starts: the broker, the services, their logs
    if detach:
        _detach(data_dir)
        return
    endpoint = otlp or os.environ.get("OTEL_EXPORTER_OTLP_ENDPOINT")
    plan = Plan(data_dir, port, kafka_port, workers, parse_scale(scale or []), allow_loopback, endpoint)
    supervisor = Supervisor(plan, print_line)
    if os.geteuid() == 0:
        print_line("warning: running as root; a fault in any part then opens the whole machine. Use an account of its own")

    async def ready() -> None:
        _say_addresses(plan)

    try:
        asyncio.run(run_until_signalled(supervisor, ready))
    except Outcome as error:
        raise CliError(str(error), 1) from None


def _say_addresses(plan: Plan) -> None:
    print_line(f"stageline is up in {plan.data_dir}")
    print_line(f"  gateway    {plan.url}  (documentation at {plan.url}/docs)")
    print_line(f"  notifier   {plan.notifier_url}  (webhooks, {plan.notifier_url}/events/stream)")
    print_line(f"  kafka      127.0.0.1:{plan.ports['kafka']}")
    if plan.lets_keyless_in:
        print_line(
            "  no key     is needed on this machine for /conversion/v1.0/rest; STAGELINE_CONVERSION_NEEDS_KEY=1 asks for one"
        )
    print_line(f"  admin key  in {plan.key_file}")


def require_embedded_extra() -> None:
    """Raise `CliError` where the packages of the extra `embedded` are missing: images and plain installs leave them out."""
    if any(find_spec(name) is None for name in ("jgo", "setproctitle")):
        raise CliError("running the pipeline here needs the extra `embedded`: pipx install 'stageline[embedded]'", 1)


def parse_scale(entries: list[str]) -> dict[str, int]:
    """Service → number of processes, from `SERVICE=N` entries. Raises `CliError` for anything else."""
    try:
        found = {name: int(count) for name, _, count in (entry.partition("=") for entry in entries)}
    except ValueError:
        raise CliError(f"--scale {' '.join(entries)}: SERVICE=N is expected", 2) from None
    if not found.keys() <= set(SERVICES) or any(count < 1 for count in found.values()):
        raise CliError(f"--scale takes SERVICE=N with one of {', '.join(SERVICES)} and N of at least 1", 2)
    return found


def _detach(data_dir: Path) -> None:
    arguments = [a for a in sys.argv[1:] if a not in ("--detach", "-d")]
    data_dir.mkdir(parents=True, exist_ok=True)
    log = data_dir / "supervisor.log"
    with log.open("wb") as stream:
        process = subprocess.Popen(
            [sys.executable, "-m", "cli", *arguments],
            stdout=stream,
            stderr=stream,
            stdin=subprocess.DEVNULL,
            start_new_session=True,
        )
    started = time.monotonic()
    with progress("starting for", "seconds") as report:
        while process.poll() is None:
            said = log.read_text(errors="replace")
            if "admin key" in said:
                break
            report(int(time.monotonic() - started), None)
            time.sleep(0.1)
    if process.returncode is None:
        print_line(said.rstrip())
        return
    raise CliError((log.read_text().strip().splitlines() or ["the start failed"])[-1].removeprefix("stageline: "), 1)


def down(data_dir: DataDir = DEFAULT_DATA_DIR) -> None:
    """Stop the pipeline that runs in the data directory. Its data is kept.

    Example: stageline down
    """
    state_file = data_dir / "run" / "state.json"
    state = read_state(data_dir)
    if not state:
        raise CliError(f"no pipeline runs in {data_dir}", 3)
    pid = int(state["supervisor"])
    try:
        os.kill(pid, signal.SIGTERM)
        deadline = time.monotonic() + 60
        while time.monotonic() < deadline:
            os.kill(pid, 0)
            if _is_zombie(pid):
                break
            time.sleep(0.1)
        else:
            raise CliError(f"the supervisor (pid {pid}) did not stop within 60 s", 1)
    except ProcessLookupError:
        pass
    state_file.unlink(missing_ok=True)
    print_line(f"stopped; {data_dir} keeps its jobs and events")


def _is_zombie(pid: int) -> bool:
    try:
        return Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[0] == "Z"
    except OSError:
        return True


def reset(data_dir: DataDir = DEFAULT_DATA_DIR, yes: Annotated[bool, typer.Option("--yes", help="Do not ask")] = False) -> None:
    """Delete all data of the local pipeline: jobs, events, documents, keys.

    Example: stageline reset --yes
    """
    if (data_dir / "run" / "state.json").exists():
        raise CliError(f"a pipeline runs in {data_dir}: stop it first with `stageline down`", 1)
    if not data_dir.exists():
        print_line(f"{data_dir} does not exist")
        return
    if not (data_dir / "admin.key").exists():
        raise CliError(f"{data_dir} is not a data directory of Stageline", 2)
    if not yes and not typer.confirm(f"Delete {data_dir} with all its jobs and documents?"):
        raise typer.Exit(1)
    shutil.rmtree(data_dir)
    print_line(f"deleted {data_dir}")


def doctor(data_dir: DataDir = DEFAULT_DATA_DIR) -> None:
    """Check this machine: what is present, what is missing, how to install it. Exit code 1 when the pipeline cannot start.

    Example: stageline doctor
    """
    table = Table("what", "state", "how to get it", box=None)
    fatal = False
    for name, state, remedy, needed in findings(data_dir):
        fatal = fatal or (needed and bool(remedy))
        table.add_row(name, f"[{'red' if needed else 'yellow'}]{state}[/]" if remedy else f"[green]{state}[/]", remedy)
    out.print(table)
    if fatal:
        raise typer.Exit(1)


def findings(data_dir: Path) -> list[tuple[str, str, str, bool]]:
    """Checks as (name, state, remedy or empty, needed to start)."""
    found: list[tuple[str, str, str, bool]] = []
    version = ".".join(map(str, sys.version_info[:3]))
    found.append(("python", version, "" if sys.version_info >= (3, 11) else "Python 3.11 or newer", True))
    try:
        program, major = java.find_java()
        found.append(("java", f"{major} at {program}", "", True))
    except Stop as error:
        found.append(("java", "missing", str(error), True))
    lacking = jars.missing()
    state = "in the cache" if not lacking else f"{len(lacking)} jars to fetch"
    found.append(("kafka 4.3.1", state, "" if not lacking else "fetched at the first start, which needs the network", False))
    anchor = data_dir if data_dir.exists() else Path()
    free = shutil.disk_usage(anchor).free
    found.append(("disk", f"{free >> 20} MiB free", "" if free >= MIN_FREE_BYTES else f"{MIN_FREE_BYTES >> 20} MiB", True))
    tesseract = shutil.which("tesseract")
    remedy = "scripts/install-system-packages (scans yield no text without it)"
    found.append(("tesseract (OCR)", tesseract or "missing", "" if tesseract else remedy, False))
    found.append(("sandbox", *_sandbox_walls(), False))
    return found


def _sandbox_walls() -> tuple[str, str]:
    from services.stage_worker.inspect import WALLS, missing_walls

    missing = missing_walls()
    if not missing:
        return f"all walls stand: {', '.join(WALLS)}", ""
    lacking = "; ".join(f"{wall} ({reason})" for wall, reason in missing.items())
    return f"lacks {lacking}", "Linux 5.13 or later with Landlock and seccomp (STAGELINE_SANDBOX=required refuses documents here)"
