"""`python -m services.stage_worker`"""

from functools import partial

from services.stage_worker.app import build
from services.stage_worker.settings import WorkerSettings
from shared.runtime.service import main

if __name__ == "__main__":
    settings = WorkerSettings()
    main("stage_worker", settings, partial(build, settings=settings))
