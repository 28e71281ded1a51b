"""Settings of the session service: none beyond the common ones."""

from __future__ import annotations

from shared.settings import Settings


class SessionSettings(Settings):
    """See `shared/settings.py`."""
