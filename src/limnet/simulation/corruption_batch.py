"""Moved to `limnet.simulation.corruptions`; this name goes with the next release."""

from limnet.errors import moved

__getattr__ = moved(__name__, dict.fromkeys(("corrupt_batch",), "limnet.simulation.corruptions"))
