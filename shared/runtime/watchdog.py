"""Ends a process whose event loop is blocked: it can answer no health check, and only its end brings a new one."""

from __future__ import annotations

import asyncio
import faulthandler

BLOCKED_S = 60.0
REARM_S = 5.0


async def end_when_blocked() -> None:
    """Until cancelled, end the process with code 1 once the event loop has not run for `BLOCKED_S`. Standard error says where it stood."""
    try:
        while True:
            # A thread of C code, which needs neither the loop nor the interpreter lock.
            faulthandler.dump_traceback_later(BLOCKED_S, exit=True)
            await asyncio.sleep(REARM_S)
    finally:
        faulthandler.cancel_dump_traceback_later()
