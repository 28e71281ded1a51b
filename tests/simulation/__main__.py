"""`make simulate SEEDS=2000`: many histories of the simulated pipeline. `python -m tests.simulation --seed N` replays one."""

from __future__ import annotations

import argparse
import multiprocessing
import os
import sys
import time
import traceback

from tests.simulation.invariants import check
from tests.simulation.observer import Broken
from tests.simulation.switches import BUGS, Switches
from tests.simulation.world import World


def simulate(seed: int, switches: Switches | None = None) -> tuple[int, int, str | None]:
    """Run one history: (seed, steps, what is wrong or None)."""
    world = World(seed, switches)
    try:
        world.run()
        check(world)
    except Broken as error:
        return seed, world.steps, str(error)
    except Exception as error:
        last = traceback.extract_tb(error.__traceback__)[-1]
        return seed, world.steps, f"{type(error).__name__}: {error} ({last.filename.rpartition('/')[2]}:{last.lineno})"
    return seed, world.steps, None


def hunt(name: str, seeds: int) -> tuple[str, int | None, str]:
    """Seeds until a planted bug is found: (its name, how many, or None, what was seen)."""
    with BUGS[name]() as switches:
        for seed in range(seeds):
            _, _, wrong = simulate(seed, switches)
            if wrong is not None:
                return name, seed + 1, wrong
    return name, None, ""


def main() -> int:
    """0 when every history held and every planted bug was found."""
    parser = argparse.ArgumentParser(prog="python -m tests.simulation")
    parser.add_argument("--seeds", type=int, default=2000)
    parser.add_argument("--first", type=int, default=0)
    parser.add_argument("--seed", type=int, help="replay one history")
    options = parser.parse_args()
    if options.seed is not None:
        seed, steps, wrong = simulate(options.seed)
        sys.stdout.write(f"seed {seed}: {steps} steps, {wrong or 'every invariant held'}\n")
        return 1 if wrong else 0
    began = time.monotonic()
    with multiprocessing.get_context("fork").Pool(os.cpu_count()) as pool:
        seeds = range(options.first, options.first + options.seeds)
        done = list(pool.imap_unordered(simulate, seeds, chunksize=8))
        bugs = list(pool.starmap(hunt, [(name, 400) for name in BUGS], chunksize=1))
    return report(done, bugs, time.monotonic() - began)


def report(done: list[tuple[int, int, str | None]], bugs: list[tuple[str, int | None, str]], elapsed_s: float) -> int:
    """Print what was seen; the exit code."""
    broken = sorted((seed, wrong) for seed, _, wrong in done if wrong is not None)
    for seed, wrong in broken[:20]:
        sys.stdout.write(f"seed {seed}: {wrong}\n  again: python -m tests.simulation --seed {seed}\n")
    for name, found, wrong in bugs:
        sys.stdout.write(f"planted: {name:<36} {f'found by seed {found - 1}: {wrong[:90]}' if found else 'NOT FOUND'}\n")
    missed = [name for name, found, _ in bugs if found is None]
    sys.stdout.write(
        f"{len(done)} histories of {sum(s for _, s, _ in done)} steps, {len(broken)} broken; "
        f"{len(bugs) - len(missed)} of {len(bugs)} planted bugs found; {elapsed_s:.0f} s\n"
    )
    return 1 if broken or missed else 0


if __name__ == "__main__":
    sys.exit(main())
