"""The shapes in which events leave the notifier: as on our topics, or as Alfred's clients read them."""

from __future__ import annotations

import json
from enum import StrEnum
from typing import Any

from pydantic import AnyHttpUrl
from pydantic_core import to_json

from contracts import Message
from contracts.alfred import AlfredEvent
from contracts.alfred_view import event_view, flattened
from contracts.event_names import typed_body


class Shape(StrEnum):
    """What an endpoint receives. Only `typed` has the event's name as `type`: the others hold what the vendor documents.

    `flat` has the members of the inner object beside the envelope's, too.
    """

    TYPED = "typed"
    ALFRED = "alfred"
    ALFRED_FLAT = "alfred-flat"


class Shapes:
    """Writes events in each shape. `public_url` is the gateway's address, with which addresses of files begin."""

    def __init__(self, public_url: AnyHttpUrl | None) -> None:
        self._base = "" if public_url is None else str(public_url).rstrip("/")

    def body(self, message: Message, shape: Shape) -> bytes:
        """The body of a delivery. Events that the vendor does not have keep our own shape."""
        if shape is Shape.TYPED or not isinstance(message, AlfredEvent):
            return typed_body(message)
        view = self.view(message.to_json())
        return to_json(flattened(view) if shape is Shape.ALFRED_FLAT else view)

    def view(self, event: bytes | str) -> dict[str, Any]:
        """The JSON of a job or file event as Alfred's clients read it."""
        return event_view(json.loads(event), lambda path: self._base + path)
