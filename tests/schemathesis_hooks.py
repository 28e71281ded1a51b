"""What Schemathesis has to be told: the body of a resumable upload is bytes (`make fuzz`)."""

from __future__ import annotations

import schemathesis

schemathesis.serializer.alias("application/offset+octet-stream", "application/octet-stream")
