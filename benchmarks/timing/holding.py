"""What a method holds after its rounds on a volume of some depth; one depth per process."""

from __future__ import annotations

import tracemalloc
from dataclasses import asdict, dataclass
from typing import Any

import torch

from benchmarks.timing.memory import forget_peak, memory_now, peak_memory
from benchmarks.timing.methods import Held, build
from benchmarks.timing.scene import Scene, scene
from limnet.errors import InputError

Row = dict[str, Any]
_WARM = 3


@dataclass(frozen=True)
class HoldJob:
    """One volume, in a process of its own.

    Attributes:
        method: key of `METHODS`.
        size: side of a slice in pixels.
        slices: depth of the volume.
        repeat: number of the run.
        precision: "fp32", "bf16" or "auto".
        threads: of torch.
        model: zoo name, model folder or Hub id behind "tiny".
        device: where to compute.
    """

    method: str
    size: int
    slices: int
    repeat: int = 0
    precision: str = "auto"
    threads: int = 1
    model: str = "limnet-tiny"
    device: str = "cpu"

    def key(self) -> Row:
        """What names the job in kept rows."""
        return {"kind": "memory", **{k: v for k, v in asdict(self).items() if k not in ("model", "device")}}


def run_hold(job: HoldJob) -> Row:
    """Row of a job, measured in this process.

    Raises:
        InputError: the memory of this method cannot be looked at.
    """
    torch.set_num_threads(job.threads)
    method = build(job.method, job.size, job.precision, job.model, job.device)
    if not isinstance(method, Held):
        raise InputError(f"the memory of {job.method!r} is not measured; limnet's own methods' is: tiny, base")
    for _ in method.stages(scene(job.size, min(_WARM, job.slices))):
        pass  # what is made once belongs to the start
    return {**job.key(), **held(method, scene(job.size, job.slices))}


def held(method: Held, where: Scene) -> Row:
    """What a method holds beyond what there was before, the image itself included in that.

    Args:
        method: to look at.
        where: its volume.

    Returns:
        "stages": name -> bytes (resident, python, tensors); "peak": most resident bytes above the start, None where
        the system does not tell; "image": bytes of the volume.
    """
    tracing = tracemalloc.is_tracing()
    if not tracing:
        tracemalloc.start()
    try:
        start, counted = memory_now(), forget_peak()
        stages = {name: memory_now().since(start) for name in method.stages(where)}
        peak = peak_memory() - start.resident if counted else None
    finally:
        if not tracing:
            tracemalloc.stop()
    return {"stages": stages, "peak": peak, "image": int(where.volume.array.nbytes)}
