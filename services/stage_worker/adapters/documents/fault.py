"""What can be wrong with a document, as a typed result and never as a crash of the worker."""

from __future__ import annotations


class DocumentFault(Exception):
    """`code` is a stable word, the text is for people. `retriable` faults are not the document's but the moment's."""

    def __init__(self, code: str, message: str, retriable: bool = False) -> None:
        super().__init__(message)
        self.code = code
        self.retriable = retriable
