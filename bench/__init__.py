"""What puts the system to the test: the simulated world, workloads, load drivers and checks."""
