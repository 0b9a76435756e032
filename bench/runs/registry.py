"""All systems that can be measured, by name."""

from __future__ import annotations

from importlib import import_module
from importlib.util import find_spec
from typing import Final

from bench.runs.quorate_subject import QUORATE, QUORATE_ONE
from bench.runs.subjects import Subject


def _peers() -> tuple[Subject, ...]:
    """Those of ``bench.peers``, where it is installed."""
    if find_spec("bench.peers") is None:
        return ()
    found: tuple[Subject, ...] = import_module("bench.peers").SUBJECTS
    return found


SUBJECTS: Final[dict[str, Subject]] = {
    subject.name: subject for subject in (QUORATE, QUORATE_ONE, *_peers())
}
