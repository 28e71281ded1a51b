"""Starts the service: `python -m services.ingest`."""

from functools import partial

from services.ingest.app import build
from services.ingest.settings import IngestSettings
from shared.runtime.service import main

if __name__ == "__main__":
    settings = IngestSettings()
    main("ingest", settings, partial(build, settings=settings))
