"""Tools that measure this machine beside a benchmark, each in its own environment; told when over a pipe."""
