"""Analyses: what a model does well and why; `benchmarks.core.registry.ANALYSES` names them."""
