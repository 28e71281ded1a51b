"""The version of the installed package; its metadata states it."""

from importlib.metadata import PackageNotFoundError, version
from typing import Final


def installed() -> str:
    """The version of `stageline-kit`, or of `stageline`, which brings the kit along. Raises `PackageNotFoundError` without both."""
    try:
        return version("stageline-kit")
    except PackageNotFoundError:
        return version("stageline")


VERSION: Final = installed()
CLIENT: Final = f"stageline-kit/{VERSION}"
"""How a worker of the kit names its program in reports."""
