"""All systems that can be measured, by name."""

from __future__ import annotations

from typing import Final

from bench.peers import SUBJECTS as PEERS
from bench.runs.embedded_subject import QUORATE_EMBEDDED
from bench.runs.quorate_subject import QUORATE, QUORATE_ONE
from bench.runs.subjects import Subject

_OWN: Final[tuple[Subject, ...]] = (QUORATE, QUORATE_ONE, QUORATE_EMBEDDED)
SUBJECTS: Final = {subject.name: subject for subject in (*_OWN, *PEERS)}
