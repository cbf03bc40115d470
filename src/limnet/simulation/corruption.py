"""Moved to `limnet.simulation.corruptions`; this name goes with the next release."""

from limnet.errors import moved

_NAMES = ("PAPER", "apply", "corrupt", "draw_corruption", "from_json", "to_json")
__getattr__ = moved(__name__, dict.fromkeys(_NAMES, "limnet.simulation.corruptions"))
