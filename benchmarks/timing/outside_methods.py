"""Networks of other tools with random weights, as far as their packages are installed; nothing is downloaded."""

from __future__ import annotations

from importlib import import_module
from typing import Any

import numpy as np
import torch
import torch.nn.functional as functional
from torch import Tensor, nn

from benchmarks.timing.clock import running, seconds
from benchmarks.timing.methods import (
    ENCODE,
    FIRST,
    LATER,
    OPEN,
    ROUND_FIRST,
    ROUND_LATER,
    SLICE_FIRST,
    SLICE_LATER,
    Samples,
)
from benchmarks.timing.scene import SEED, Scene
from limnet.slice_view import SliceView

_CLICKS = 3
_SAM2_SIDE = 1024
_PATCH, _TIMED_PATCH = 192, 96


class ScribblePromptShape(nn.Module):
    """U-Net of the size of ScribblePrompt-UNet: five levels, 192 channels, one convolution a block, no normalisation.

    H. Wong et al., "ScribblePrompt", ECCV 2024: 4.0 M parameters, 128 x 128 pixels; image, box, positive and negative
    clicks, logits so far.

    Args:
        channels: of every level.
        levels: of resolution.
        inputs: channels of the input.
    """

    def __init__(self, channels: int = 192, levels: int = 5, inputs: int = 5) -> None:
        super().__init__()
        widths = [inputs, *[channels] * (levels - 1)]
        self.down = nn.ModuleList(_block(width, channels) for width in widths)
        self.up = nn.ModuleList(_block(2 * channels, channels) for _ in range(levels - 1))
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


def _block(inputs: int, outputs: int) -> nn.Sequential:
    return nn.Sequential(nn.Conv2d(inputs, outputs, 3, padding=1), nn.PReLU())


class PassMethod:
    """One pass of a network on random input for every click.

    Args:
        network: gets a tensor.
        shape: of the tensor.
        precision: "fp32" or "bf16".
        device: where to compute.
        times: passes that one click stands for.
        whole: the answer is a whole volume, so that a click is a round.
    """

    def __init__(
        self,
        network: nn.Module,
        shape: tuple[int, ...],
        precision: str,
        device: str = "cpu",
        times: float = 1.0,
        whole: bool = False,
    ) -> None:
        self.network, self.precision, self.device = network.eval().to(device), precision, device
        self.shape, self.times, self.whole = shape, times, whole

    def lap(self, scene: Scene) -> Samples:
        """See `benchmarks.timing.methods.Timed`; the scene is not looked at."""
        taken = [self.times * seconds(self._pass, self.device) for _ in range(1 if self.whole else 1 + _CLICKS)]
        found = {FIRST: taken[:1], LATER: taken[1:] or taken}
        return {**found, ROUND_FIRST: found[FIRST], ROUND_LATER: found[LATER]} if self.whole else found

    def _pass(self) -> None:
        with running(self.precision, self.device):
            self.network(torch.rand(self.shape, device=self.device))


class Sam2Method:
    """SAM 2 on slices as a video: points on the middle slice, then both directions; one image's features are kept.

    Args:
        size: side of a slice in pixels.
        precision: "fp32" or "bf16".
        device: where to compute.
        config: of the model, the package's default (the tiny one) by default.
    """

    def __init__(self, size: int, precision: str, device: str = "cpu", config: Any = None) -> None:
        package = import_module("transformers")
        self.sessions = import_module("transformers.models.sam2_video.modeling_sam2_video")
        with torch.random.fork_rng(devices=[]):
            torch.manual_seed(SEED)
            self.model = package.Sam2VideoModel(config or package.Sam2VideoConfig()).eval().to(device)
        self.size, self.precision, self.device = size, precision, device

    def lap(self, scene: Scene) -> Samples:
        """See `benchmarks.timing.methods.Timed`."""
        depth, middle = len(scene.truth), len(scene.truth) // 2
        opened: list[Any] = []
        found: Samples = {OPEN: [seconds(lambda: opened.append(self._open(scene)), self.device)]}
        session, points = opened[0], []
        times = []
        for number in range(1 + _CLICKS):
            points.append([_SAM2_SIDE / 2 + 8 * number, _SAM2_SIDE / 2])
            times.append(seconds(lambda: self._click(session, middle, points), self.device))
        found |= {FIRST: times[:1], LATER: times[1:]}
        for part in (SLICE_FIRST, SLICE_LATER):
            found[part] = [seconds(lambda: self._sweep(session, middle), self.device) / max(depth - 1, 1)]
        frame = session.get_frame(middle)[None]
        found[ENCODE] = [seconds(lambda: self._encode(frame), self.device)]
        return found

    def _open(self, scene: Scene) -> Any:
        """The video at the model's size, normalised."""
        view = SliceView(scene.volume)
        frames = []
        for index in range(len(view)):
            image = torch.from_numpy(np.ascontiguousarray(view.image(index)))[None].expand(1, 3, -1, -1)
            side = (_SAM2_SIDE, _SAM2_SIDE)
            frames.append((functional.interpolate(image, side, mode="bilinear", align_corners=False) - 0.45) / 0.225)
        video = torch.cat(frames)
        session = self.sessions.Sam2VideoInferenceSession(
            video=video,
            video_height=self.size,
            video_width=self.size,
            inference_device=self.device,
            dtype=video.dtype,
        )
        session.obj_id_to_idx(1)
        return session

    def _click(self, session: Any, index: int, points: list[list[float]]) -> None:
        inputs = {
            "point_coords": torch.tensor([[points]]),
            "point_labels": torch.ones(1, 1, len(points), dtype=torch.int32),
        }
        session.add_point_inputs(0, index, inputs)
        session.obj_with_new_inputs = [1]
        with running(self.precision, self.device):
            self.model(inference_session=session, frame_idx=index)

    def _sweep(self, session: Any, index: int) -> None:
        with running(self.precision, self.device):
            for reverse in (False, True):
                for _ in self.model.propagate_in_video_iterator(session, start_frame_idx=index, reverse=reverse):
                    pass

    def _encode(self, frame: Tensor) -> None:
        with running(self.precision, self.device):
            self.model.vision_encoder(frame)


def scribbleprompt(size: int, precision: str, model: str, device: str) -> PassMethod:
    """ScribblePrompt-UNet; whatever the size of the slice, it sees 128 x 128 pixels."""
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(SEED)
        network = ScribblePromptShape()
    return PassMethod(network, (1, 5, 128, 128), precision, device)


def nninteractive(size: int, precision: str, model: str, device: str) -> PassMethod:
    """The network of nnInteractive, one pass (zooming out and refining cost more passes)."""
    unet = import_module("dynamic_network_architectures.architectures.unet")
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(SEED)
        network = unet.ResidualEncoderUNet(
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
            deep_supervision=False,
        )
    side = _TIMED_PATCH
    return PassMethod(network, (1, 8, side, side, side), precision, device, (_PATCH / side) ** 3, whole=True)


def sam2_video(size: int, precision: str, model: str, device: str) -> Sam2Method:
    """SAM 2.1 tiny."""
    return Sam2Method(size, precision, device)
