"""Speed suite: methods timed lap by lap in turn, and how their memory grows; run by benchmarks/speed.py."""
