"""What is timed: limnet itself, its references run the reference way, and shapes of other tools.

A method is made once a process and precision: a function that uses it once on a scene, from opening the volume on, and
gives the seconds of everything that was timed, by part. All weights but those of the model that is asked about are
random.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import replace
from functools import lru_cache, partial
from importlib import import_module
from typing import Any, NamedTuple

import numpy as np
import torch
import torch.nn.functional as functional
from numpy.typing import NDArray
from torch import Tensor, nn

from benchmarks.baselines.outside import SESSIONS, Sam2Video, Sam2VideoSession
from benchmarks.baselines.zoom import PixelClick, click_disks
from benchmarks.core.rounds import loaded
from limnet.image.slice_view import SliceView
from limnet.image.volume import Volume
from limnet.interaction.networks.hrnet import HRNetOCR
from limnet.propagation.memory import MemoryConfig
from limnet.propagation.networks.xmem import XMem
from limnet.propagation.stream import Stream
from limnet.quality.networks.resnet import ResNetQuality
from limnet.segmenter import InteractiveSegmenter

OPEN, FIRST, LATER, OTHER = "open a volume", "first click", "later click", "click on another slice"
SLICE_FIRST, SLICE_LATER = "slice, first round", "slice, later round"
ROUND_FIRST, ROUND_LATER = "100 slices, first round", "100 slices, later round"
SEED = 0  # of everything random in what is timed: noise of the image, weights that were not trained

Samples = dict[str, list[float]]


class Scene(NamedTuple):
    """An image, int16 like HU, and its only object, bool (D, H, W)."""

    volume: Volume
    truth: NDArray[np.bool_]


@lru_cache(maxsize=4)
def scene(size: int, slices: int) -> Scene:
    """An ellipsoid a quarter of the slice wide, on every slice, in a noisy body; (slices, size, size) voxels."""
    y, x = np.ogrid[:size, :size]
    right, down = (x - size / 2) / size, (y - size / 2) / size
    body = np.where((right / 0.45) ** 2 + (down / 0.4) ** 2 < 1, -20.0, -900.0)
    ring = (right / 0.13) ** 2 + (down / 0.11) ** 2
    random = np.random.default_rng(SEED)
    image, truth = np.empty((slices, size, size), np.int16), np.empty((slices, size, size), bool)
    for z in range(slices):
        truth[z] = ring < 1 - ((z - (slices - 1) / 2) / slices / 0.6) ** 2
        image[z] = body + 120.0 * truth[z] + random.normal(0, 12, (size, size))
    return Scene(Volume.from_array(image, (3.0, 0.8, 0.8)), truth)


def seconds(work: Callable[[], object], device: str = "cpu") -> float:
    """Wall time of one call, everything it started on the device included.

    `torch.utils.benchmark.Timer` runs its work several times; a click is one of its kind: the next one finds caches.
    """
    finish = torch.cuda.synchronize if torch.device(device).type == "cuda" else lambda: None
    finish()
    start = time.perf_counter()
    work()
    finish()
    return time.perf_counter() - start


@contextmanager
def running(precision: str, device: str = "cpu") -> Iterator[None]:
    """Inference mode; "bf16" computes in bfloat16 where torch's autocast does."""
    kind = torch.device(device).type
    with torch.inference_mode(), torch.autocast(kind, torch.bfloat16, enabled=precision == "bf16"):
        yield


class LimnetMethod:
    """limnet through its public face: two rounds on a fresh case; no pass ends early.

    `whole` is the side of slices in pixels, for networks that see whole ones; 0 leaves crops that follow the object.
    `clock` gives the seconds of a piece of work, or what else there is to measure of it.
    """

    def __init__(self, segmenter: InteractiveSegmenter, whole: int = 0, clock: Callable[..., float] = seconds) -> None:
        self.segmenter, self.whole, self.clock = segmenter, whole, clock

    def __call__(self, scene: Scene) -> Samples:
        """Two rounds; the first click in the middle, later ones two pixels inside the object's borders."""
        volume, truth = scene
        depth, middle, other = len(truth), len(truth) // 2, len(truth) // 4
        found: Samples = {}
        cases: list[Any] = []

        def timed(part: str, work: Callable[[], object], share: int = 1) -> None:
            found.setdefault(part, []).append(self.clock(work, str(self.segmenter.device)) / max(share, 1))

        y, x = _centre(truth[middle])
        row, column = np.flatnonzero(truth[middle, y]), np.flatnonzero(truth[middle, :, x])
        with whole_slices(self.segmenter, self.whole) as settings:
            timed(OPEN, lambda: cases.append(self.segmenter.open(volume, settings=settings)))
            case = cases[0]
            timed(FIRST, lambda: case.click((middle, y, x), propagate=False))
            for place in ((y, int(row[0]) + 2), (int(column[0]) + 2, x), (y, int(row[-1]) - 2)):
                timed(LATER, lambda p=place: case.click((middle, *p), propagate=False))  # type: ignore[misc]
            timed(SLICE_FIRST, case.propagate, depth - 1)
            timed(OTHER, lambda: case.click((other, *_centre(truth[other])), propagate=False))
            timed(SLICE_LATER, case.propagate, depth - 2)
        return found


@contextmanager
def whole_slices(segmenter: InteractiveSegmenter, size: int) -> Iterator[Any]:
    """Settings of passes over all slices; with a size, networks see whole slices of that many pixels meanwhile."""
    settings = replace(segmenter.settings, scope="volume", stop_after_empty=0)
    settings = replace(settings, follow_window=not size, short_side=0)
    networks = (segmenter.interaction, segmenter.propagation) if size else ()
    before = [network.__dict__.get("window_size") for network in networks]
    for network in networks:
        network.window_size = size  # type: ignore[assignment]
    try:
        yield settings
    finally:
        for network, value in zip(networks, before, strict=True):
            del network.window_size
            if value is not None:
                network.window_size = value


def ritm(network: HRNetOCR, precision: str, device: str, scene: Scene) -> Samples:
    """RITM as its evaluation runs it: the whole network on the whole slice at every click, without a mirrored pass."""
    view, network = SliceView(scene.volume), network.to(device)
    middle, size = len(view) // 2, view.shape
    clicks: list[PixelClick] = []
    previous = torch.zeros(1, 1, *size, device=device)
    times = []
    for number in range(4):
        clicks.append(PixelClick(size[0] / 2 + 2 * number, size[1] / 2))

        def click() -> None:
            nonlocal previous
            disks = click_disks(clicks, size, network.click_radius)
            image = _three_channels(view.image(middle)).to(device)
            with running(precision, device):
                logits = network(image, torch.cat([previous, disks.to(device)], 1))["instances"]
                previous = torch.sigmoid(logits.float())

        times.append(seconds(click, device))
    return {FIRST: times[:1], LATER: times[1:]}


def xmem(network: XMem, precision: str, device: str, scene: Scene) -> Samples:
    """XMem as its evaluation runs it: `both_ways`; a later round is the same work again."""
    network = network.to(device)
    took = seconds(lambda: both_ways(network, precision, device, scene), device) / max(len(scene.truth) - 1, 1)
    return {SLICE_FIRST: [took], SLICE_LATER: [took]}


def both_ways(network: XMem, precision: str, device: str, scene: Scene) -> list[Tensor]:
    """Probabilities of every slice but the middle one, (2, H, W) each, from that to both ends.

    Every image is encoded in every pass, every fifth slice is remembered, the 30 nearest elements are read.
    """
    view, middle, results = SliceView(scene.volume), len(scene.truth) // 2, []
    mask = torch.from_numpy(scene.truth[middle].astype(np.float32))[None].to(device)
    for indices in (range(middle + 1, len(view)), range(middle - 1, -1, -1)):
        stream = Stream(network, 5, MemoryConfig(top_k=30), permanent_prompts=False)
        with running(precision, device):
            stream.step(_three_channels(view.image(middle))[0].to(device), mask)
            for index in indices:
                results.append(stream.step(_three_channels(view.image(index))[0].to(device)).cpu())
    return results


def passes(
    network: nn.Module, shape: tuple[int, ...], precision: str, device: str, scene: Scene, clicks: int = 4
) -> Samples:
    """Clicks that are each one pass of a network on random input of a shape; the scene is not looked at."""

    def click() -> None:
        with running(precision, device):
            network(torch.rand(shape, device=device))

    network.eval().to(device)
    taken = [seconds(click, device) for _ in range(clicks)]
    return {FIRST: taken[:1], LATER: taken[1:]}


class ScribblePromptShape(nn.Module):
    """U-Net of the size of ScribblePrompt-UNet: five levels, 192 channels, one convolution a block, no normalisation.

    H. Wong et al., "ScribblePrompt", ECCV 2024: 4.0 M parameters, 128 x 128 pixels; image, box, positive and negative
    clicks, logits so far.
    """

    def __init__(self, channels: int = 192, levels: int = 5, inputs: int = 5) -> None:
        super().__init__()

        def block(before: int) -> nn.Sequential:
            return nn.Sequential(nn.Conv2d(before, channels, 3, padding=1), nn.PReLU())

        self.down = nn.ModuleList(block(width) for width in (inputs, *[channels] * (levels - 1)))
        self.up = nn.ModuleList(block(2 * channels) for _ in range(levels - 1))
        self.head = nn.Conv2d(channels, 1, 1)

    def forward(self, x: Tensor) -> Tensor:
        """(B, inputs, H, W) -> logits (B, 1, H, W); H and W divisible by 2 ** (levels - 1)."""
        kept: list[Tensor] = []
        for level, block in enumerate(self.down):
            x = block(functional.max_pool2d(x, 2) if level else x)
            kept.append(x)
        kept.pop()
        for block in self.up:
            x = functional.interpolate(x, scale_factor=2.0, mode="bilinear")
            x = block(torch.cat([x, kept.pop()], 1))
        return self.head(x)


def sam2(model: Any, precision: str, device: str, scene: Scene) -> Samples:
    """SAM 2 on slices as a video: points on the middle slice, then both directions."""
    session = Sam2VideoSession(model.eval().to(device), Sam2Video.needed(SESSIONS), device, scene.volume, 0)
    middle = len(scene.truth) // 2
    y, x = _centre(scene.truth[middle])
    with running(precision, device):
        found: Samples = {OPEN: [seconds(lambda: session.open(SliceView(scene.volume)), device)]}
        times = [seconds(lambda k=k: session.prompt((middle, y, x + 2 * k), True), device) for k in range(4)]  # type: ignore[misc]
        found |= {FIRST: times[:1], LATER: times[1:]}
        for part in (SLICE_FIRST, SLICE_LATER):
            found[part] = [seconds(session.propagate, device) / max(len(scene.truth) - 1, 1)]
    return found


def sam2_model() -> Any:
    """The package's default (tiny) model with random weights."""
    package = Sam2Video.needed()
    return _seeded(lambda: package.Sam2VideoModel(package.Sam2VideoConfig()))


def nninteractive(network: nn.Module, precision: str, device: str, scene: Scene) -> Samples:
    """One pass over 192^3 voxels (zooming out and refining cost more), timed on an eighth: a click is a whole round."""
    taken = [8 * passes(network, (1, 8, 96, 96, 96), precision, device, scene, clicks=1)[FIRST][0]]
    return {FIRST: taken, LATER: taken, ROUND_FIRST: taken, ROUND_LATER: taken}


def nninteractive_network() -> nn.Module:
    """The network of nnInteractive with random weights."""
    unet = import_module("dynamic_network_architectures.architectures.unet")
    return _seeded(
        lambda: unet.ResidualEncoderUNet(
            input_channels=8,
            n_stages=6,
            features_per_stage=(32, 64, 128, 256, 320, 320),
            conv_op=nn.Conv3d,
            kernel_sizes=3,
            strides=(1, 2, 2, 2, 2, 2),
            n_blocks_per_stage=(1, 3, 4, 6, 6, 6),
            num_classes=2,
            n_conv_per_stage_decoder=(1, 1, 1, 1, 1),
            conv_bias=True,
            norm_op=nn.InstanceNorm3d,
            norm_op_kwargs={"eps": 1e-5, "affine": True},
            nonlin=nn.LeakyReLU,
            nonlin_kwargs={"inplace": True},
        )
    )


def base_segmenter(precision: str, device: str = "cpu") -> InteractiveSegmenter:
    """The networks of the paper in limnet, with random weights."""
    parts = (_hrnet("w32"), _xmem(), _seeded(ResNetQuality).eval())
    return InteractiveSegmenter(*parts, device=device, precision=precision, name="limnet-base, random")


@lru_cache(maxsize=4)
def _hrnet(preset: str) -> HRNetOCR:
    return _seeded(lambda: HRNetOCR.preset(preset)).eval()


@lru_cache(maxsize=1)
def _xmem() -> XMem:
    return _seeded(XMem).eval()


def _seeded(make: Callable[[], Any]) -> Any:
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(SEED)
        return make()


def _three_channels(image: NDArray[np.float32]) -> Tensor:
    """(1, 3, H, W) of a slice (1 or 3, H, W)."""
    return torch.from_numpy(np.ascontiguousarray(image))[None].expand(1, 3, -1, -1)


def _centre(mask: NDArray[np.bool_]) -> tuple[int, int]:
    y, x = np.argwhere(mask).mean(0).round()
    return int(y), int(x)


class Method(NamedTuple):
    """How a method is made, from (size, precision, model, device), and what it is.

    `heavy` ones are slow: they run on few slices and with the largest number of threads only.
    """

    make: Callable[[int, str, str, str], Callable[[Scene], Samples]]
    title: str
    heavy: bool = False


METHODS: dict[str, Method] = {  # s, p, m, d: size, precision, model, device
    "tiny": Method(lambda s, p, m, d: LimnetMethod(loaded(m, p, d)), "the model as it works, crops follow the object"),
    "tiny-whole": Method(lambda s, p, m, d: LimnetMethod(loaded(m, p, d), s), "its networks on whole slices", True),
    "base": Method(
        lambda s, p, m, d: LimnetMethod(base_segmenter(p, d)),
        "HRNet-W32 and XMem in limnet, image halves kept; random weights",
        heavy=True,
    ),
    "ritm-h18s": Method(lambda s, p, m, d: partial(ritm, _hrnet("w18-small"), p, d), "RITM HRNet-18s, nothing is kept"),
    "ritm-h32": Method(lambda s, p, m, d: partial(ritm, _hrnet("w32"), p, d), "RITM HRNet-32, nothing is kept", True),
    "xmem": Method(lambda s, p, m, d: partial(xmem, _xmem(), p, d), "XMem, everything computed in every pass", True),
    "scribbleprompt": Method(
        lambda s, p, m, d: partial(passes, _seeded(ScribblePromptShape), (1, 5, 128, 128), p, d),
        "shape of ScribblePrompt-UNet, 128 x 128 pixels",
    ),
    "sam2-video": Method(
        lambda s, p, m, d: partial(sam2, sam2_model(), p, d),
        "SAM 2.1 tiny, 1024 x 1024 pixels; needs transformers",
        heavy=True,
    ),
    "nninteractive": Method(
        lambda s, p, m, d: partial(nninteractive, nninteractive_network(), p, d),
        "network of nnInteractive, one pass over 192 x 192 x 192 voxels; needs dynamic-network-architectures",
        heavy=True,
    ),
}
"""name -> method; the first one is what others are compared with."""
