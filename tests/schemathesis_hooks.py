"""Schemathesis hook for `make fuzz`: the body of a resumable upload is bytes."""

from __future__ import annotations

import schemathesis

schemathesis.serializer.alias("application/offset+octet-stream", "application/octet-stream")
