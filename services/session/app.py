"""Connects the session service's topics and timers to its handlers."""

from __future__ import annotations

from contracts.topics import JOB_ERASURES_TOPIC, SESSION_COMMANDS_TOPIC, TOPICS
from services.session.adapters.sql_store import SqlSessionStore, next_due
from services.session.handlers import Sessions
from services.session.settings import SessionSettings
from shared.runtime.service import Host
from shared.runtime.timers import TimerLoop

GROUP = "session"


async def build(host: Host, settings: SessionSettings) -> None:
    """Open the resources, declare the subscription and the expiry timer."""
    await host.open_resources(TOPICS)
    sessions = Sessions(SqlSessionStore)
    host.subscribe([SESSION_COMMANDS_TOPIC, JOB_ERASURES_TOPIC], GROUP, sessions.on_batch)
    host.add_timer_loop(TimerLoop(host.processor, next_due, sessions.fire))
