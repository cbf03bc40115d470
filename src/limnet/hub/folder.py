"""One network as a folder: `config.json` and `model.safetensors`.

The configuration holds the constructor arguments, the weights are a safetensors file: plain numbers, no code. Loading
is strict: every key, every shape, every value finite, or a message that says what is wrong. A pickle is recognised by
its first bytes and never opened. Small JSON files are read with every doubt checked and written atomically; arguments
are fitted to the annotations of the constructor before anything is built.

The class is looked up in an explicit table under the role that is asked for, so that a file never decides what gets
imported. A new network becomes loadable by one line in `TABLE`.
"""

from __future__ import annotations

import collections.abc
import contextlib
import difflib
import inspect
import json
import math
import types
import typing
from collections.abc import Iterator, Mapping
from importlib import import_module
from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn
from torch.overrides import TorchFunctionMode

from limnet._version import __version__
from limnet.errors import InputError, MissingFileError, ModelFormatError
from limnet.image.io.atomic import atomic_write, made_folder

ROLES: tuple[str, ...] = ("interaction", "propagation", "quality")
"""The three parts of a model, in the order they run."""

TABLE: dict[str, dict[str, str]] = {
    "interaction": {
        "HRNetOCR": "limnet.interaction.networks.hrnet:HRNetOCR",
        "TinyInteraction": "limnet.interaction.networks.tiny:TinyInteraction",
    },
    "propagation": {
        "XMem": "limnet.propagation.networks.xmem:XMem",
        "TinyPropagation": "limnet.propagation.networks.tiny:TinyPropagation",
    },
    "quality": {
        "ResNetQuality": "limnet.quality.networks.resnet:ResNetQuality",
        "TinyQuality": "limnet.quality.networks.tiny:TinyQuality",
    },
}
"""role -> class name -> "module:Class"."""


def check_role(role: str) -> str:
    """`role`, if it is one of `ROLES`; InputError for any other word."""
    if role not in TABLE:
        raise InputError(f"unknown role {role!r}; a model has the roles {', '.join(ROLES)}")
    return role


def resolve(role: str, name: Any) -> type:
    """The class that a name in a config.json stands for in `role`; ModelFormatError if it is not in the table."""
    known = TABLE[check_role(role)]
    if isinstance(name, str) and name in known:
        module, _, attribute = known[name].partition(":")
        return getattr(import_module(module), attribute)
    advice = "The model may need a newer limnet: pip install --upgrade limnet"
    if isinstance(name, str):
        swapped = next((other for other, names in TABLE.items() if name in names), None)
        near = difflib.get_close_matches(name, known, n=1)
        if swapped is not None:
            advice = f"{name} is a network for the role {swapped!r}: the folders seem to be swapped"
        elif near:
            advice = f"Did you mean {near[0]}?"
    raise ModelFormatError(
        f"class {str(name)[:80]!r} is not a known {role} network; allowed: {', '.join(known)}. {advice}"
    )


def name_of(cls: type) -> tuple[str, str]:
    """(role, class name) of a network class; InputError if it is not in the table: it could never be loaded again."""
    home = f"{cls.__module__}:{cls.__qualname__}"
    for role, known in TABLE.items():
        for name, place in known.items():
            if place == home:
                return role, name
    allowed = ", ".join(name for known in TABLE.values() for name in known)
    raise InputError(
        f"a {cls.__module__}.{cls.__qualname__} cannot be saved as part of a model; known classes: {allowed}. "
        "Add yours to limnet.hub.folder.TABLE"
    )


# files


FORMAT_VERSION = 1
"""Version of the folder layout this library writes; it reads this one and older ones."""
CONFIG = "config.json"
WEIGHTS = "model.safetensors"
_RANDOM = ("normal_", "uniform_", "random_", "bernoulli_", "exponential_")
_USUAL = 4096  # no option that is not the size of a tensor is larger: pixels of a window, steps
_PICKLES = ("pytorch_model.bin", "model.bin", "model.pt", "model.pth", "model.ckpt", "model.pkl")
_AGAIN = "the folder is incomplete or no limnet model; download or save the model again"
_LIMIT = 1 << 20  # bytes; a config or an index is a few hundred


def save_component(module: nn.Module, folder: str | Path, half: bool = False) -> Path:
    """Write one network, with its constructor arguments in `module.config`, to a folder (created if needed).

    `half` stores floating weights of two or more dimensions as float16; vectors (biases, statistics) and tensors that
    would overflow stay float32. Loading always gives float32. InputError for an unknown class, a configuration that is
    not plain JSON, or a weight that is NaN or infinite; SaveError where the folder cannot be made.
    """
    folder = Path(folder)
    _, name = name_of(type(module))
    plain = plain_json(getattr(module, "config", None), f"{name}.config")
    try:
        fit_arguments(type(module), plain, f"{name}.config")
    except ModelFormatError as error:
        raise InputError(f"{error}. The saved model could not be loaded again") from error
    tensors = {key: _stored(key, value, half) for key, value in module.state_dict().items()}

    made_folder(folder)
    from safetensors.torch import save  # save_file would make files that only their owner reads

    atomic_write(folder / WEIGHTS, lambda path: path.write_bytes(save(tensors, metadata={"format": "pt"})))
    write_object(folder / CONFIG, {"class": name, "config": plain})
    return folder


def load_component(folder: str | Path, role: str) -> nn.Module:
    """Build a network from its folder, strictly; only classes of `role` are allowed.

    It is in float32 on the CPU, in eval mode, parameters frozen; the random state of torch is untouched.
    ModelFormatError if anything is damaged, foreign, unsafe, newer, or does not fit the network; MissingFileError
    where there is no such folder.
    """
    folder = Path(folder)
    check_role(role)
    if not folder.is_dir():
        raise MissingFileError(f"{folder} is not a folder; it should hold {CONFIG} and {WEIGHTS} ({role}); {_AGAIN}")
    config = read_config(folder)
    cls = resolve(role, config["class"])
    arguments = fit_arguments(cls, config["config"], str(folder / CONFIG))
    _check_room(cls, arguments, folder)
    tensors = read_weights(folder)
    with torch.random.fork_rng(devices=[]):
        try:
            module = cls(**arguments)
        except Exception as error:  # whatever a constructor makes of values from a file
            raise ModelFormatError(
                f"{folder / CONFIG}: {cls.__name__} refuses its configuration ({type(error).__name__}: {error})"
            ) from error
    _fill(module, tensors, folder / WEIGHTS)
    return module.eval().requires_grad_(False)


def read_config(folder: Path) -> dict[str, Any]:
    """Read config.json of a component and check its frame (version, class, config); the class is not resolved."""
    path = folder / CONFIG
    found = read_object(path, _AGAIN)
    if not isinstance(found.get("class"), str) or not isinstance(found.get("config"), dict):
        raise ModelFormatError(
            f'{path} needs "class" (a name) and "config" (an object); it has {", ".join(found) or "nothing"}; {_AGAIN}'
        )
    return found


def read_weights(folder: Path) -> dict[str, Tensor]:
    """Read model.safetensors; floating tensors come back as float32. Raises as `load_component`."""
    from safetensors.torch import load_file

    path = _weights_file(folder)
    with _explained(path):
        tensors = load_file(str(path), device="cpu")
    return {key: value.float() if value.is_floating_point() else value for key, value in tensors.items()}


def read_shapes(folder: Path) -> dict[str, tuple[str, tuple[int, ...]]]:
    """What model.safetensors holds without its numbers: key -> (stored dtype such as "F16", shape)."""
    from safetensors import safe_open

    path = _weights_file(folder)
    with _explained(path), safe_open(str(path), framework="pt") as file:
        slices = {key: file.get_slice(key) for key in file.keys()}  # noqa: SIM118 - no mapping
        return {key: (found.get_dtype(), tuple(found.get_shape())) for key, found in slices.items()}


def _check_room(cls: type[nn.Module], arguments: dict[str, Any], folder: Path) -> None:
    """Refuse a configuration of another network than the weights are of, before it takes memory without end."""
    shapes = [shape for _, shape in read_shapes(folder).values()]
    largest = max([_USUAL, len(shapes), *(max(shape, default=0) for shape in shapes)])
    numbers = [n for n in _whole_numbers(arguments) if abs(n) > largest]
    if numbers:
        raise ModelFormatError(
            f"{folder / CONFIG} has the number {numbers[0]}, larger than any size in {WEIGHTS} ({largest}); {_AGAIN}"
        )
    try:
        with torch.device("meta"), _Unfilled():  # without memory for the numbers
            wanted = sum(value.numel() for value in cls(**arguments).state_dict().values())
    except Exception:  # refused again, and explained, where the network is built
        return
    held = sum(math.prod(shape) for shape in shapes)
    if wanted > 2 * held + _USUAL:
        raise ModelFormatError(
            f"{folder / CONFIG} describes a network of {wanted} numbers, {folder / WEIGHTS} holds {held}. Weights and "
            "configuration must come from the same save"
        )


class _Unfilled(TorchFunctionMode):
    """Leaves out what fills weights with random numbers: without memory that takes torch five seconds of imports."""

    def __torch_function__(self, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        kwargs = kwargs or {}
        if getattr(func, "__module__", "") == "torch.nn.init" or getattr(func, "__name__", "") in _RANDOM:
            return args[0] if args else kwargs["tensor"]
        return func(*args, **kwargs)


def _whole_numbers(value: Any) -> Iterator[int]:
    if isinstance(value, int) and not isinstance(value, bool):
        yield value
    elif isinstance(value, (list, tuple, dict)):
        for item in value.values() if isinstance(value, dict) else value:
            yield from _whole_numbers(item)


def _weights_file(folder: Path) -> Path:
    path = folder / WEIGHTS
    if path.is_file():
        _check_content(path)
        return path
    pickles = [name for name in _PICKLES if (folder / name).exists()]
    if pickles:
        raise ModelFormatError(
            f"{folder} holds {pickles[0]} but no {WEIGHTS}; limnet never opens pickled weights, they can run code. "
            "Convert a RITM or XMem checkpoint with `limnet convert`"
        )
    raise MissingFileError(f"{path} is missing; {_AGAIN}")


@contextlib.contextmanager
def _explained(path: Path) -> Iterator[None]:
    from safetensors import SafetensorError

    try:
        yield
    except (SafetensorError, ValueError, KeyError, RuntimeError) as error:
        raise ModelFormatError(
            f"{path} is truncated or damaged ({error}); {path.stat().st_size} bytes. Download or save the model again"
        ) from error
    except OSError as error:
        raise ModelFormatError(f"{path} cannot be read ({error})") from error


def _check_content(path: Path) -> None:
    """Look at the first bytes only: a safetensors file is a length (8 bytes) and then a JSON header."""
    size = path.stat().st_size
    with path.open("rb") as file:
        head = file.read(262)
    header = head[8:9] == b"{"
    if not header and (head[:1] == b"\x80" or head[:4] == b"PK\x03\x04" or head[257:] == b"ustar"):
        raise ModelFormatError(
            f"{path} is a pickle (torch.save), not a safetensors file; it was not opened, since a pickle can run code. "
            "Convert a RITM or XMem checkpoint with `limnet convert`, or get the model from its author as safetensors"
        )
    if not header or int.from_bytes(head[:8], "little") > size - 8:
        raise ModelFormatError(
            f"{path} ({size} bytes) is no complete safetensors file: damaged, truncated or of another format. "
            "Download or save the model again"
        )


def misfits(expected: Mapping[str, Tensor], found: Mapping[str, Tensor]) -> list[str]:
    """What keeps tensors from being loaded into a network (also of device "meta"), in words; empty when they fit."""
    problems = [f"{key} is missing" for key in expected if key not in found]
    problems += [f"{key} is unknown" for key in found if key not in expected]
    for key in (k for k in expected if k in found):
        want, have = expected[key], found[key]
        if have.shape != want.shape:
            problems.append(f"{key} has shape {tuple(have.shape)} instead of {tuple(want.shape)}")
        elif have.is_floating_point() != want.is_floating_point():
            problems.append(f"{key} has dtype {have.dtype} instead of {want.dtype}")
        elif have.is_floating_point() and not bool(torch.isfinite(have).all()):
            problems.append(f"{key} holds NaN or infinite values")
    return problems


def some(items: Any) -> str:
    """The first few of some names or problems, and how many more there are."""
    names = [str(item) for item in items]
    return ", ".join(names[:5]) + (f" and {len(names) - 5} more" if len(names) > 5 else "")


def _fill(module: nn.Module, tensors: dict[str, Tensor], path: Path) -> None:
    if problems := misfits(module.state_dict(), tensors):
        raise ModelFormatError(
            f"{path} does not fit {type(module).__name__} as {CONFIG} describes it: {some(problems)}. Weights and "
            "configuration must come from the same save"
        )
    module.load_state_dict(tensors, strict=True)


def _stored(key: str, value: Tensor, half: bool) -> Tensor:
    value = value.detach().to("cpu")
    if not value.is_floating_point():
        return value.contiguous().clone()
    if not bool(torch.isfinite(value).all()):
        raise InputError(
            f"weight {key} holds NaN or infinite values; the network cannot be saved. Did training diverge?"
        )
    value = value.float()
    if half and value.ndim >= 2 and float(value.abs().max() if value.numel() else 0.0) < torch.finfo(torch.float16).max:
        value = value.half()
    return value.contiguous().clone()


def plain_json(value: Any, what: str) -> dict[str, Any]:
    """A dict as it will come back from JSON (tuples become lists); InputError for what JSON cannot hold."""
    try:
        plain = json.loads(json.dumps(value, allow_nan=False))
    except (TypeError, ValueError) as error:
        raise InputError(
            f"{what} is not plain JSON ({error}); use finite numbers, strings, lists, dicts and None"
        ) from error
    if not isinstance(plain, dict):
        raise InputError(f"{what} is a {type(value).__name__}; a dict is needed")
    return plain


def read_object(path: Path, hint: str) -> dict[str, Any]:
    """Read a JSON object that limnet wrote; `hint` says what to do when it is missing.

    ModelFormatError if it is too large, not UTF-8, not JSON or not an object, or its `format_version` is missing, no
    positive integer, or newer than `FORMAT_VERSION`.
    """
    try:
        size = path.stat().st_size
        if size > _LIMIT:
            raise ModelFormatError(f"{path} is {size} bytes; at most {_LIMIT} are expected. Not a limnet file")
        text = path.read_bytes().decode("utf-8")
        found = json.loads(text, parse_constant=_refuse_constant)
    except (FileNotFoundError, NotADirectoryError) as error:
        raise MissingFileError(f"{path} is missing; {hint}") from error
    except IsADirectoryError as error:
        raise ModelFormatError(f"{path} is a folder; a JSON file is expected") from error
    except ModelFormatError:
        raise
    except (ValueError, RecursionError) as error:
        raise ModelFormatError(f"{path} is not readable as JSON ({error}); get the model again") from error
    if not isinstance(found, dict):
        raise ModelFormatError(f"{path} holds a JSON {type(found).__name__}; an object {{...}} is expected")
    version = found.get("format_version")
    if not isinstance(version, int) or isinstance(version, bool) or version < 1:
        raise ModelFormatError(
            f"{path} has format_version {version!r}; a whole number from 1 to {FORMAT_VERSION} is expected. "
            "Not written by limnet, or damaged"
        )
    if version > FORMAT_VERSION:
        raise ModelFormatError(
            f"{path} has format version {version}, written by limnet {found.get('limnet_version', 'unknown')}; "
            f"limnet {__version__} reads up to version {FORMAT_VERSION}. Upgrade: pip install --upgrade limnet"
        )
    return found


def write_object(path: Path, content: Mapping[str, Any]) -> None:
    """Write a JSON object atomically, indented, with a line end, after the versions of format and library."""
    versions = {"format_version": FORMAT_VERSION, "limnet_version": __version__}
    text = json.dumps({**versions, **content}, indent=2, allow_nan=False) + "\n"
    atomic_write(path, lambda temporary: temporary.write_text(text, encoding="utf-8"))


def _refuse_constant(name: str) -> float:
    raise ValueError(f"{name} is not allowed")


def fit_arguments(cls: type, config: Any, where: str) -> dict[str, Any]:
    """Check and convert the JSON arguments of a constructor by its annotations; `where` names the file.

    JSON lists become tuples where the annotation says so. Numbers must be numbers (true is not 1), and whole where an
    int is wanted. Raises ModelFormatError for unknown or missing keys, or a value of the wrong type.
    """
    if not isinstance(config, dict):
        raise ModelFormatError(f'{where}: "config" is a {type(config).__name__}; an object of arguments is expected')
    signature = inspect.signature(cls)
    try:
        signature.bind(**config)
    except TypeError as error:
        raise ModelFormatError(
            f"{where}: {cls.__name__} {error}; allowed: {', '.join(signature.parameters)}. "
            "The model may need a newer limnet: pip install --upgrade limnet"
        ) from error
    try:
        hints = typing.get_type_hints(cls.__init__)  # type: ignore[misc]
    except NameError:  # annotations that exist for type checkers only: nothing to hold the values to
        hints = {}
    what = f"{where}: {cls.__name__}"
    return {name: fit_value(value, hints.get(name, Any), f"{what} {name}") for name, value in config.items()}


def fit_value(value: Any, hint: Any, what: str) -> Any:
    """A value from JSON as the annotation has it; ModelFormatError if it is of another type."""
    kind, parts = typing.get_origin(hint) or hint, typing.get_args(hint)
    fits = kind is Any or not isinstance(kind, type)
    if kind is typing.Literal:
        fits = any(value == part and type(value) is type(part) for part in parts)
    elif kind in (typing.Union, types.UnionType):
        fits = False
        for part in parts:
            with contextlib.suppress(ModelFormatError):
                return fit_value(value, part, what)
    elif kind in (tuple, list, collections.abc.Sequence):
        if isinstance(value, list):
            items = [fit_value(item, parts[0] if parts else Any, what) for item in value]
            return items if kind is list else tuple(items)
    elif not fits:
        accepted = (int, float) if kind is float else kind
        fits = isinstance(value, bool) == (kind is bool) and isinstance(value, accepted)
    if fits:
        return value
    name = hint.__name__ if isinstance(hint, type) and not parts else str(hint).replace("typing.", "")
    raise ModelFormatError(f"{what} is {str(value)[:80]!r} ({type(value).__name__}); expected {name}")
