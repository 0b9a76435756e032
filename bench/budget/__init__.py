"""Where the processor time of one write goes: ``python -m bench.budget``."""
