"""Judges of the processes: their logs, memory and idle CPU."""

from __future__ import annotations

import re
from collections import defaultdict
from collections.abc import Iterator
from dataclasses import replace

from tests.chaos.harness.evidence import Evidence, LogLine, Violation

GRACE_S = 25.0
"""How long after a fault an error may still be about it."""
MEMORY_FACTOR, MEMORY_MIB = 1.5, 40.0
CPU_FACTOR, CPU_PERCENT = 2.0, 2.0
HEAP = ("kafka", "postgres")
"""Servers that are not ours, and keep memory by design. Their CPU counts."""
_RAISED = re.compile(r"[A-Za-z_][\w.]*(: |$)")
_VARIABLE = re.compile(r"[0-9a-f]{8}-[0-9a-f-]{27}|0x[0-9a-f]+|\d+")


def logs_have_no_tracebacks(e: Evidence) -> Iterator[Violation]:
    """No service logs a traceback: what is expected has a sentence. Alike ones are reported once."""
    found = [line for line in e.log_lines if line.exception]
    yield from _once_each(e, "traceback", "a sentence", found)


def errors_are_about_faults(e: Evidence) -> Iterator[Violation]:
    """No ERROR line outside of the windows of faults."""
    windows = [(f.began - 1, f.ended + GRACE_S) for f in e.faults]
    errors = [line for line in e.log_lines if line.level in ("ERROR", "CRITICAL") and not line.exception]
    found = [line for line in errors if not any(began <= line.at <= ended for began, ended in windows)]
    yield from _once_each(e, "error line", "no ERROR line outside of a fault", found)


def raised(traceback: str) -> str:
    """The line of a traceback that names the last exception; its message may have more lines."""
    return ([line for line in traceback.splitlines() if _RAISED.match(line)] or [""])[-1]


def _once_each(e: Evidence, rule: str, expected: str, lines: list[LogLine]) -> Iterator[Violation]:
    alike: dict[tuple[str, ...], list[LogLine]] = defaultdict(list)
    for line in lines:
        end = raised(line.exception)
        service = line.process.partition("-")[0]
        alike[service, line.logger, _VARIABLE.sub("#", line.message)[:80], _VARIABLE.sub("#", end)[:120]].append(line)
    for (service, logger, _, _), found in alike.items():
        end = raised(found[0].exception)
        seen = f"{service} {logger}: {found[0].message[:160]}" + (f" | {end[:160]}" if end else "")
        yield replace(e.violation(rule, expected, seen, at=found[0].at), count=len(found))


def use_is_as_before(e: Evidence) -> Iterator[Violation]:
    """Memory and idle CPU of each process after the load are as before it, within the factors above."""
    for u in e.usage:
        if u.process not in HEAP and u.mib_after > u.mib_before * MEMORY_FACTOR + MEMORY_MIB:
            yield e.violation("memory", f"about {u.mib_before:.0f} MiB of {u.process}, as before", f"{u.mib_after:.0f} MiB")
        if u.cpu_after > u.cpu_before * CPU_FACTOR + CPU_PERCENT:
            yield e.violation("idle CPU", f"about {u.cpu_before:.1f} % of {u.process}, as before", f"{u.cpu_after:.1f} %")
