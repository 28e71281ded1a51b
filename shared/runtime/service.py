"""The life of a service process: open resources, serve, drain and end."""

from __future__ import annotations

import asyncio
import contextlib
import gc
import logging
import os
import signal
import sys
import time
from collections.abc import Awaitable, Callable, Coroutine, Iterable, Sequence
from typing import Any

import uvicorn
from aiokafka import AIOKafkaProducer
from aiokafka.errors import KafkaError
from starlette.applications import Starlette

from contracts import Topic
from shared import crashpoints
from shared.database.migrate import migrate
from shared.database.open import open_store
from shared.database.store import Store
from shared.errors import Outcome, Retry, Stop
from shared.kafka import clients
from shared.kafka.record_reader import RecordReader
from shared.processing.inbox import DedupPolicy, Inbox
from shared.processing.outbox import Relay
from shared.processing.processor import BatchProcessor, Handler
from shared.processing.sealing import Sealing
from shared.processing.subscription import OUTAGE_S, Subscription, leave_group
from shared.processing.unit_of_work import Unit
from shared.runtime.health import Health
from shared.runtime.http_server import HttpServer, connection_limit, forwarding_proxies, listen
from shared.runtime.idle_memory import IdleMemory
from shared.runtime.outbox_upkeep import OutboxUpkeep
from shared.runtime.service_topics import START_PATIENCE_S, ServiceTopics
from shared.runtime.surroundings import checks_of
from shared.runtime.timers import TimerLoop
from shared.runtime.watchdog import end_when_blocked
from shared.settings import Settings
from shared.telemetry import logs
from shared.telemetry.tracing import Telemetry
from shared.web.bounded_http import bounded
from shared.web.page_headers import PageHeaders
from shared.web.slow_clients import BodyTimeout
from stageline_kit.record_seals import RecordSeals

log = logging.getLogger(__name__)


class Host:
    """One service process: a service's `build` fills it, then `serve` runs it.

    `open_resources` sets the attributes below; a service without a database has no `store` and no `processor`.
    """

    store: Store
    relay: Relay
    processor: BatchProcessor
    producer: AIOKafkaProducer

    def __init__(self, service: str, settings: Settings) -> None:
        self.service = service
        self.settings = settings
        self.telemetry = Telemetry.from_environment(service, settings.instance)
        self.broker = clients.make_broker(settings.kafka, settings.drain_timeout_s)
        self.sealing = Sealing(RecordSeals(settings.kafka.options))
        self.health = Health()
        self.relays: list[Relay] = []
        """Further relays of the process, each with a producer of its own."""
        self.app: Starlette | None = None
        self.fatal: Outcome | None = None
        self.on_shutdown: list[Callable[[], None]] = []
        """Called first on shutdown: they end long-lived connections (SSE, long polls)."""
        self.drainers: list[Callable[[], Awaitable[None]]] = []
        """Awaited after the HTTP server has stopped, each for at most the drain timeout, while records are still read."""
        self.closers: list[Callable[[], Awaitable[None]]] = []
        """Awaited after the consumers have left their groups."""
        self._stop = asyncio.Event()
        self._tasks: list[asyncio.Task[None]] = []
        self._background: list[Callable[[], Coroutine[Any, Any, None]]] = []
        self.topics = ServiceTopics(service, settings)

    async def open_resources(self, topics: Iterable[Topic], with_database: bool = True, seal: bool = True) -> None:
        """Connect to Kafka, create missing `topics`, open and migrate the database if the service has one. Raises `Retry` or `Stop`.

        `seal`: seal records from now on, if the deployment wants it. The service that makes the keys begins later.
        """
        self.topics.known = list(topics)
        self.producer = await clients.make_producer(self.settings.kafka, f"{self.service}-{self.settings.instance}")
        self.health.checks += checks_of(self.producer, self.settings)
        await self.topics.ensure_at_start(self.topics.known)
        self.closers.append(self.sealing.seals.close)
        self.relay = Relay(self.producer, self.telemetry, shard=self.service)
        if with_database:
            self.store = open_store(self.settings.database_for(self.service))
            await migrate(self.store, self.service)
            self.health.checks.append(self.store.database)
            if self.store.shared:
                from shared.processing.outbox_shared import SharedRelay

                self.relay = SharedRelay(self.producer, self.telemetry, self.settings.partitions)
        self.relay.sealing = self.sealing
        self.health.outage = lambda: time.monotonic() - self.relay.failed_at < OUTAGE_S
        if self.settings.seal_records and seal:
            await self.sealing.start()
        if with_database:
            self.processor = BatchProcessor(self.service, self.store, self.relay, self.telemetry, self.settings.park_limit)
            self.add_background(OutboxUpkeep(self.processor, self.health, self.topics.make_again).run)

    async def run_startup_unit(self, work: Callable[[Unit], Any]) -> Any:
        """Run `work` in a transaction of its own before anything else, publish its outputs, and return its result.

        Repeats it on `Retry` for `START_PATIENCE_S`, because a starting cluster accepts records seconds after connections. Raises
        `Retry` or `Stop`.
        """
        deadline = time.monotonic() + START_PATIENCE_S
        while True:
            try:
                return await self.processor.run_unit(work)
            except Retry as error:
                if time.monotonic() >= deadline:
                    raise
                log.warning("start delayed", extra={"code": error.code, "reason": str(error)})
            await asyncio.sleep(0.5)

    def subscribe(
        self, topics: Sequence[Topic], group: str, handler: Handler, inbox: Inbox = DedupPolicy.BY_ID, member: str = "",
        pattern: str | None = None,
    ) -> Subscription:  # fmt: skip
        """Process `topics` as consumer group `group`. `inbox` says how repeats are recognised, for all messages or for each.

        `member` distinguishes several members of one group in one process. `pattern`: see `Subscription`.
        """
        instance = self.settings.group_instance
        subscription = Subscription(self.processor, topics, group, handler, inbox, pattern)
        subscription.on_fatal = self.fail
        static_member = f"{instance}-{member}" if instance and member else instance
        subscription.declare(self.broker, static_member, self.settings.session_timeout_ms)
        subscription.reader.max_records = self.settings.batch_records
        self.add_reader(subscription.reader)
        self.health.subscriptions.append(subscription)
        self.topics.expect_dead_letters(topics, group)
        return subscription

    def add_reader(self, reader: RecordReader) -> None:
        """Run the reader of a subscriber that is declared on `broker`, and watch its progress."""
        reader.open_records = self.sealing.seals.open_records
        self.health.readers.append(reader)
        self.add_background(reader.run)

    def add_timer_loop(self, loop: TimerLoop) -> None:
        """Run a timer loop and watch its progress."""
        self.health.timers.append(loop)
        self.add_background(loop.run)

    def add_background(self, work: Callable[[], Coroutine[Any, Any, None]]) -> None:
        """Run a coroutine from start to shutdown; an error in it ends the process."""
        self._background.append(work)

    def fail(self, error: Outcome) -> None:
        """End the process with a non-zero exit code because of `error`."""
        log.critical("service stops", extra={"code": error.code, "reason": str(error)})
        self.fatal = error
        self._stop.set()

    async def serve(self) -> int:
        """Run until SIGTERM, SIGINT or a fatal error, drain, and return the exit code."""
        loop = asyncio.get_running_loop()
        for signum in (signal.SIGTERM, signal.SIGINT):
            loop.add_signal_handler(signum, self._stop.set)
        server, serving = await self._serve_http()
        try:
            await self.topics.ensure_at_start(self.topics.dead_letters)
            await clients.connect(self.broker)
            await self.broker.start()
            self.add_background(lambda: self.health.watch(self._clients, self.fail))
            self.add_background(IdleMemory().run)
            self._tasks = [asyncio.create_task(self._guarded(work)) for work in self._background]
            self.health.started = True
            log.info("service is up", extra={"port": self.settings.port, "kafka": self.settings.kafka.bootstrap_servers})
            await self._stop.wait()
        finally:
            await self._drain(server, serving)
        return 1 if self.fatal else 0

    def _clients(self) -> list[Any]:
        return [self.relay, *self.relays, *self.health.readers]

    async def _guarded(self, work: Callable[[], Coroutine[Any, Any, None]]) -> None:
        try:
            await work()
        except asyncio.CancelledError:
            task = asyncio.current_task()
            if task is not None and not task.cancelling():
                # Something that it awaited was cancelled. It would be missing for the rest of the process's life.
                self.fail(Stop("background_failed", f"{getattr(work, '__qualname__', work)} was cancelled from within"))
            raise
        except Outcome as error:
            self.fail(error)
        except Exception as error:
            log.exception("background work failed")
            self.fail(Stop("background_failed", repr(error)))
            raise

    async def _serve_http(self) -> tuple[HttpServer, asyncio.Task[None]]:
        app = self.app or Starlette()
        # A redirect of the framework would hold the Host header, and lose the body of a POST.
        app.router.redirect_slashes = False
        app.router.routes.extend(self.health.routes())
        sock = listen(self.settings.host, self.settings.port)
        config = uvicorn.Config(
            PageHeaders(BodyTimeout(app)), log_config=None, access_log=False, lifespan="off", timeout_graceful_shutdown=5, timeout_keep_alive=65,
            http=bounded(connection_limit(self.settings.max_connections, self.settings.max_connections_per_address)),
            forwarded_allow_ips=forwarding_proxies(self.settings.trusted_proxies),
        )  # fmt: skip
        server = HttpServer(config)
        return server, asyncio.create_task(server.serve(sockets=[sock]))

    async def _drain(self, server: HttpServer, serving: asyncio.Task[None]) -> None:
        self.health.stopping = True
        for notice in self.on_shutdown:
            notice()
        # The HTTP server first, while records are still read: a request may be waiting for its answer from a topic.
        server.should_exit = True
        with contextlib.suppress(TimeoutError):
            await asyncio.wait_for(serving, 8)
        for drain in self.drainers:
            with contextlib.suppress(Exception):
                await asyncio.wait_for(drain(), self.settings.drain_timeout_s)
        settling = [asyncio.wait_for(s.stop(), self.settings.drain_timeout_s) for s in self.health.subscriptions]
        await asyncio.gather(*settling, return_exceptions=True)
        for subscriber in self.broker.subscribers:
            leave_group(getattr(subscriber, "consumer", None))
        with contextlib.suppress(KafkaError, TimeoutError):
            await asyncio.wait_for(self.broker.stop(), self.settings.drain_timeout_s)
        for task in self._tasks:
            task.cancel()
        await asyncio.gather(*self._tasks, return_exceptions=True)
        await self._close_all()
        await self._close_stores()
        self.telemetry.shutdown()

    async def _close_all(self) -> None:
        for close in self.closers:
            try:
                await asyncio.wait_for(close(), self.settings.drain_timeout_s)
            except Exception as error:  # noqa: BLE001 - what cannot be closed must not keep the others open
                log.warning("a resource could not be closed", extra={"reason": repr(error)})

    async def _close_stores(self) -> None:
        if hasattr(self, "processor"):
            with contextlib.suppress(Outcome):
                await self.processor.flush_outbox()
        with contextlib.suppress(KafkaError, TimeoutError):
            await asyncio.wait_for(self.producer.stop(), 5)
        if hasattr(self, "store"):
            await self.store.close()


def main(service: str, settings: Settings, build: Callable[[Host], Coroutine[Any, Any, None]]) -> None:
    """Entry point of every service: configure logging, `build` the host, serve it, and exit with its code."""
    logs.configure(service, settings.log_level)
    crashpoints.arm(os.environ)

    async def life() -> int:
        host = Host(service, settings)
        host.add_background(end_when_blocked)
        await build(host)
        # Modules stay for ever and a batch's objects until its end, so that frequent collections would find nothing.
        gc.collect()
        gc.freeze()
        gc.set_threshold(100_000, 10, 10)
        return await host.serve()

    try:
        import uvloop

        code = uvloop.run(life())
    except Outcome as error:
        log.critical("service could not start", extra={"code": error.code, "reason": str(error)})
        code = 1
    sys.exit(code)
