"""A pytest plugin that fails a tier over its time budget: `-p tests.budget --budget-s 480`.

Budgets are for a quiet machine of two cores. A machine's speed can change threefold within an hour, so a fixed piece of work is timed at the
start and at the end, and the budget grows with it: never below the nominal one, never beyond `MAX_FACTOR` of it. Both are printed.
"""

from __future__ import annotations

import hashlib
import json
import statistics
import time

import pytest

REFERENCE_S = 0.075
"""Seconds that `work()` takes on the machine that the budgets are made for."""
MAX_FACTOR = 3.0


def work() -> None:
    """A fixed amount of work like that of the tests: interpreted code, JSON, hashing."""
    total = 0
    for n in range(3000):
        record = {"id": n, "name": f"note-{n}.txt", "values": list(range(60))}
        text = json.dumps(record)
        total += len(json.loads(text)["values"]) + sum(x * x for x in range(200))
        hashlib.sha256(text.encode() * 40).digest()


def calibrate() -> float:
    """Seconds that `work()` takes now: the median of five."""
    taken = []
    for _ in range(5):
        began = time.perf_counter()
        work()
        taken.append(time.perf_counter() - began)
    return statistics.median(taken)


def factor(calibrations: list[float]) -> float:
    """The machine's slowness relative to the reference, from the mean of some calibrations; 1 to `MAX_FACTOR`."""
    return min(MAX_FACTOR, max(1.0, statistics.mean(calibrations) / REFERENCE_S))


class Budget:
    """Times the whole session, from the start of pytest to the end of the last fixture."""

    def __init__(self, budget_s: float, began: float) -> None:
        self.budget_s = budget_s
        self.began = began
        self.calibrations = [calibrate()]

    @pytest.hookimpl(wrapper=True, tryfirst=True)
    def pytest_sessionfinish(self, session: pytest.Session) -> object:
        """Outermost, so that all fixtures have ended. Fails the run when it was too slow."""
        result = yield
        elapsed = time.time() - self.began
        self.calibrations.append(calibrate())
        allowed = self.budget_s * factor(self.calibrations)
        speed = f"machine {factor(self.calibrations):.2f} times slower than the reference"
        line = f"{elapsed:.0f} s of a budget of {self.budget_s:.0f} s, {allowed:.0f} s here ({speed})"
        if elapsed > allowed:
            line = f"OVER BUDGET: {line}"
            if session.exitstatus == pytest.ExitCode.OK:
                session.exitstatus = pytest.ExitCode.TESTS_FAILED
        session.config.get_terminal_writer().line(line)
        return result


def pytest_addoption(parser: pytest.Parser) -> None:
    """Options of this plugin."""
    group = parser.getgroup("budget")
    group.addoption("--budget-s", type=float, default=0.0, help="fail when the session takes longer than this; 0: do not measure")
    group.addoption("--budget-from", type=float, default=0.0, help="Unix time at which what counts began; by default, now")


def pytest_configure(config: pytest.Config) -> None:
    """Measure in the process that the user started. Under xdist, it distributes the tests."""
    if config.getoption("--budget-s") and not hasattr(config, "workerinput"):
        began = config.getoption("--budget-from") or time.time()
        config.pluginmanager.register(Budget(config.getoption("--budget-s"), began), "budget")
