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
from contracts.event_names import short_type, with_type


class Shape(StrEnum):
    """What an endpoint receives. `flat` has the members of the inner object beside the envelope's, too."""

    TYPED = "typed"
    ALFRED = "alfred"
    ALFRED_FLAT = "alfred-flat"


class Shapes:
    """Writes events in each shape. `public_url` is the gateway's address, with which addresses of files begin."""

    def __init__(self, public_url: AnyHttpUrl | None) -> None:
        self._base = "" if public_url is None else str(public_url).rstrip("/")

    def body(self, message: Message, shape: Shape) -> bytes:
        """The body of a delivery, with the event's `type` first. Events that the vendor does not have keep our own shape."""
        own, type_ = message.to_json(), short_type(message.TYPE)
        if shape is Shape.TYPED or not isinstance(message, AlfredEvent):
            return with_type(own, type_)
        view = self.view(own)
        return with_type(to_json(flattened(view) if shape is Shape.ALFRED_FLAT else view), type_)

    def view(self, event: bytes | str) -> dict[str, Any]:
        """The JSON of a job or file event as Alfred's clients read it."""
        return event_view(json.loads(event), lambda path: self._base + path)
