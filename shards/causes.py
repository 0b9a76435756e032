"""Why a node ended, in the one line that people are told."""

from __future__ import annotations

from shards.config import NodeFailed, StartError
from shards.ports import StoreDamaged, StoreFailed


def cause(error: BaseException) -> StartError | NodeFailed | None:
    """The one line that explains ``error``; None if it is not one of those that end a node by plan."""
    if isinstance(error, StartError | NodeFailed):
        return error
    if isinstance(error, StoreDamaged):
        return NodeFailed(str(error))
    if isinstance(error, StoreFailed):
        return NodeFailed(f"the store failed, and nothing that this node says would be safe: {error}")
    if isinstance(error, BaseExceptionGroup):
        found = [cause(part) for part in error.exceptions]
        if all(found):
            return found[0]
    return None
