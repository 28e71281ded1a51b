"""Outcomes of an action other than a result. An action raises one of these."""

from __future__ import annotations


class Outcome(Exception):
    """Base of the four. `code` is a stable word for programs, `message` a sentence for people."""

    def __init__(self, code: str, message: str = "") -> None:
        super().__init__(message or code)
        self.code = code[:100]


class Failed(Outcome):
    """KO: the step can never succeed, e.g. the document is damaged. The step ends without another attempt."""


class TryAgain(Outcome):
    """ERR: this attempt failed. The step's retry policy decides whether and when the next one runs."""


class Skipped(Outcome):
    """SKIP: there is nothing to do. The step counts as done and has no result."""


class Queued(Outcome):
    """QUEUED: run this attempt again in `retry_in` seconds, e.g. while a third party works. It uses up no attempt."""

    def __init__(self, retry_in: float, code: str = "waiting", message: str = "") -> None:
        super().__init__(code, message)
        self.retry_in = retry_in
