"""Moved to `limnet.tasks.interaction`; this name goes with the next release."""

from limnet.errors import moved

__getattr__ = moved(__name__, {"InteractionModule": "limnet.tasks.interaction"})
