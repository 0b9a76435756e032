"""Which release of the program this is."""

from __future__ import annotations

from importlib.metadata import PackageNotFoundError, version


def product_version() -> str:
    """The installed package's version."""
    try:
        return version("quorate")
    except PackageNotFoundError:
        return "unknown"
