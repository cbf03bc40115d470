"""Constructor arguments from a file: fitted to the annotations of the constructor before anything is built."""

from __future__ import annotations

import collections.abc
import inspect
import types
import typing
from typing import Any

from limnet.errors import ModelFormatError


def fit_arguments(cls: type, config: Any, where: str) -> dict[str, Any]:
    """Check and convert the JSON arguments of a constructor.

    JSON lists become tuples where the annotation says tuple. Numbers must be numbers (true is not 1), and whole where
    an int is wanted.

    Args:
        cls: The class to be built.
        config: The value found in the file; should be a dict.
        where: Name of the file, for messages.

    Returns:
        Keyword arguments for `cls`.

    Raises:
        ModelFormatError: If `config` is no dict, or has unknown or missing keys, or a value of the wrong type.
    """
    if not isinstance(config, dict):
        raise ModelFormatError(f'{where}: "config" is a {type(config).__name__}; an object of arguments is expected')
    parameters = {
        name: parameter
        for name, parameter in list(inspect.signature(cls).parameters.items())
        if parameter.kind in (parameter.POSITIONAL_OR_KEYWORD, parameter.KEYWORD_ONLY)
    }
    unknown = sorted(set(config) - set(parameters))
    if unknown:
        raise ModelFormatError(
            f"{where}: {cls.__name__} has no argument {', '.join(map(repr, unknown))}; allowed: "
            f"{', '.join(parameters) or 'none'}. The model may need a newer limnet: pip install --upgrade limnet"
        )
    missing = [name for name, p in parameters.items() if p.default is p.empty and name not in config]
    if missing:
        raise ModelFormatError(f"{where}: {cls.__name__} needs the argument {', '.join(map(repr, missing))}")
    try:
        hints = typing.get_type_hints(cls.__init__)  # type: ignore[misc]
    except NameError:  # annotations that exist for type checkers only: nothing to hold the values to
        hints = {}
    return {
        name: _fit(value, hints.get(name, Any), f"{where}: {cls.__name__} {name}") for name, value in config.items()
    }


def _fit(value: Any, hint: Any, what: str) -> Any:
    origin = typing.get_origin(hint)
    parts = typing.get_args(hint)
    if origin in (typing.Union, types.UnionType):
        for part in parts:
            try:
                return _fit(value, part, what)
            except ModelFormatError:
                continue
        raise _wrong(value, hint, what)
    if origin is typing.Literal:
        if any(value == part and type(value) is type(part) for part in parts):
            return value
        raise _wrong(value, hint, what)
    kind = origin or hint
    if kind is None or kind is type(None):
        fits = value is None
    elif kind is bool:
        fits = isinstance(value, bool)
    elif kind is int:
        fits = isinstance(value, int) and not isinstance(value, bool)
    elif kind is float:
        fits = isinstance(value, (int, float)) and not isinstance(value, bool)
    elif kind is str:
        fits = isinstance(value, str)
    elif kind in (tuple, list, collections.abc.Sequence):
        return _fit_sequence(value, kind, parts, hint, what)
    elif kind in (dict, collections.abc.Mapping):
        fits = isinstance(value, dict)
    else:
        return value
    if not fits:
        raise _wrong(value, hint, what)
    return value


def _fit_sequence(value: Any, kind: Any, parts: tuple[Any, ...], hint: Any, what: str) -> Any:
    if not isinstance(value, list):
        raise _wrong(value, hint, what)
    if kind is tuple and parts and parts[-1] is not Ellipsis:
        if len(parts) != len(value):
            raise _wrong(value, hint, what)
        return tuple(_fit(item, part, what) for item, part in zip(value, parts, strict=True))
    part = parts[0] if parts else Any
    items = [_fit(item, part, what) for item in value]
    return items if kind is list else tuple(items)


def _wrong(value: Any, hint: Any, what: str) -> ModelFormatError:
    name = hint.__name__ if isinstance(hint, type) and not typing.get_args(hint) else str(hint).replace("typing.", "")
    return ModelFormatError(f"{what} is {str(value)[:80]!r} ({type(value).__name__}); expected {name}")
