"""The three ways in which handling a record may fail, decided by the exception's class and by nothing else."""

from __future__ import annotations


class Outcome(Exception):
    """Base of the three. `code` is a stable word for logs, metrics and dead letters."""

    def __init__(self, code: str, message: str) -> None:
        super().__init__(message)
        self.code = code


class Retry(Outcome):
    """A dependency is down. Nothing is committed; the same records come again after a pause."""


class DeadLetter(Outcome):
    """This record can never work. It goes to the dead-letter topic with the reason; the rest goes on."""


class Stop(Outcome):
    """A bug or a misconfiguration. The offset stays, the process exits non-zero, an operator is needed."""
