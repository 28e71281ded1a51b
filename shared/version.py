"""The version of the installed package; `pyproject.toml` states it."""

from importlib.metadata import version
from typing import Final

VERSION: Final = version("stageline")
"""For OpenAPI documents and telemetry, e.g. `0.3.0`."""
USER_AGENT: Final = f"Stageline/{VERSION}"
"""The `User-Agent` of webhooks and of calls of a workflow."""
