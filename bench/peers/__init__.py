"""Systems to compare with, on the same machine in the same run: their servers, and loads on them."""

from bench.peers.catalog import SUBJECTS

__all__ = ["SUBJECTS"]
