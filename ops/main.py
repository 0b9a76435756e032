"""The entry point of ``quorate``. It imports next to nothing, so that an interrupt finds it prepared."""

from __future__ import annotations

import signal
import sys


def main() -> None:
    """The console script. Until the program is loaded an interrupt ends it without a word, since Python's
    own handler would show a traceback."""
    handler = signal.getsignal(signal.SIGINT)
    if handler is signal.default_int_handler:
        signal.signal(signal.SIGINT, signal.SIG_DFL)
    from ops.runner import run

    signal.signal(signal.SIGINT, handler)
    sys.exit(run(sys.argv[1:]))


if __name__ == "__main__":
    main()
