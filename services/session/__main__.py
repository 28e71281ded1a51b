"""`python -m services.session`"""

from functools import partial

from services.session.app import build
from services.session.settings import SessionSettings
from shared.runtime.service import main

if __name__ == "__main__":
    settings = SessionSettings()
    main("session", settings, partial(build, settings=settings))
