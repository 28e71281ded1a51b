"""`python -m tests.downloads [--slow]`: fetch what the tests run and do not find here, once, so that no test waits for it.

Two workers that fetch the same jar at once could also read each other's half of it.
"""

from __future__ import annotations

import sys

from shared.embedded.jars import ensure_jars
from shared.embedded.postgres import unpack
from tests import verapdf
from tests.servers import POSTGRES_IMAGE, docker_has


def main() -> None:
    """Kafka's jars; PostgreSQL where no container has it; with `--slow` veraPDF's jars."""
    ensure_jars()
    if not docker_has(POSTGRES_IMAGE):
        unpack()
    if "--slow" in sys.argv:
        verapdf.jars()


if __name__ == "__main__":
    main()
