"""Attempts, back-off and time limits. Pure arithmetic."""

from __future__ import annotations

from contracts.identity import derived
from services.job_orchestrator.core.workflow import RetryPolicy, Timeouts


def backoff_s(policy: RetryPolicy, attempt: int, seed: str) -> float:
    """Seconds to wait after failed attempt number `attempt` (from 1).

    Jitter spreads the delay by ±`policy.jitter`. It derives from `seed`, so that a replay waits as long.
    """
    if policy.backoff == "fixed":
        delay = policy.initial_s
    elif policy.backoff == "linear":
        delay = policy.initial_s * attempt
    else:
        delay = policy.initial_s * 2.0 ** min(attempt - 1, 60)
    delay = min(delay, policy.cap_s)
    fraction = int(derived(seed, "jitter")[:8], 16) / 0xFFFFFFFF
    return float(delay * (1 + policy.jitter * (2 * fraction - 1)))


def silence_s(timeouts: Timeouts) -> float:
    """Seconds that a running worker may be silent before it loses its lease: three heartbeats, at least 15 s."""
    return max(15.0, 3 * timeouts.heartbeat_s)


def may_retry(policy: RetryPolicy, attempt: int, code: str | None) -> bool:
    """True when another attempt may follow attempt number `attempt` (from 1), which failed with `code`."""
    if policy.retriable is not None and (code or "") not in policy.retriable:
        return False
    return attempt < policy.max_attempts and (code or "") not in policy.fatal


def in_budget(policy: RetryPolicy, entered_at: float | None, due: float) -> bool:
    """True when an attempt that begins at `due` is within the step's retry budget. Times in Unix seconds."""
    return policy.budget_s is None or entered_at is None or due <= entered_at + policy.budget_s
