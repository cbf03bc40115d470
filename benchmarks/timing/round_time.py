"""Two whole rounds on a volume, timed in a process of its own, with the most memory they took."""

from __future__ import annotations

from dataclasses import asdict, dataclass
from typing import Any

import torch

from benchmarks.timing.clock import finish, seconds
from benchmarks.timing.memory import peak_memory
from benchmarks.timing.methods import Held, build
from benchmarks.timing.scene import scene
from limnet.errors import InputError

Row = dict[str, Any]
_WARM = 3


@dataclass(frozen=True)
class RoundJob:
    """Both rounds on one volume.

    Attributes:
        method: key of `benchmarks.timing.methods.METHODS` whose stages can be watched: limnet's own.
        size: side of a slice in pixels.
        slices: depth of the volume.
        repeat: number of the run.
        threads: of torch.
        precision: "fp32", "bf16" or "auto".
        model: zoo name, model folder or Hub id behind "tiny".
        device: where to compute.
    """

    method: str
    size: int = 480
    slices: int = 100
    repeat: int = 0
    threads: int = 1
    precision: str = "auto"
    model: str = "limnet-tiny"
    device: str = "cpu"

    def key(self) -> Row:
        """What names the job in kept rows."""
        return {k: v for k, v in asdict(self).items() if k != "model"}


def run_round(job: RoundJob) -> Row:
    """Row of a job, measured in this process.

    Returns:
        Its key, "seconds" (stage -> seconds; rounds include their click), "peak" (most resident bytes of the whole
        process), "device_peak" (most bytes torch had on a GPU; None on a CPU).

    Raises:
        InputError: the method shows no stages.
    """
    torch.set_num_threads(job.threads)
    method = build(job.method, job.size, job.precision, job.model, job.device)
    if not isinstance(method, Held):
        raise InputError(f"rounds of {job.method!r} are not timed; limnet's own methods' are: tiny, tiny-whole, base")
    for _ in method.stages(scene(job.size, min(_WARM, job.slices))):
        pass
    where = scene(job.size, job.slices)
    cuda = torch.device(job.device).type == "cuda"
    if cuda:
        torch.cuda.reset_peak_memory_stats(job.device)
    stages, found = method.stages(where), {}
    while True:
        names: list[str | None] = []
        took = seconds(lambda n=names: n.append(next(stages, None)), job.device)  # type: ignore[misc]
        if names[0] is None:
            break
        found[names[0]] = took
    finish(job.device)
    device_peak = int(torch.cuda.max_memory_allocated(job.device)) if cuda else None
    return {**job.key(), "seconds": found, "peak": peak_memory(), "device_peak": device_peak}
