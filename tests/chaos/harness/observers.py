"""Observers: the event stream during the run; topics, read model, logs, memory and CPU when it is asked for."""

from __future__ import annotations

import asyncio
import contextlib
import json
import re
import zlib
from collections.abc import AsyncIterator, Iterable
from datetime import datetime
from pathlib import Path
from typing import Any

import aiohttp
import psutil
from aiokafka import AIOKafkaConsumer

from contracts import TOPICS, ReportRefused, StageReport, UndecodableRecord, from_record
from contracts.alfred import AlfredEvent
from tests.chaos.harness.door import Door, Unanswered
from tests.chaos.harness.evidence import Fact, LogLine, Shown
from tests.chaos.harness.system import System, now, passed

REPORTED = ("stage.reports", "stage.refusals")
CONTENT = re.compile(r"/[0-9a-f]{2}/([0-9a-f]{64})")
READ = ("job.events", "file.events", "job.state", "job.erasures")
HANDED_ON = 400
"""After so many events the stream's client leaves and comes again, at the next notifier, with its cursor."""
NO_BROKER = "aiokafka.errors.KafkaConnectionError"
IDLE_S = 6.0
"""How long idle CPU is measured."""


class StreamObserver:
    """One client of `GET /events/stream` from the beginning, which resumes by its cursor for as long as the run lasts."""

    def __init__(self, door: Door) -> None:
        self.door = door
        self.shown: list[Shown] = []
        self.connections = 0
        self._cursor: str | None = None

    async def run(self) -> None:
        """Read until cancelled."""
        while True:
            try:
                await self._connection()
            except (aiohttp.ClientError, TimeoutError, ConnectionError):
                await passed(0.3)

    async def _connection(self) -> None:
        headers = {"last-event-id": self._cursor} if self._cursor else {}
        query = {"types": "job.*,file.*", "start": "beginning"}
        url = self.door.url("notifier") + "/events/stream"
        timeout = aiohttp.ClientTimeout(total=None, sock_connect=5, sock_read=40)
        async with self.door.http.get(url, params=query, headers=headers, timeout=timeout) as answer:
            if answer.status != 200:
                await passed(0.5)
                return
            self.connections += 1
            left = HANDED_ON
            item: dict[str, str] = {}
            async for raw in answer.content:
                name, _, value = raw.decode().rstrip("\n").partition(": ")
                if name:
                    item[name] = value
                    continue
                left -= self._take(item)
                item = {}
                if left <= 0:
                    return

    def _take(self, item: dict[str, str]) -> int:
        if "data" not in item:
            return 0
        if item.get("id"):
            self._cursor = item["id"]
        if item.get("event") in ("hello", "resync"):
            return 0
        self.shown.append(Shown(item["id"], json.loads(item["data"])["event_id"], now()))
        return 1


class Topics:
    """Reads the public topics from their beginning, and then what is new."""

    def __init__(self, consumer: Any) -> None:
        self._consumer = consumer
        self._facts: list[Fact] = []

    async def read(self) -> list[Fact]:
        """Every readable record up to the present ends, in the order of each partition."""
        consumer = self._consumer
        ends = await consumer.end_offsets(consumer.assignment())
        missing = {tp for tp, end in ends.items() if end > 0 and await consumer.position(tp) < end}
        while missing:
            for records in (await consumer.getmany(timeout_ms=1000, max_records=5000)).values():
                self._facts += [fact for record in records if (fact := fact_of(record)) is not None]
            missing = {tp for tp in missing if await consumer.position(tp) < ends[tp]}
        return self._facts


@contextlib.asynccontextmanager
async def reading(system: System) -> AsyncIterator[Topics]:
    """A reader of the public topics, as a program outside."""
    options = system.kafka_options
    consumer = AIOKafkaConsumer(*READ, group_id=None, enable_auto_commit=False, auto_offset_reset="earliest", **options)
    await consumer.start()
    try:
        yield Topics(consumer)
    finally:
        await consumer.stop()


async def refused_results(system: System) -> set[str]:
    """Hashes of the content in reports that the orchestrator refused: the attempt had ended, mostly by a cancel."""
    options = system.kafka_options
    consumer = AIOKafkaConsumer(*REPORTED, group_id=None, enable_auto_commit=False, auto_offset_reset="earliest", **options)
    await consumer.start()
    refused, contents = set[str](), dict[str, set[str]]()
    try:
        ends = await consumer.end_offsets(consumer.assignment())
        while [tp for tp, end in ends.items() if await consumer.position(tp) < end]:
            for records in (await consumer.getmany(timeout_ms=1000, max_records=5000)).values():
                for record in records:
                    note_result(record, refused, contents)
    finally:
        await consumer.stop()
    return set().union(*(found for report, found in contents.items() if report in refused))


def note_result(record: Any, refused: set[str], contents: dict[str, set[str]]) -> None:
    """Note a refusal's report, or the hashes in a report. A hostile record is left out."""
    try:
        message = from_record(record.value, record.headers, _NOTED)
    except UndecodableRecord:
        return
    if isinstance(message, ReportRefused):
        refused.add(message.report_id)
    elif isinstance(message, StageReport):
        contents[message.report_id] = set(CONTENT.findall(record.value.decode()))


_NOTED = frozenset({ReportRefused.TYPE, StageReport.TYPE})
_ALLOWED = {t.name: frozenset(m.TYPE for m in t.models) for t in TOPICS}


def fact_of(record: Any) -> Fact | None:
    """The fact in a record; None for a hostile one."""
    job_id = (record.key or b"").decode(errors="replace")
    if record.value is None:
        if record.topic != "job.state":
            return None  # only there it has a meaning
        return Fact(record.topic, "tombstone", "", job_id, record.timestamp / 1000, None)
    try:
        message: Any = from_record(record.value, record.headers, _ALLOWED[record.topic])
    except UndecodableRecord:
        return None
    body = json.loads(record.value)
    digest = zlib.crc32(record.value)
    if isinstance(message, AlfredEvent):
        inner = body["event"]
        return Fact(record.topic, inner["event_name"], message.event_id, job_id, message.event_time, inner, digest)
    return Fact(record.topic, message.TYPE, message.message_id, job_id, record.timestamp / 1000, body, digest)


async def read_models(door: Door, jobs: Iterable[str]) -> tuple[dict[str, dict[str, Any] | None], dict[str, list[str]]]:
    """Record of each job (None: 404), and the ids of its history."""
    records: dict[str, dict[str, Any] | None] = {}
    histories: dict[str, list[str]] = {}
    gate = asyncio.Semaphore(8)

    async def look(job_id: str) -> None:
        async with gate:
            try:
                status, body = await door.call("GET", f"/v1/jobs/{job_id}", expected=(404,))
                records[job_id] = body if status == 200 else None
                if status == 200:
                    _, told = await door.call("GET", f"/v1/jobs/{job_id}/history", expected=(404,))
                    histories[job_id] = [event["event_id"] for event in told["result"]]
            except Unanswered:
                records[job_id] = {"stage": "no answer"}

    await asyncio.gather(*(look(job_id) for job_id in jobs))
    return records, histories


def read_logs(system: System) -> list[LogLine]:
    """Warnings and worse of all services and of the kit's workers, and every line with a traceback. The broker's log is not ours."""
    services = (p for p in (system.pipeline.data_dir / "logs").glob("*.log") if p.stem != "kafka")
    found = [line for path in sorted([*services, *system.folder.glob("*.log")]) for line in log_lines(path)]
    # A program of the kit that is started while Kafka is away ends with the client's own error, and is started again.
    return [line for line in found if not (line.message.startswith(NO_BROKER) and line.logger == "stderr")]


def log_lines(path: Path) -> list[LogLine]:
    """The lines of one file that are no information. A traceback outside of JSON is one line."""
    found: list[LogLine] = []
    at, plain = 0.0, ""
    for raw in path.read_text(errors="replace").splitlines():
        try:
            line = json.loads(raw)
            at = datetime.fromisoformat(line["time"]).timestamp()
        except (ValueError, TypeError, KeyError):
            plain = plain + "\n" + raw if plain or raw.startswith("Traceback") else ""
            if plain and raw and not raw.startswith((" ", "Traceback")):
                found.append(LogLine(path.stem, at, "ERROR", "stderr", raw[:300], plain))
                plain = ""
            continue
        exception = str(line.get("exception", ""))
        if exception or line.get("level") in ("WARNING", "ERROR", "CRITICAL"):
            found.append(
                LogLine(path.stem, at, line["level"], line.get("logger", ""), str(line.get("message", ""))[:1000], exception)
            )
    return found


async def measure(system: System) -> dict[str, tuple[float, float]]:
    """Process → memory in MiB and CPU in percent of a core, while nothing is asked of it. PostgreSQL counts with its children."""
    trees = {name: _tree(pid) for name, pid in (await system.processes()).items() if psutil.pid_exists(pid)}
    before = {name: _cpu(tree) for name, tree in trees.items()}
    began = now()
    await passed(IDLE_S)
    lasted = now() - began
    return {name: (_mib(tree), 100 * (_cpu(tree) - before[name]) / lasted) for name, tree in trees.items()}


def _tree(pid: int) -> list[psutil.Process]:
    try:
        process = psutil.Process(pid)
        return [process, *process.children(recursive=True)]
    except psutil.Error:
        return []


def _cpu(tree: list[psutil.Process]) -> float:
    return sum(sum(_asked(p, "cpu_times")[:2]) for p in tree)


def _mib(tree: list[psutil.Process]) -> float:
    # Memory that several processes share counts once in all.
    return sum(float(getattr(_asked(p, "memory_full_info"), "pss", 0.0)) for p in tree) / (1 << 20)


def _asked(process: psutil.Process, what: str) -> Any:
    try:
        return getattr(process, what)()
    except psutil.Error:
        return (0.0, 0.0)


def objects_in(folder: Path) -> list[str]:
    """Names of all objects in the store."""
    return sorted(str(p.relative_to(folder)) for p in folder.rglob("*") if p.is_file()) if folder.is_dir() else []
