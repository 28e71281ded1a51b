"""What can be wrong with a document, as a typed result instead of a crash of the worker."""

from __future__ import annotations


class DocumentFault(Exception):
    """`code` is a stable word, the text is for people. A `retriable` fault may pass; any other is the document's own."""

    def __init__(self, code: str, message: str, retriable: bool = False) -> None:
        super().__init__(message)
        self.code = code
        self.retriable = retriable
