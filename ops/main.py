"""The entry point of ``quorate``. It imports next to nothing, so that an interrupt finds it prepared."""

from __future__ import annotations

import os
import signal
import sys


def open_standard_streams() -> None:
    """Standard streams that whoever started us had closed lead to nowhere: else the next file or connection
    would take their place, and Python has None for them."""
    for descriptor in range(3):
        try:
            os.fstat(descriptor)
        except OSError:
            os.open(os.devnull, os.O_RDWR)  # takes the lowest number that is free: this one
    for name, descriptor, mode in (("stdin", 0, "r"), ("stdout", 1, "w"), ("stderr", 2, "w")):
        if getattr(sys, name) is None:
            setattr(sys, name, open(descriptor, mode, closefd=False))  # noqa: SIM115  # open until the end


def main() -> None:
    """The console script. Until the program is loaded an interrupt ends it without a word, since Python's
    own handler would show a traceback."""
    open_standard_streams()
    handler = signal.getsignal(signal.SIGINT)
    if handler is signal.default_int_handler:
        signal.signal(signal.SIGINT, signal.SIG_DFL)
    from ops.runner import run

    signal.signal(signal.SIGINT, handler)
    sys.exit(run(sys.argv[1:]))


if __name__ == "__main__":
    main()
