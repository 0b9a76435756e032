"""A whole cluster in one thread: real engines and real client sessions under a simulated clock, network
and disk, driven by a seed and repeatable to the byte.

``python -m bench.world --seed N`` runs one seed. A run has a safety phase, in which faults happen, and a
liveness phase, in which everything is healed and progress is demanded. ``invariants`` holds what is
checked after every step.
"""
