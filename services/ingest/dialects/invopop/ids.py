"""Ids in paths and bodies: UUIDs in any case are the same id, which is kept in lower case (RFC 9562 §4). Pure."""

from __future__ import annotations

import re
from typing import Annotated

from fastapi import Path
from pydantic import AfterValidator, Field

_UUID = re.compile(r"[0-9A-Fa-f]{8}-([0-9A-Fa-f]{4}-){3}[0-9A-Fa-f]{12}")


def canonical(value: str) -> str:
    """The id as it is kept: a UUID in lower case, another id as it is."""
    return value.lower() if _UUID.fullmatch(value) else value


Id = Annotated[str, Path(min_length=1, max_length=200, pattern=r"^[A-Za-z0-9][A-Za-z0-9_-]*$"), AfterValidator(canonical)]
"""An entry's or a file's id in a path."""
FlowId = Annotated[str, Path(min_length=1, max_length=200, pattern=r"^[A-Za-z0-9][A-Za-z0-9-]*$"), AfterValidator(canonical)]
"""A workflow's id in a path."""
JobId = Annotated[str, Path(), AfterValidator(canonical)]
"""A job's id in a path; which ids there can be says the route."""
Reference = Annotated[str, Field(min_length=1, max_length=200), AfterValidator(canonical)]
"""An id in a body."""
