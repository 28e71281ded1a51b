"""The filter of system calls on both architectures, run step by step as the kernel does."""

from __future__ import annotations

import errno

import pytest

from services.stage_worker.adapters.walls import system_calls as calls
from services.stage_worker.adapters.walls.call_filter import Rights, build
from services.stage_worker.adapters.walls.kernel import ARM64, X86_64

PID = 4711
AUDIT = {X86_64: 0xC000003E, ARM64: 0xC00000B7}
ALLOW, KILL = 0x7FFF0000, 0x80000000
REFUSE, MISSING = 0x00050000 | errno.EPERM, 0x00050000 | errno.ENOSYS
NAMES = {
    name: (int(first), None if second == "-" else int(second))
    for line in (calls.REFUSED + calls.FORK + "\n" + calls.EXECUTE).split("\n") for entry in line.split("|") if entry
    for name, first, second in [entry.split()]
}  # fmt: skip


def verdict(architecture: str, number: int, *arguments: int, rights: Rights = Rights(), audit: int | None = None) -> int:
    """What the program returns for a call."""
    data = {0: number, 4: audit if audit is not None else AUDIT[architecture]}
    data |= {16 + 8 * n: value & 0xFFFFFFFF for n, value in enumerate([*arguments, 0, 0, 0][:6])}
    program = build(architecture, PID, rights)
    at = accumulator = 0
    while True:
        code, yes, no, value = program[at]
        at += 1
        if code == 0x06:
            return value
        if code == 0x20:
            accumulator = data[value]
        elif code == 0x54:
            accumulator &= value
        else:
            holds = {
                0x15: accumulator == value,
                0x25: accumulator > value,
                0x35: accumulator >= value,
                0x45: bool(accumulator & value),
            }
            at += yes if holds[code] else no


def number(architecture: str, pair: tuple[int, int | None]) -> int:
    found = pair[0] if architecture == X86_64 else pair[1]
    assert found is not None
    return found


@pytest.mark.parametrize("architecture", [X86_64, ARM64])
@pytest.mark.parametrize("name", sorted(NAMES))
def test_each_listed_call_is_refused(architecture: str, name: str) -> None:
    if architecture == ARM64 and NAMES[name][1] is None:
        pytest.skip("arm64 has no such call")
    assert verdict(architecture, number(architecture, NAMES[name])) == REFUSE


@pytest.mark.parametrize("architecture", [X86_64, ARM64])
def test_calls_are_judged_by_their_arguments(architecture: str) -> None:
    def judged(pair: tuple[int, int | None], *arguments: int, rights: Rights = Rights()) -> int:
        return verdict(architecture, number(architecture, pair), *arguments, rights=rights)

    thread, process = 0x10000 | 0x100, 17
    assert judged(calls.KILL, PID) == judged(calls.KILL, 0) == judged(calls.TGKILL, PID) == judged(calls.PRLIMIT, 0) == ALLOW
    assert judged(calls.KILL, 1) == judged(calls.KILL, -1) == judged(calls.TGKILL, 1) == judged(calls.PRLIMIT, 1) == REFUSE
    assert judged(calls.CLONE, thread) == judged(calls.CLONE, process) == REFUSE
    assert (
        judged(calls.CLONE, thread, rights=Rights(threads=True))
        == judged(calls.CLONE, process, rights=Rights(fork=True))
        == ALLOW
    )
    assert judged(calls.CLONE, process, rights=Rights(threads=True)) == REFUSE
    assert judged(calls.CLONE, 0x10000000 | process, rights=Rights(fork=True)) == REFUSE, "a new namespace"
    assert judged(calls.SOCKETPAIR, 1) == ALLOW and judged(calls.SOCKETPAIR, 30) == REFUSE
    assert judged(calls.CLONE3) == judged(calls.OPENAT2) == MISSING
    assert judged(calls.FCNTL, 3, 1) == ALLOW and judged(calls.FCNTL, 3, 8) == REFUSE
    assert judged(calls.IOCTL, 0, 0x5401) == ALLOW and judged(calls.IOCTL, 0, 0x5412) == REFUSE
    assert judged(calls.PRCTL, 15) == ALLOW and judged(calls.PRCTL, 4) == judged(calls.PRCTL, 1) == REFUSE
    assert judged(calls.OPENAT, 0, 0, 0x201) == ALLOW and judged(calls.OPENAT, 0, 0, 0x200) == REFUSE
    assert judged((0, 63)) == judged((1, 64)) == judged((9, 222)) == judged((60, 93)) == ALLOW, "read, write, mmap, exit"


@pytest.mark.parametrize("architecture", [X86_64, ARM64])
def test_other_architectures_and_unknown_calls_do_not_pass(architecture: str) -> None:
    assert verdict(architecture, 0, audit=0x40000003) == KILL, "i386"
    assert verdict(architecture, 0, audit=0x40000028) == KILL, "32-bit arm"
    assert verdict(architecture, calls.X32_BIT) == KILL
    assert verdict(architecture, calls.LAST_KNOWN + 1) == MISSING
    assert len(build(architecture, PID, Rights())) < 4096, "the kernel takes no longer program"
