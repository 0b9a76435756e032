"""The benchmark harness: systems side by side, workloads, figures with what they cost, and their comparison."""
