"""Programs that kill parts of a running profiler on purpose, and the quick subsets of them that are tests."""
