"""One line when Kafka goes away and one when it is back. aiokafka writes about 170 lines a second meanwhile."""

from __future__ import annotations

import asyncio
import logging
import time
from collections.abc import Callable
from typing import Any, Final, Self

from aiokafka import AIOKafkaConsumer
from aiokafka.errors import KafkaConnectionError, KafkaError, KafkaTimeoutError, NodeNotReadyError, RequestTimedOutError

log = logging.getLogger(__name__)
ASK_S: Final = 5.0
QUIET_S: Final = 3.0
"""An outage is over when a request is answered and no error has come for this long: of several brokers, one may still be away."""
AWAY: Final = (OSError, TimeoutError, KafkaConnectionError, KafkaTimeoutError, NodeNotReadyError, RequestTimedOutError)
WITHOUT_REASON: Final = frozenset({
    "Unable to update metadata from %s", "Marking the coordinator dead (node %s)for group %s.",
    "Heartbeat session expired - marking coordinator dead",
})  # fmt: skip
"""What aiokafka says of an outage without naming an error."""
OURS: Final = frozenset({
    "reports will be sent again", "the presence of this worker was not published", "offsets were not committed: %r",
    "ends of partitions are unknown: %r", "seal keys will be read again: %r", "seal keys cannot be read: %r",
})  # fmt: skip
"""The kit's own lines that an outage repeats."""
LOGGERS: Final = ("aiokafka", "stageline_kit")


class Outages(logging.Filter):
    """A context manager around the life of a client. While Kafka is away, lines that only say so again are left out."""

    def __init__(self, clock: Callable[[], float] = time.monotonic) -> None:
        super().__init__()
        self.clock = clock
        self.hint = ""
        """Added to the line of an outage: what else may be the reason."""
        self._since: float | None = None
        self._last = 0.0
        self._filtered: list[logging.Logger] = []

    def __enter__(self) -> Self:
        # A logger's filter sees no records of loggers below it, so each has its own.
        known = [name for name in logging.root.manager.loggerDict if name.split(".")[0] in LOGGERS]
        self._filtered = [logging.getLogger(name) for name in known if name != __name__]
        for logger in self._filtered:
            logger.addFilter(self)
        return self

    def __exit__(self, *error: object) -> None:
        for logger in self._filtered:
            logger.removeFilter(self)

    @property
    def lasts(self) -> bool:
        """True while Kafka is away."""
        return self._since is not None

    def note(self, error: BaseException | Any) -> None:
        """Take note of an error. The first that says that Kafka is away is one line; errors of other kinds change nothing."""
        if not isinstance(error, AWAY):
            return
        self._last = self.clock()
        if self._since is None:
            self._since = self._last
            log.warning(
                "Kafka does not answer: %s. It is tried again until it does.%s", str(error) or type(error).__name__, self.hint
            )

    def answered(self) -> None:
        """Take note that Kafka has answered a request."""
        if self._since is None or self.clock() - self._last < QUIET_S:
            return
        log.warning("Kafka answers again, after %.0f s.", self._last - self._since)
        self._since = None

    async def look(self, consumer: AIOKafkaConsumer) -> None:
        """During an outage, ask Kafka whether it is over. For clients that send nothing; never raises a `KafkaError`."""
        if not self.lasts:
            return
        try:
            await asyncio.wait_for(consumer.topics(), ASK_S)
        except (KafkaError, TimeoutError, OSError) as error:
            self.note(error)
        else:
            self.answered()

    def filter(self, record: logging.LogRecord) -> bool:
        """False for a line that the one line of the outage stands for."""
        if not record.name.startswith("aiokafka"):
            return not (self.lasts and record.msg in OURS)
        errors = [a for a in (record.args if isinstance(record.args, tuple) else ()) if isinstance(a, BaseException)]
        if away := [error for error in errors if isinstance(error, AWAY)]:
            self.note(away[0])
            return False
        passing = any(isinstance(error, KafkaError) and error.retriable for error in errors)
        return not (self.lasts and (passing or record.msg in WITHOUT_REASON))
