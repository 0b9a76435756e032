"""Logs go to standard error: in colour and columns for people at a terminal, else one JSON object a line."""

from __future__ import annotations

import sys
from typing import Any, Final, Literal

import structlog

Level = Literal["debug", "info", "warning", "error"]
_LEVELS: Final[dict[Level, int]] = {"debug": 10, "info": 20, "warning": 30, "error": 40}


def configure(level: Level = "info") -> None:
    """Sets structlog up for this process; call it once, before anything logs."""
    renderers: list[Any]
    if sys.stderr.isatty():
        clock = structlog.processors.TimeStamper("%H:%M:%S.%f", utc=False)
        renderers = [clock, structlog.dev.ConsoleRenderer()]
    else:
        renderers = [
            structlog.processors.TimeStamper("iso", utc=True),
            structlog.processors.dict_tracebacks,
            structlog.processors.JSONRenderer(default=repr, ensure_ascii=False),
        ]
    structlog.configure(
        processors=[structlog.contextvars.merge_contextvars, structlog.processors.add_log_level, *renderers],
        wrapper_class=structlog.make_filtering_bound_logger(_LEVELS[level]),
        logger_factory=structlog.WriteLoggerFactory(file=sys.stderr),
        cache_logger_on_first_use=True,
    )
