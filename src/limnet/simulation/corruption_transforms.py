"""Moved to `limnet.simulation.transforms`; this name goes with the next release."""

from limnet.errors import moved

__getattr__ = moved(__name__, dict.fromkeys(("CorruptMaskd",), "limnet.simulation.transforms"))
