"""HRNet + OCR interaction network: image, previous mask and click disks -> logits of the object.

The network of the paper's interaction module, in the form of Sofiiuk et al., "Reviving Iterative Training with Mask
Guidance for Interactive Segmentation" (ICIP 2022). Tensor names are those of the public checkpoints; converted
checkpoints give the same logits as the original code.
"""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from limnet.blocks.resnet import BasicBlock, Bottleneck
from limnet.errors import InputError

DEAD_PREFIXES = ("object_context_block.f_pixel.", "object_context_block.f_object.")
"""Parameters of the original head that cannot change its output, relative to `ocr_distri_head`."""


def resize(x: Tensor, size: Sequence[int]) -> Tensor:
    """Bilinear resize of (B, C, h, w) to `size` (H, W) with aligned corners."""
    return F.interpolate(x, size=tuple(size), mode="bilinear", align_corners=True)


def conv_bn(inputs: int, outputs: int, kernel: int, stride: int = 1, relu: bool = True) -> nn.Sequential:
    """Convolution without bias and "same" padding, batch norm and, unless told otherwise, ReLU."""
    layers: list[nn.Module] = [
        nn.Conv2d(inputs, outputs, kernel, stride=stride, padding=kernel // 2, bias=False),
        nn.BatchNorm2d(outputs),
    ]
    return nn.Sequential(*layers, nn.ReLU()) if relu else nn.Sequential(*layers)


def _exchange(channels: Sequence[int], target: int, source: int) -> nn.Module:
    """Layers that bring branch `source` to the channels (and, going down, to the size) of branch `target`."""
    if source == target:
        return nn.Identity()
    if source > target:  # coarser: the resize to the finer grid follows in forward
        return conv_bn(channels[source], channels[target], 1, relu=False)
    steps = target - source
    return nn.Sequential(
        *(
            conv_bn(
                channels[source],
                channels[target] if step == steps - 1 else channels[source],
                3,
                stride=2,
                relu=step < steps - 1,
            )
            for step in range(steps)
        )
    )


class ExchangeModule(nn.Module):
    """Parallel branches of `blocks` basic blocks each, finest first, then each receives the sum of all branches."""

    def __init__(self, channels: Sequence[int], blocks: int) -> None:
        super().__init__()
        count = len(channels)
        self.branches = nn.ModuleList(nn.Sequential(*(BasicBlock(c, c) for _ in range(blocks))) for c in channels)
        self.fuse_layers = nn.ModuleList(
            nn.ModuleList(_exchange(channels, target, source) for source in range(count)) for target in range(count)
        )

    def forward(self, maps: list[Tensor]) -> list[Tensor]:
        """One (B, C_b, h_b, w_b) map per branch in, the same shapes out."""
        maps = [branch(x) for branch, x in zip(self.branches, maps, strict=True)]
        fused = []
        for target, row in enumerate(self.fuse_layers):
            assert isinstance(row, nn.ModuleList)
            total: Tensor | None = None
            for source, layer in enumerate(row):
                y = layer(maps[source])
                if source > target:
                    y = resize(y, maps[target].shape[-2:])
                total = y if total is None else total + y
            assert total is not None
            fused.append(F.relu(total))
        return fused


def make_stage(channels: Sequence[int], modules: int, blocks: int) -> nn.Sequential:
    """A stage: `modules` exchange modules in a row, all with the same branches."""
    return nn.Sequential(*(ExchangeModule(channels, blocks) for _ in range(modules)))


def make_transition(before: Sequence[int], after: Sequence[int]) -> nn.ModuleList:
    """Layers that prepare the branches of the next stage.

    Kept branches pass unchanged (Identity) or change channels by a 3x3 convolution; each new branch is made from the
    coarsest existing map by one 3x3 convolution with stride 2. `after` may have at most one branch more than `before`.
    """
    layers: list[nn.Module] = []
    for branch, channels in enumerate(after):
        if branch >= len(before):
            layers.append(nn.Sequential(conv_bn(before[-1], channels, 3, stride=2)))
        elif before[branch] == channels:
            layers.append(nn.Identity())
        else:
            layers.append(conv_bn(before[branch], channels, 3))
    return nn.ModuleList(layers)


def apply_transition(transition: nn.ModuleList, maps: list[Tensor]) -> list[Tensor]:
    """Maps of a finished stage -> maps for the next one; a new branch reads the coarsest finished map."""
    return [layer(maps[min(branch, len(maps) - 1)]) for branch, layer in enumerate(transition)]


def _conv_bn_relu(inputs: int, outputs: int) -> list[nn.Module]:
    """1x1 convolution, then batch norm and ReLU in a container of their own, as the public checkpoints name them."""
    return [nn.Conv2d(inputs, outputs, 1, bias=False), nn.Sequential(nn.BatchNorm2d(outputs), nn.ReLU())]


def gather_object(features: Tensor, logits: Tensor) -> Tensor:
    """Mean of features (B, C, h, w) under a float32 softmax of rough logits (B, 1, h, w) over space: (B, C, 1, 1)."""
    weights = torch.softmax(logits.flatten(2).float(), dim=2).to(features.dtype)
    return torch.matmul(weights, features.flatten(2).transpose(1, 2)).transpose(1, 2).unsqueeze(3)


class _ObjectContext(nn.Module):
    """Object vector -> the context every pixel receives."""

    def __init__(self, channels: int, key_channels: int) -> None:
        super().__init__()
        self.f_down = nn.Sequential(*_conv_bn_relu(channels, key_channels))
        self.f_up = nn.Sequential(*_conv_bn_relu(key_channels, channels))

    def forward(self, vector: Tensor) -> Tensor:
        """(B, C, 1, 1), same shape out."""
        return self.f_up(self.f_down(vector))


class ObjectDistribution(nn.Module):
    """Joins the object context to the features of every pixel; `key_channels` is its inner width."""

    def __init__(self, channels: int, key_channels: int, dropout: float) -> None:
        super().__init__()
        self.object_context_block = _ObjectContext(channels, key_channels)
        self.conv_bn_dropout = nn.Sequential(*_conv_bn_relu(2 * channels, channels), nn.Dropout2d(dropout))

    def forward(self, features: Tensor, vector: Tensor) -> Tensor:
        """Features (B, C, h, w) and object vector (B, C, 1, 1) -> (B, C, h, w). Training needs B >= 2 (batch norm)."""
        context = self.object_context_block(vector).expand_as(features)
        return self.conv_bn_dropout(torch.cat([context, features], dim=1))


IMAGENET_MEAN = (0.485, 0.456, 0.406)
IMAGENET_STD = (0.229, 0.224, 0.225)
STEM_CHANNELS = 64
SMALLEST_SIDE = 32
WINDOW_SIZE = 384  # about the pixels of RITM's training crops, 320 x 480; `--preset paper` trains on it

PRESETS: dict[str, dict[str, Any]] = {
    "w32": {"width": 32, "ocr_width": 128, "small": False},
    "w18": {"width": 18, "ocr_width": 64, "small": False},
    "w18-small": {"width": 18, "ocr_width": 48, "small": True},
}
"""Constructor arguments of the published sizes (31.0, 10.0 and 4.2 million parameters)."""


class _Scale(nn.Module):
    """Multiplies by the absolute value of one learned number."""

    def __init__(self, start: float) -> None:
        super().__init__()
        self.scale = nn.Parameter(torch.full((1,), start))

    def forward(self, x: Tensor) -> Tensor:
        return x * self.scale.abs()


class HRNetFeatures(nn.Module):
    """Backbone with its two output heads. The stem is split: `stem` needs the image only, `forward` the rest.

    The arguments are those of `HRNetOCR`; the finer branches have 2, 4 and 8 times `width` channels.
    """

    def __init__(self, width: int, ocr_width: int, small: bool, image_channels: int, dropout: float) -> None:
        super().__init__()
        blocks = 2 if small else 4
        widths = [width * 2**branch for branch in range(4)]
        total, head = sum(widths), 2 * ocr_width
        self.conv1 = nn.Conv2d(image_channels, STEM_CHANNELS, 3, stride=2, padding=1, bias=False)
        self.bn1 = nn.BatchNorm2d(STEM_CHANNELS)
        self.conv2 = nn.Conv2d(STEM_CHANNELS, STEM_CHANNELS, 3, stride=2, padding=1, bias=False)
        self.bn2 = nn.BatchNorm2d(STEM_CHANNELS)
        outputs = STEM_CHANNELS * Bottleneck.expansion
        self.layer1 = nn.Sequential(
            *(Bottleneck(STEM_CHANNELS if index == 0 else outputs, STEM_CHANNELS) for index in range(blocks))
        )
        self.transition1 = make_transition([outputs], widths[:2])
        self.stage2 = make_stage(widths[:2], 1, blocks)
        self.transition2 = make_transition(widths[:2], widths[:3])
        self.stage3 = make_stage(widths[:3], 3 if small else 4, blocks)
        self.transition3 = make_transition(widths[:3], widths)
        self.stage4 = make_stage(widths, 2 if small else 3, blocks)
        self.aux_head = nn.Sequential(
            nn.Conv2d(total, total, 1), nn.BatchNorm2d(total), nn.ReLU(), nn.Conv2d(total, 1, 1)
        )
        self.conv3x3_ocr = nn.Sequential(nn.Conv2d(total, head, 3, padding=1), nn.BatchNorm2d(head), nn.ReLU())
        self.ocr_distri_head = ObjectDistribution(head, ocr_width, dropout)
        self.cls_head = nn.Conv2d(head, 1, 1)

    def stem(self, image: Tensor) -> Tensor:
        """Normalised image (B, C, H, W) -> (B, 64, ceil(H/2), ceil(W/2))."""
        return F.relu(self.bn1(self.conv1(image)))

    def forward(self, x: Tensor) -> tuple[Tensor, Tensor]:
        """Stem output plus click features (B, 64, H/2, W/2) -> fine and rough logits, both (B, 1, H/4, W/4)."""
        x = self.layer1(F.relu(self.bn2(self.conv2(x))))
        maps = self.stage2(apply_transition(self.transition1, [x]))
        maps = self.stage3(apply_transition(self.transition2, maps))
        maps = self.stage4(apply_transition(self.transition3, maps))
        size = maps[0].shape[-2:]
        x = torch.cat([maps[0], *(resize(y, size) for y in maps[1:])], dim=1)
        rough = self.aux_head(x)
        x = self.conv3x3_ocr(x)
        return self.cls_head(self.ocr_distri_head(x, gather_object(x, rough))), rough


class HRNetOCR(nn.Module):
    """Click-guided HRNet with an object-contextual head.

    The image half (`encode_image`) is the normalisation and the first convolution; its result depends on the image
    only and can be kept for all later clicks. The click half (`decode`) is everything else, because the clicks enter
    right behind the stem.

    Prompt channels, in this order: `previous` (probabilities in [0, 1] of the mask so far, zeros before the first
    click), `positive` and `negative` (1 inside a disk of `click_radius` around a click, else 0; see
    `limnet.interaction.prompt_maps`).

    Args:
        width: channels of the finest branch.
        ocr_width: key channels of the object-contextual head.
        small: the variant with two blocks per branch.
        click_radius: radius in input pixels of the click disks the network expects.
        leaky_slope: negative slope in the click stem (0 is a plain ReLU).
        mean: per-channel mean taken from the image; its length is the number of image channels (1 or 3).
        std: per-channel standard deviation the image is divided by.
        dropout: channel dropout in the head while training.
        window_size: side in pixels of the windows it was trained on, which it is shown in use, too. Its click disks and
            kernels have a size in pixels of the window: other windows show it objects of other sizes.

    Raises:
        InputError: an argument is out of range, or `mean` and `std` differ in length.
    """

    prompt_channels: tuple[str, ...] = ("previous", "positive", "negative")

    def __init__(
        self,
        width: int = 32,
        ocr_width: int = 128,
        small: bool = False,
        click_radius: float = 5.0,
        leaky_slope: float = 0.2,
        mean: Sequence[float] = IMAGENET_MEAN,
        std: Sequence[float] = IMAGENET_STD,
        dropout: float = 0.05,
        window_size: int = WINDOW_SIZE,
    ) -> None:
        super().__init__()
        if isinstance(window_size, bool) or not isinstance(window_size, int) or window_size < SMALLEST_SIDE:
            raise InputError(f"window_size={window_size!r}: an integer of at least {SMALLEST_SIDE} pixels is expected")
        if width < 1 or ocr_width < 1:
            raise InputError(
                f"width={width}, ocr_width={ocr_width}: both must be at least 1; see PRESETS for known sizes"
            )
        if len(mean) not in (1, 3) or len(std) != len(mean) or not all(0 < value < math.inf for value in std):
            raise InputError(
                f"mean={tuple(mean)}, std={tuple(std)}: give one value per image channel in both, for 1 (gray) or 3 "
                "(colour) channels, and only positive std values"
            )
        if not 0 < click_radius < math.inf:
            raise InputError(
                f"click_radius={click_radius}: the disk radius must be positive and finite, in network-input pixels"
            )
        self.config: dict[str, Any] = {
            "width": int(width),
            "ocr_width": int(ocr_width),
            "small": bool(small),
            "click_radius": float(click_radius),
            "leaky_slope": float(leaky_slope),
            "mean": [float(value) for value in mean],
            "std": [float(value) for value in std],
            "dropout": float(dropout),
            "window_size": window_size,
        }
        self.window_size = window_size
        self.image_channels = len(mean)
        self.click_radius = float(click_radius)
        self.register_buffer("mean", torch.tensor(self.config["mean"]).view(1, -1, 1, 1), persistent=False)
        self.register_buffer("std", torch.tensor(self.config["std"]).view(1, -1, 1, 1), persistent=False)
        self.maps_transform = nn.Sequential(
            nn.Conv2d(len(self.prompt_channels), 16, 1),
            nn.LeakyReLU(leaky_slope),
            nn.Conv2d(16, STEM_CHANNELS, 3, stride=2, padding=1),
            _Scale(0.05),
        )
        self.feature_extractor = HRNetFeatures(width, ocr_width, small, self.image_channels, dropout)
        self.apply(_initialise)

    @classmethod
    def preset(cls, name: str) -> HRNetOCR:
        """A published size with fresh weights, by its name in `PRESETS`; InputError for another."""
        if name not in PRESETS:
            raise InputError(f"unknown preset {name!r}; known: {', '.join(PRESETS)}, or call HRNetOCR(width=..., ...)")
        return cls(**PRESETS[name])

    def encode_image(self, image: Tensor) -> tuple[Tensor, ...]:
        """The part that depends on the image only: one map (B, 64, ceil(H/2), ceil(W/2)) in the type of the weights.

        Images are (B, image_channels, H, W) floats in [0, 1], not normalised; H and W at least 32 (InputError).
        """
        if image.ndim != 4 or image.shape[1] != self.image_channels:
            raise InputError(
                f"image of shape {tuple(image.shape)}; expected (B, {self.image_channels}, H, W) in [0, 1]"
            )
        if image.shape[2] < SMALLEST_SIDE or image.shape[3] < SMALLEST_SIDE:
            raise InputError(f"image of {image.shape[2]} x {image.shape[3]} pixels; resize it to at least 32 x 32")
        assert isinstance(self.mean, Tensor)
        assert isinstance(self.std, Tensor)
        normal = (image - self.mean) / self.std
        return (self.feature_extractor.stem(normal.to(self.feature_extractor.conv1.weight.dtype)),)

    def decode(self, features: tuple[Tensor, ...], prompts: Tensor) -> dict[str, Tensor]:
        """Everything that depends on prompts.

        Args:
            features: result of `encode_image`; batch size B, or 1 for several prompts on the same image.
            prompts: (B, 3, H, W) floats, channels as in `prompt_channels`, H and W those of the image.

        Returns:
            `instances` and `instances_aux` (the rough segmentation that the auxiliary training loss looks at): logits
            (B, 1, H, W), float32 (float64 if the weights are).

        Raises:
            InputError: the prompts do not fit the features.
        """
        (stem,) = features
        if prompts.ndim != 4 or prompts.shape[1] != len(self.prompt_channels):
            raise InputError(
                f"prompts of shape {tuple(prompts.shape)}; expected (B, {len(self.prompt_channels)}, H, W) with the "
                f"channels {', '.join(self.prompt_channels)}"
            )
        clicks = self.maps_transform(prompts.to(stem.dtype))
        if clicks.shape[2:] != stem.shape[2:]:
            raise InputError(
                f"prompts of {prompts.shape[2]} x {prompts.shape[3]} pixels do not fit the image features of "
                f"{stem.shape[2]} x {stem.shape[3]}; draw the prompts at the size of the image"
            )
        fine, rough = self.feature_extractor(stem + clicks)
        return {"instances": _enlarge(fine, prompts), "instances_aux": _enlarge(rough, prompts)}

    def forward(self, image: Tensor, prompts: Tensor) -> dict[str, Tensor]:
        """Both halves in a row; see `encode_image` and `decode`."""
        return self.decode(self.encode_image(image), prompts)


def _enlarge(logits: Tensor, like: Tensor) -> Tensor:
    """Logits in at least float32 at the height and width of `like`."""
    return resize(logits if logits.dtype == torch.float64 else logits.float(), like.shape[-2:])


def _initialise(module: nn.Module) -> None:
    """Gaussian weights with variance 2 / mean(fan in, fan out), biases zero."""
    if isinstance(module, nn.Conv2d):
        area = math.prod(module.kernel_size)
        nn.init.normal_(module.weight, std=math.sqrt(4.0 / (area * (module.in_channels + module.out_channels))))
        if module.bias is not None:
            nn.init.zeros_(module.bias)


def drop_dead_tensors(state: Mapping[str, Tensor]) -> dict[str, Tensor]:
    """A state dict without the tensors of the original head that cannot change the output (see `DEAD_PREFIXES`)."""
    dead = tuple(f"feature_extractor.ocr_distri_head.{prefix}" for prefix in DEAD_PREFIXES)
    return {key: value for key, value in state.items() if not key.startswith(dead)}
