"""`python -m services.job_orchestrator`"""

from functools import partial

from services.job_orchestrator.app import build
from services.job_orchestrator.settings import OrchestratorSettings
from shared.runtime.service import main

if __name__ == "__main__":
    settings = OrchestratorSettings()
    main("job_orchestrator", settings, partial(build, settings=settings))
