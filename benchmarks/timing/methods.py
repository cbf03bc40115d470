"""The table of methods that are timed, and what each has to offer."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from importlib import import_module
from importlib.util import find_spec
from typing import NamedTuple, Protocol, runtime_checkable

from benchmarks.timing.scene import Scene
from limnet.errors import InputError

OPEN = "open a volume"
ENCODE = "encode a slice"
FIRST = "first click"
LATER = "later click"
SLICE_FIRST = "slice, first round"
SLICE_LATER = "slice, later round"
ROUND_FIRST = "100 slices, first round"
ROUND_LATER = "100 slices, later round"
PARTS = (OPEN, ENCODE, FIRST, LATER, SLICE_FIRST, SLICE_LATER, ROUND_FIRST, ROUND_LATER)
"""What is timed, in seconds; a method has those that it knows.

The rounds are put together from a click and 99 slices, except where a method answers a click with a whole volume.
"""

Samples = dict[str, list[float]]


class Timed(Protocol):
    """A method to time, made once in a process for each precision."""

    def lap(self, scene: Scene) -> Samples:
        """Use the method once, from opening the volume on: part -> seconds of everything that was timed."""
        ...


@runtime_checkable
class Held(Protocol):
    """A method whose memory can be looked at."""

    def stages(self, scene: Scene) -> Iterator[str]:
        """Yield the name of each stage once it is done, and keep all that the method keeps then."""
        ...


class MethodEntry(NamedTuple):
    """Where a method is defined.

    Attributes:
        place: "module:function" with `function(size, precision, model, device) -> Timed`.
        title: what it is, for reports.
        heavy: slow, so that it runs on few slices and with the largest number of threads only.
        needs: (module, package) that must be installed, if any.
    """

    place: str
    title: str
    heavy: bool = False
    needs: tuple[str, str] | None = None


_OURS = "benchmarks.timing.limnet_methods"
_REFERENCE = "benchmarks.timing.reference_methods"
_OUTSIDE = "benchmarks.timing.outside_methods"

METHODS: dict[str, MethodEntry] = {
    "tiny": MethodEntry(f"{_OURS}:tiny", "the model as it works: windows that follow the object"),
    "tiny-whole": MethodEntry(f"{_OURS}:tiny_whole", "the same networks on whole slices", heavy=True),
    "base": MethodEntry(f"{_OURS}:base", "HRNet-W32 and XMem in limnet, image halves kept; random weights", heavy=True),
    "ritm-h18s": MethodEntry(f"{_REFERENCE}:ritm_h18s", "RITM HRNet-18s, everything computed at every click"),
    "ritm-h32": MethodEntry(f"{_REFERENCE}:ritm_h32", "RITM HRNet-32, everything computed at every click", heavy=True),
    "xmem": MethodEntry(f"{_REFERENCE}:xmem", "XMem, everything computed in every sweep", heavy=True),
    "scribbleprompt": MethodEntry(f"{_OUTSIDE}:scribbleprompt", "shape of ScribblePrompt-UNet, 128 x 128 pixels"),
    "sam2-video": MethodEntry(
        f"{_OUTSIDE}:sam2_video", "SAM 2.1 tiny, 1024 x 1024 pixels", heavy=True, needs=("transformers", "transformers")
    ),
    "nninteractive": MethodEntry(
        f"{_OUTSIDE}:nninteractive",
        "network of nnInteractive: one pass over 192 x 192 x 192 voxels, timed on 1/8 of them and multiplied",
        heavy=True,
        needs=("dynamic_network_architectures", "dynamic-network-architectures"),
    ),
}
"""name -> method; the first one is what others are compared with."""


def missing(name: str) -> str | None:
    """Why a method cannot be timed here; None if it can.

    Raises:
        InputError: no such method.
    """
    needs = entry_of(name).needs
    if needs is None or find_spec(needs[0]) is not None:
        return None
    return f"{needs[0]} is not installed (pip install {needs[1]})"


def build(name: str, size: int, precision: str, model: str = "limnet-tiny", device: str = "cpu") -> Timed:
    """A method ready to run.

    Args:
        name: key of `METHODS`.
        size: side of a slice in pixels.
        precision: "fp32" or "bf16".
        model: zoo name, model folder or Hub id behind "tiny".
        device: where to compute.

    Raises:
        InputError: no such method.
        ImportError: its package is not installed.
    """
    module, _, function = entry_of(name).place.partition(":")
    found: Timed = getattr(import_module(module), function)(size, precision, model, device)
    return found


def entry_of(name: str, table: Mapping[str, MethodEntry] = METHODS) -> MethodEntry:
    """Entry of a method.

    Raises:
        InputError: no such method.
    """
    if name not in table:
        raise InputError(f"method {name!r} is unknown; there are {', '.join(table)}")
    return table[name]
