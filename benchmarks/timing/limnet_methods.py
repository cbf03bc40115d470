"""limnet itself, timed through its public face."""

from __future__ import annotations

from collections.abc import Iterator
from functools import lru_cache

import numpy as np
import torch

from benchmarks.core.studies.play import open_case
from benchmarks.timing.clock import running, seconds
from benchmarks.timing.methods import ENCODE, FIRST, LATER, OPEN, SLICE_FIRST, SLICE_LATER, Samples
from benchmarks.timing.scene import SEED, Scene
from benchmarks.timing.whole_slices import whole_slices
from limnet.case import Case
from limnet.interaction.hrnet import HRNetOCR
from limnet.propagation.xmem import XMem
from limnet.quality.resnet import ResNetQuality
from limnet.segmenter import InteractiveSegmenter

_LATER_CLICKS = 3
_ENCODED = 3  # slices


class LimnetMethod:
    """Two rounds on a fresh case, after single clicks on other fresh cases.

    Args:
        segmenter: the model.
        size: side of a slice in pixels.
        whole: networks see whole slices; otherwise windows as limnet chooses them.
        cases: fresh cases that are clicked, the one of both rounds included.
    """

    def __init__(self, segmenter: InteractiveSegmenter, size: int, whole: bool = False, cases: int = 1) -> None:
        self.segmenter, self.whole, self.size, self.cases = segmenter, whole, size, cases
        self.device = str(segmenter.device)

    def lap(self, scene: Scene) -> Samples:
        """See `benchmarks.timing.methods.Timed`."""
        found: Samples = {OPEN: [], ENCODE: [], FIRST: [], LATER: [], SLICE_FIRST: [], SLICE_LATER: []}
        volume, truth = scene
        depth, middle, last = truth.shape[0], truth.shape[0] // 2, truth.shape[0] // 4
        with whole_slices(self.segmenter, self.size if self.whole else 0) as settings:
            for left in reversed(range(self.cases)):
                cases: list[Case] = []
                found[OPEN].append(
                    seconds(lambda c=cases: c.append(open_case(self.segmenter, volume, settings)), self.device)  # type: ignore[misc]
                )
                self._clicks(cases[0], scene, middle, found)
                if left:
                    continue
                found[SLICE_FIRST].append(seconds(cases[0].propagate, self.device) / max(depth - 1, 1))
                cases[0].click((last, *_inside(scene, last)), propagate=False)
                found[SLICE_LATER].append(seconds(cases[0].propagate, self.device) / max(depth - 2, 1))
            found[ENCODE] += self._encode()
        return found

    def stages(self, scene: Scene) -> Iterator[str]:
        """See `benchmarks.timing.methods.Held`: "open", "first round", "later round"."""
        depth = len(scene.truth)
        with whole_slices(self.segmenter, self.size if self.whole else 0) as settings:
            case = open_case(self.segmenter, scene.volume, settings)
            yield "open"
            for stage, index in (("first round", depth // 2), ("later round", depth // 4)):
                case.click((index, *_inside(scene, index)))
                yield stage

    def _clicks(self, case: Case, scene: Scene, index: int, found: Samples) -> None:
        """The first click in the middle, later ones two pixels inside its left and upper border and so on."""
        y, x = _inside(scene, index)
        found[FIRST].append(seconds(lambda: case.click((index, y, x), propagate=False), self.device))
        row, column = np.flatnonzero(scene.truth[index, y]), np.flatnonzero(scene.truth[index, :, x])
        later = [(y, int(row[0]) + 2), (int(column[0]) + 2, x), (y, int(row[-1]) - 2)]
        for place in later[:_LATER_CLICKS]:
            found[LATER].append(
                seconds(lambda p=place: case.click((index, *p), propagate=False), self.device)  # type: ignore[misc]
            )

    def _encode(self) -> list[float]:
        """Image halves of both networks on one slice or window each."""
        times = []
        networks = (self.segmenter.interaction, self.segmenter.propagation)
        for _ in range(_ENCODED):
            images = []
            for network in networks:
                side = self.size if isinstance(network, XMem) else int(getattr(network, "window_size", 160))
                channels = int(getattr(network, "image_channels", 3))
                images.append(torch.rand(1, channels, side, side, device=self.device))

            def work(images: list[torch.Tensor] = images) -> None:
                with running(self.segmenter.precision, self.device):
                    for network, image in zip(networks, images, strict=True):
                        network.encode_image(image)  # type: ignore[operator]

            times.append(seconds(work, self.device))
        return times


def tiny(size: int, precision: str, model: str, device: str) -> LimnetMethod:
    """The model as it works."""
    return LimnetMethod(_model(model, precision, device), size, cases=4)


def tiny_whole(size: int, precision: str, model: str, device: str) -> LimnetMethod:
    """The model on whole slices."""
    return LimnetMethod(_model(model, precision, device), size, whole=True)


def base(size: int, precision: str, model: str, device: str) -> LimnetMethod:
    """The networks of the paper in limnet: clicks in windows of its size, XMem on whole slices, features kept."""
    return LimnetMethod(base_segmenter(precision, device), size)


@lru_cache(maxsize=4)
def base_segmenter(precision: str, device: str = "cpu") -> InteractiveSegmenter:
    """A segmenter of the base family with random weights; those of all precisions share their networks."""
    return InteractiveSegmenter(
        hrnet("w32"),
        base_propagation(),
        _base_quality(),
        device=device,
        precision=precision,
        name="limnet-base, random",
    )


@lru_cache(maxsize=4)
def hrnet(preset: str) -> HRNetOCR:
    """HRNet with random weights, always the same."""
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(SEED)
        return HRNetOCR.preset(preset).eval()


@lru_cache(maxsize=1)
def base_propagation() -> XMem:
    """XMem with random weights, always the same."""
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(SEED)
        return XMem().eval()


@lru_cache(maxsize=1)
def _base_quality() -> ResNetQuality:
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(SEED)
        return ResNetQuality().eval()


@lru_cache(maxsize=4)
def _model(model: str, precision: str, device: str) -> InteractiveSegmenter:
    return InteractiveSegmenter.from_pretrained(model, precision=precision, device=device)


def _inside(scene: Scene, index: int) -> tuple[int, int]:
    """Middle of the object on a slice."""
    y, x = np.argwhere(scene.truth[index]).mean(0).round()
    return int(y), int(x)
