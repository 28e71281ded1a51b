"""How an action ends when not with a result: raise one of these."""

from __future__ import annotations


class Outcome(Exception):
    """Base of the four. `code` is a stable word for programs, `message` a sentence for people."""

    def __init__(self, code: str, message: str = "") -> None:
        super().__init__(message or code)
        self.code = code[:100]


class Failed(Outcome):
    """KO: it can never work, e.g. the document is not what it claims to be. The step ends; nothing is tried again."""


class TryAgain(Outcome):
    """ERR: this attempt failed, another may not. The step's retry policy decides when, and how often."""


class Skipped(Outcome):
    """SKIP: there is nothing to do here; the step counts as done, without a result."""


class Queued(Outcome):
    """QUEUED: ask me again in `retry_in` seconds, e.g. while a third party works on it. Uses up no attempt."""

    def __init__(self, retry_in: float, code: str = "waiting", message: str = "") -> None:
        super().__init__(code, message)
        self.retry_in = retry_in
