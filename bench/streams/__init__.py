"""The second tier of simulation: real nodes and clients on trio, over a simulated network, disk and clock.

``bench.world`` drives the engine and the session core from an event heap, and leaves out what surrounds them.
Here the drivers themselves run, with their tasks, links, handshakes and timers, under trio's ``MockClock``
and a schedule that a seed decides. Disk, clocks, faults and workloads are those of ``bench.world``.
"""
