"""Analyses: what a model does well and why; `benchmarks.core.suite.ANALYSES` names them."""
