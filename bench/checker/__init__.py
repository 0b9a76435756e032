"""Histories of what callers were told, recorded, kept as files, and judged: see ``docs/histories.md``."""
