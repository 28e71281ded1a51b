"""`python -m contracts.registry check|release`. Exit code 1, with the reasons, when the gate refuses a model; 2 for wrong use."""

from __future__ import annotations

import sys

from contracts.registry.schemas import check, release


def main(verb: str) -> int:
    """Run `check` or `release`; returns the exit code."""
    if verb == "release":
        try:
            written = release()
        except ValueError as error:
            sys.stderr.write(f"{error}\nFULL_TRANSITIVE: refused\n")
            return 1
        sys.stdout.write("".join(f"released {name}\n" for name in written) or "nothing to release\n")
        return 0
    if verb != "check":
        sys.stderr.write("usage: python -m contracts.registry check|release\n")
        return 2
    faults = check()
    sys.stdout.write("".join(f"{fault}\n" for fault in faults) + f"FULL_TRANSITIVE: {'refused' if faults else 'holds'}\n")
    return 1 if faults else 0


if __name__ == "__main__":
    sys.exit(main((sys.argv[1:] or ["check"])[0]))
