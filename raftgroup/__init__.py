"""Raft consensus for one group, pure and synchronous: no clock, socket, disk or global randomness.

The algorithm is Diego Ongaro's thesis, "Consensus: Bridging Theory and Practice" (2014); where this
package leaves it is listed in ``docs/divergence.md``.
"""
