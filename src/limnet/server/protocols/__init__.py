"""Protocols of other programs that `limnet serve` speaks, each in a file of its own."""
