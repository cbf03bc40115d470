"""Errors of the library.

Each error is also the builtin a caller would expect, so `except ValueError` keeps working.

Every message says what came, what is allowed and what to do next.
"""

from __future__ import annotations


class LimnetError(Exception):
    """Base of every error raised on purpose by limnet."""


class InputError(LimnetError, ValueError):
    """A value, shape or range that cannot be used."""


class InputTypeError(InputError, TypeError):
    """A value of the wrong type or dtype (also a ValueError)."""


class OutsideError(InputError, IndexError):
    """Coordinates or indices outside the volume (also a ValueError and an IndexError)."""


class FileFormatError(LimnetError, ValueError):
    """A file that exists but is damaged, truncated or of an unknown format."""


class NotEnoughMemoryError(LimnetError, MemoryError):
    """A volume that does not fit into memory; the file itself may be whole."""


class MissingFileError(LimnetError, FileNotFoundError):
    """A file or folder that is not there."""


class ModelNotFoundError(LimnetError, FileNotFoundError, ValueError):
    """A model name, folder or Hub repository that cannot be found."""


class ModelFormatError(FileFormatError):
    """A model folder or checkpoint that is damaged, foreign, unsafe or newer than this library."""


class HistoryError(LimnetError, IndexError, RuntimeError):
    """Nothing to undo or redo."""


class SessionError(FileFormatError):
    """A session file that is damaged, foreign or belongs to another volume or model."""


class SaveError(LimnetError, OSError):
    """A file could not be written; whatever was there before is untouched."""


class ConflictError(LimnetError, RuntimeError):
    """An object or a session file was changed by someone else in the meantime; that change holds."""


class Cancelled(LimnetError, RuntimeError):
    """The user cancelled a round; the case is as it was before the round."""
