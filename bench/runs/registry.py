"""All systems that can be measured, by name."""

from __future__ import annotations

from importlib import import_module
from importlib.util import find_spec
from typing import Final

from bench.runs.embedded_subject import QUORATE_EMBEDDED
from bench.runs.quorate_subject import QUORATE, QUORATE_ONE
from bench.runs.subjects import Subject


def _peers() -> tuple[Subject, ...]:
    """Those of ``bench.peers``, where it is installed."""
    if find_spec("bench.peers") is None:
        return ()
    found: tuple[Subject, ...] = import_module("bench.peers").SUBJECTS
    return found


_OWN: Final[tuple[Subject, ...]] = (QUORATE, QUORATE_ONE, QUORATE_EMBEDDED)
SUBJECTS: Final = {subject.name: subject for subject in (*_OWN, *_peers())}
