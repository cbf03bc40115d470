"""Propagation: a memory network carries the prompt mask through the volume (section II-D of the paper)."""
