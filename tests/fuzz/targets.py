"""All targets together, and their corpora."""

from __future__ import annotations

from pathlib import Path
from typing import Final

from tests.fuzz import bytes_of_clients, bytes_of_peers, stored_bytes, whole_nodes
from tests.fuzz.target import TARGETS, Misread, Target

__all__ = ["CORPUS", "PARTS", "TARGETS", "Misread", "Target", "corpus"]

PARTS: Final = (bytes_of_clients, bytes_of_peers, stored_bytes, whole_nodes)
"""Where the targets stand."""
CORPUS: Final = Path(__file__).parent / "corpus"


def corpus(name: str) -> list[Path]:
    """The kept inputs of a target."""
    return sorted((CORPUS / name).glob("*"))
