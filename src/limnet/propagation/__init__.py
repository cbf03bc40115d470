"""Propagation: a memory network takes the prompt mask through the volume (section II-D of the paper)."""
