"""How a measurement ends that is told to."""

from __future__ import annotations

import signal


def end_by_term() -> None:
    """From here on SIGTERM ends what is under way as an interrupt does: what was started is ended, too."""
    signal.signal(signal.SIGTERM, signal.default_int_handler)
