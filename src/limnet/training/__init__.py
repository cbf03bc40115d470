"""Training: launch helper and callbacks."""
