"""What a process holds: resident memory, objects of Python and NumPy, tensors; and how it grows with the slices."""

from __future__ import annotations

import gc
import resource
import sys
import tracemalloc
from collections.abc import Sequence
from pathlib import Path
from typing import NamedTuple

import numpy as np
import torch

from limnet.errors import InputError

_STATUS = Path("/proc/self/status")


class Memory(NamedTuple):
    """Bytes held at one moment.

    Attributes:
        resident: of the whole process, shared libraries included.
        python: objects of Python and arrays of NumPy since `tracemalloc.start()`; 0 where that was not called.
        tensors: storages of all tensors that are alive, each once, on any device.
    """

    resident: int
    python: int
    tensors: int

    def since(self, before: Memory) -> dict[str, int]:
        """By how much each is above an earlier moment."""
        return {name: now - then for name, now, then in zip(self._fields, self, before, strict=True)}


def memory_now() -> Memory:
    """What this process holds after collecting garbage."""
    gc.collect()
    python = tracemalloc.get_traced_memory()[0] if tracemalloc.is_tracing() else 0
    return Memory(resident(), python, tensor_bytes())


def resident() -> int:
    """Resident memory in bytes; where the system does not tell, the most there ever was."""
    return _status("VmRSS") or _most_ever()


def peak_memory() -> int:
    """Most memory this process has held, in bytes; on Linux since `forget_peak()`."""
    return _status("VmHWM") or _most_ever()


def forget_peak() -> bool:
    """Count the peak from now on; False where the system cannot do that."""
    try:
        Path("/proc/self/clear_refs").write_text("5")
    except OSError:
        return False
    return True


def tensor_bytes() -> int:
    """Bytes of the storages of all tensors alive; views of one storage count once."""
    found: dict[tuple[str, int], int] = {}
    for thing in gc.get_objects():
        if issubclass(type(thing), torch.Tensor):
            try:
                storage = thing.untyped_storage()
                found[str(thing.device), storage.data_ptr()] = storage.nbytes()
            except (RuntimeError, NotImplementedError):  # a tensor without storage
                continue
    return sum(found.values())


class Growth(NamedTuple):
    """How memory depends on the number of slices.

    Attributes:
        per_100: bytes for every 100 slices more, over all points (least squares).
        first_100: the same between the two smallest points.
        last_100: the same between the two largest points; below `first_100` where something is bounded.
        times: the largest point's bytes, divided by the smallest one's; NaN where that holds nothing.
        slices: factor between both numbers of slices: `times` of something that grows in proportion.
    """

    per_100: float
    first_100: float
    last_100: float
    times: float
    slices: float


def growth(points: Sequence[tuple[int, float]]) -> Growth:
    """Growth from measured points.

    Args:
        points: (slices, bytes), in any order; several of one number of slices count by their median.

    Raises:
        InputError: fewer than two numbers of slices.
    """
    numbers = sorted({slices for slices, _ in points})
    if len(numbers) < 2:
        raise InputError(f"growth needs at least two numbers of slices; got {numbers}")
    values = [float(np.median([size for slices, size in points if slices == number])) for number in numbers]
    slope = float(np.polyfit(numbers, values, 1)[0])
    steps = np.diff(values) / np.diff(numbers)
    times = values[-1] / values[0] if values[0] > 0 else float("nan")
    return Growth(100 * slope, 100 * float(steps[0]), 100 * float(steps[-1]), times, numbers[-1] / numbers[0])


def _status(field: str) -> int:
    try:
        lines = _STATUS.read_text().splitlines()
    except OSError:
        return 0
    return next((1024 * int(line.split()[1]) for line in lines if line.startswith(field + ":")), 0)


def _most_ever() -> int:
    unit = 1 if sys.platform == "darwin" else 1024
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * unit
