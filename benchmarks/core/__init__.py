"""Benchmarks: the same cases and the same robot user for limnet and its baselines."""
