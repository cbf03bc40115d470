"""Shared parts of the analysis scripts in benchmarks/: objects, robot loop, kept rows, tables and plots."""
