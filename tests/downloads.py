"""`python -m tests.downloads [--slow]`: download the programs that the tests need, once, so that no test waits for them.

Two test workers that download the same jar at the same time could read each other's incomplete file.
"""

from __future__ import annotations

import sys

from shared.embedded.jars import ensure_jars
from shared.embedded.postgres import unpack
from tests import verapdf
from tests.servers import POSTGRES_IMAGE, docker_has


def main() -> None:
    """Download Kafka's jars; PostgreSQL, unless a container provides it; with `--slow`, veraPDF's jars."""
    ensure_jars()
    if not docker_has(POSTGRES_IMAGE):
        unpack()
    if "--slow" in sys.argv:
        verapdf.jars()


if __name__ == "__main__":
    main()
