"""`python -m services.notifier`"""

from functools import partial

from services.notifier.app import build
from services.notifier.settings import NotifierSettings
from shared.runtime.service import main

if __name__ == "__main__":
    settings = NotifierSettings()
    main("notifier", settings, partial(build, settings=settings))
