"""The three outcomes of a failure, decided by the exception's class alone."""

from __future__ import annotations

DISK_FULL = "disk_full"
"""Code of what fails because the server's disk is full."""


class Outcome(Exception):
    """Base class. `code` is a stable word for logs, metrics and dead letters."""

    def __init__(self, code: str, message: str) -> None:
        super().__init__(message)
        self.code = code


class Retry(Outcome):
    """A dependency is unavailable. Nothing is committed, and the same records are retried after a delay."""


class DeadLetter(Outcome):
    """This record can never be handled. It goes to the dead-letter topic with the reason; the others go on."""


class Stop(Outcome):
    """A bug or a misconfiguration. Nothing is committed, the process exits with a non-zero code, and an operator must act."""
