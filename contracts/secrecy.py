"""References to secrets, and which values are secrets: what may travel, what may be shown. Pure."""

from __future__ import annotations

import re
from collections.abc import Mapping
from typing import Any

HIDDEN = "[hidden]"
"""What answers and topics show in place of a secret."""
SECRET_NAME = r"^[a-z0-9][a-z0-9_.-]{0,99}$"
PLATFORM = "platform/"
_REFERENCE = re.compile(r"secret:(platform/)?([a-z0-9][a-z0-9_.-]{0,99})")
_TELLING = re.compile(
    r"secret|token|passw|passphrase|credential|authori[sz]ation|cookie|bearer|signature|(api|access|private|signing)[-_]?key",
    re.I,
)
_USER_INFO = re.compile(r"(?<=://)[^/@\s]+@")


def reference(value: Any) -> bool:
    """True for `secret:NAME` and `secret:platform/NAME`."""
    return isinstance(value, str) and _REFERENCE.fullmatch(value) is not None


def parse_reference(value: str) -> tuple[str, bool]:
    """Name of the secret, and whether it is the platform's. Raises `ValueError` for what is no reference."""
    found = _REFERENCE.fullmatch(value)
    if found is None:
        raise ValueError("secret:NAME is expected")
    return found[2], found[1] is not None


def platform_reference(value: Any) -> bool:
    """True when a JSON value holds a reference to a secret of the platform."""
    if isinstance(value, Mapping):
        return any(platform_reference(item) for item in value.values())
    if isinstance(value, (list, tuple)):
        return any(platform_reference(item) for item in value)
    return isinstance(value, str) and value.startswith(f"secret:{PLATFORM}")


def holds_hidden(value: Any) -> bool:
    """True when a JSON value holds `HIDDEN`: it was read from an answer, and the secret is not in it."""
    if isinstance(value, Mapping):
        return any(holds_hidden(item) for item in value.values())
    if isinstance(value, (list, tuple)):
        return any(holds_hidden(item) for item in value)
    return isinstance(value, str) and HIDDEN in value


def is_secret_name(name: str) -> bool:
    """True for the name of a setting or header that holds a secret by its name, such as `bearer_token` or `X-Api-Key`."""
    return _TELLING.search(name) is not None


def hide_secrets(value: Any, name: str = "") -> Any:
    """A JSON value with `HIDDEN` for each text under the name of a secret, and for user and password of addresses. References stay."""
    if isinstance(value, Mapping):
        return {key: hide_secrets(item, str(key)) for key, item in value.items()}
    if isinstance(value, (list, tuple)):
        return [hide_secrets(item, name) for item in value]
    if not isinstance(value, str) or not value or reference(value):
        return value
    if is_secret_name(name):
        return HIDDEN
    return _USER_INFO.sub(f"{HIDDEN}@", value) if "://" in value else value
