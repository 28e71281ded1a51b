"""`make chaos`, or `python -m tests.chaos.harness --seed 7 --minutes 5`: exit code 1 when a promise was broken."""

from __future__ import annotations

import argparse
import asyncio
import logging
import sys
import tempfile
from collections import Counter
from dataclasses import asdict
from pathlib import Path

from benchmarks.results import save
from tests.chaos.harness.evidence import Violation
from tests.chaos.harness.plan import WEIGHTS, Parameters, Plan, make_plan
from tests.chaos.harness.run import Outcome, run

SHOWN = 12
"""Violations of one rule that are printed."""


def arguments(given: list[str] | None = None) -> argparse.Namespace:
    """The parsed command line."""
    parser = argparse.ArgumentParser(prog="python -m tests.chaos.harness", description=__doc__)
    parser.add_argument("--seed", type=int, default=1, help="the same seed draws the same faults and the same load")
    parser.add_argument("--minutes", type=float, default=5.0, help="duration of the load")
    parser.add_argument("--rate", type=float, default=4.0, help="requests a second")
    parser.add_argument("--store", choices=["sqlite", "postgres"], default="sqlite")
    parser.add_argument("--replicas", type=int, help="processes of each service: 1 on SQLite, by default 2 on PostgreSQL")
    parser.add_argument("--quiet", type=float, default=120.0, metavar="S", help="longest wait for the last ends")
    parser.add_argument("--faults", default="", help="draw these kinds alone, separated by commas: " + ", ".join(WEIGHTS))
    parser.add_argument(
        "--small-disk", action="store_true", help="mount a small file system (needs root), and fill it now and then"
    )
    parser.add_argument("--plan", action="store_true", help="print the faults and run nothing")
    parser.add_argument("--keep", metavar="FOLDER", help="keep data and logs in this folder")
    parser.add_argument("--results", default="", metavar="FOLDER", help="write the result as data into this folder")
    return parser.parse_args(given)


def plan_of(options: argparse.Namespace) -> Plan:
    """The plan of a command line."""
    replicas = options.replicas or (2 if options.store == "postgres" else 1)
    if options.store == "sqlite" and replicas > 1:
        raise SystemExit("chaos: several processes of a service need --store postgres")
    kinds = tuple(k for k in options.faults.split(",") if k)
    if unknown := set(kinds) - set(WEIGHTS):
        raise SystemExit(f"chaos: there is no fault {', '.join(sorted(unknown))}")
    parameters = Parameters(options.minutes, options.rate, options.store, replicas, options.small_disk, kinds)
    return make_plan(options.seed, parameters)


def report(plan: Plan, outcome: Outcome) -> None:
    """Print the figures, and each violation."""
    for name, figure in outcome.figures.items():
        print(f"{name}: {figure}")
    rules = Counter(v.rule for v in outcome.violations)
    shown: Counter[str] = Counter()
    for violation in outcome.violations:
        shown[violation.rule] += 1
        if shown[violation.rule] <= SHOWN:
            print(f"VIOLATION {violation}")
    print(f"seed {plan.seed}, {plan.parameters.store}: {len(outcome.violations)} violations {dict(rules)}", flush=True)


def written(violation: Violation) -> dict[str, object]:
    """A violation as data."""
    return {k: v for k, v in asdict(violation).items() if v not in (None, "", 1)}


def main() -> int:
    """Run the plan of the command line."""
    options = arguments()
    plan = plan_of(options)
    if options.plan:
        for fault in plan.faults:
            print(f"{fault.at:8.2f} s  {fault.kind} {fault.target}" + (f" for {fault.lasts:.1f} s" if fault.lasts else ""))
        print(f"{len(plan.load)} requests")
        return 0
    # The load's own clients meet every outage; the services' logs are what is judged.
    for noisy in ("aiokafka", "aiohttp"):
        logging.getLogger(noisy).setLevel(logging.CRITICAL)
    with tempfile.TemporaryDirectory(prefix="stageline-chaos-") as folder:
        outcome = asyncio.run(run(plan, Path(options.keep or folder), options.quiet, lambda line: print(line, flush=True)))
    report(plan, outcome)
    setup = {
        "store": options.store,
        "seed": plan.seed,
        "minutes": options.minutes,
        "rate": options.rate,
        "replicas": plan.parameters.replicas,
    }
    figures = {**outcome.figures, "violations": [written(v) for v in outcome.violations]}
    save(options.results, "chaos", setup, figures, print)
    return 1 if outcome.violations else 0


if __name__ == "__main__":
    sys.exit(main())
