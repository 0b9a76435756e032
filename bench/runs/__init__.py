"""The benchmark harness: systems side by side, workloads, figures with their cost, and the comparison."""
