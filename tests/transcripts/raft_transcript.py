"""Reads and plays transcripts: text files of commands, each followed by the lines that it causes.

A line that begins with ``> `` is a command of :class:`raft_stage.Stage`; those that follow, up to the next
command, comment or empty line, are what it says. ``#`` begins a comment.

``python tests/transcripts/raft_transcript.py --rewrite FILE ..`` writes what the replicas say now into the
files. A changed transcript is a changed behaviour: explain each difference where you commit it.
"""

from __future__ import annotations

import sys
from pathlib import Path

from raft_stage import COMMANDS, Stage

from raftgroup.types import InvariantViolation


def play(text: str) -> str:
    """The transcript with what the replicas say now."""
    stage = Stage()
    lines: list[str] = []
    for number, line in enumerate(text.splitlines(), start=1):
        if line.startswith("> "):
            name, *words = line[2:].split()
            if name not in COMMANDS:
                raise ValueError(f"no such command: {line}")
            lines.append(line)
            try:
                lines += getattr(stage, name)(*words)
            except InvariantViolation as violation:
                lines.append(f"violated: {violation}")
            except Exception as error:
                raise ValueError("\n".join([*lines, f"line {number}: {line}: {error!r}"])) from error
        elif not line or line.startswith("#"):
            lines.append(line)
    return "\n".join(lines) + "\n"


def main(arguments: list[str]) -> int:
    """Rewrites the files named."""
    if len(arguments) < 2 or arguments[0] != "--rewrite":
        print(__doc__, file=sys.stderr)
        return 2
    for name in arguments[1:]:
        path = Path(name)
        path.write_text(play(path.read_text()))
    return 0


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
