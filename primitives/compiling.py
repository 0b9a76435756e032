"""What the sources say to the compiler of the core, mypyc. Nobody else needs it, nor its package."""

from __future__ import annotations

from collections.abc import Callable
from typing import TYPE_CHECKING

__all__ = ["mypyc_attr"]

if TYPE_CHECKING:
    from mypy_extensions import mypyc_attr
else:

    def mypyc_attr(**_: bool) -> Callable[[type], type]:
        """Leaves the class as it is."""
        return lambda decorated: decorated
