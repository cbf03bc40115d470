"""RITM and XMem run as their references run them: nothing that was computed once is kept for the next click or sweep.

The networks are limnet's, which equal the references number for number; the weights are random. RITM looks at the whole
slice at its own size, without the mirrored second pass some evaluations add (it would double a click). XMem gets the
mask of the middle slice, remembers every fifth slice, reads the 30 nearest elements, and sweeps to both ends; a later
round is the same work again.
"""

from __future__ import annotations

import numpy as np
import torch
from torch import Tensor

from benchmarks.timing.clock import running, seconds
from benchmarks.timing.limnet_methods import base_propagation, hrnet
from benchmarks.timing.methods import FIRST, LATER, SLICE_FIRST, SLICE_LATER, Samples
from benchmarks.timing.scene import Scene
from limnet.interaction.click_maps import draw_disks
from limnet.interaction.hrnet import HRNetOCR
from limnet.propagation.memory import MemoryConfig
from limnet.propagation.stream import Stream
from limnet.propagation.xmem import XMem
from limnet.slice_view import SliceView

MEMORY_EVERY = 5
TOP_K = 30
_CLICKS = 4


class RitmReference:
    """The whole click network at every click.

    Args:
        network: HRNet with its head.
        precision: "fp32" or "bf16".
        device: where to compute.
    """

    def __init__(self, network: HRNetOCR, precision: str, device: str = "cpu") -> None:
        self.network, self.precision, self.device = network.to(device), precision, device

    def lap(self, scene: Scene) -> Samples:
        """See `benchmarks.timing.methods.Timed`."""
        view = SliceView(scene.volume)
        middle, size = len(view) // 2, view.shape
        points: list[tuple[float, float, float]] = []
        previous = torch.zeros(1, 1, *size, device=self.device)
        times = []
        for number in range(_CLICKS):
            points.append((size[0] / 2 + 2 * number, size[1] / 2, number))

            def click() -> None:
                nonlocal previous
                previous = self._click(view.image(middle), points, previous)

            times.append(seconds(click, self.device))
        return {FIRST: times[:1], LATER: times[1:]}

    def _click(self, image: np.ndarray, points: list[tuple[float, float, float]], previous: Tensor) -> Tensor:
        """Probabilities (1, 1, H, W)."""
        unused = [(-1.0, -1.0, -1.0)] * len(points)
        disks = draw_disks(torch.tensor([[*points, *unused]]), image.shape[-2:], self.network.click_radius)
        pixels = three_channels(image).to(self.device)
        with running(self.precision, self.device):
            logits = self.network(pixels, torch.cat([previous, disks.to(self.device)], 1))["instances"]
            return torch.sigmoid(logits.float())


class XMemReference:
    """Both directions from the middle slice, every image encoded in every sweep.

    Args:
        network: XMem.
        precision: "fp32" or "bf16".
        device: where to compute.
    """

    def __init__(self, network: XMem, precision: str, device: str = "cpu") -> None:
        self.network, self.precision, self.device = network.to(device), precision, device

    def lap(self, scene: Scene) -> Samples:
        """See `benchmarks.timing.methods.Timed`."""
        took = seconds(lambda: self.sweep(scene), self.device) / max(len(scene.truth) - 1, 1)
        return {SLICE_FIRST: [took], SLICE_LATER: [took]}

    def sweep(self, scene: Scene) -> list[Tensor]:
        """Probabilities (2, H, W) of every slice but the middle one, in the order they were computed."""
        view = SliceView(scene.volume)
        middle, results = len(view) // 2, []
        mask = torch.from_numpy(scene.truth[middle].astype(np.float32))[None].to(self.device)
        for indices in (range(middle + 1, len(view)), range(middle - 1, -1, -1)):
            if not len(indices):
                continue
            stream = Stream(self.network, MEMORY_EVERY, MemoryConfig(top_k=TOP_K), permanent_prompts=False)
            with running(self.precision, self.device):
                stream.step(self._image(view, middle), mask)
                results += [stream.step(self._image(view, index)).cpu() for index in indices]
        return results

    def _image(self, view: SliceView, index: int) -> Tensor:
        return three_channels(view.image(index))[0].to(self.device)


def three_channels(image: np.ndarray) -> Tensor:
    """(1, 3, H, W) of a slice (1 or 3, H, W)."""
    return torch.from_numpy(np.ascontiguousarray(image))[None].expand(1, 3, -1, -1)


def ritm_h18s(size: int, precision: str, model: str, device: str) -> RitmReference:
    """RITM with HRNet-18s."""
    return RitmReference(hrnet("w18-small"), precision, device)


def ritm_h32(size: int, precision: str, model: str, device: str) -> RitmReference:
    """RITM with HRNet-32."""
    return RitmReference(hrnet("w32"), precision, device)


def xmem(size: int, precision: str, model: str, device: str) -> XMemReference:
    """XMem."""
    return XMemReference(base_propagation(), precision, device)
