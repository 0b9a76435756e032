"""Faults on real processes: nodes in network namespaces, histories of what clients saw, and a report.

``python -m bench.processes --minutes 60`` runs episodes; see ``docs/testing.md``.
"""
