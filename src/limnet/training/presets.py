"""Named settings of the recipes: the paper's networks as they were trained, and the small ones on a processor."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

from limnet.errors import InputError


@dataclass(frozen=True)
class Preset:
    """Defaults of one recipe; every one has an option of its own.

    Attributes:
        network: name in `limnet.hub.folder.TABLE`.
        batch_size: samples per step over all processes.
        gradient_clip: largest gradient norm, 0 for none.
        validate_every: steps between validations.
        size: side of the square windows in network pixels.
        whole_slices: a mix is drawn as crops of whole slices, not as windows round one object.
        config: arguments of a network trained from nothing, for this network only; others have their own defaults.
    """

    network: str
    steps: int
    batch_size: int
    learning_rate: float
    precision: str
    gradient_clip: float
    validate_every: int
    size: int = 160
    length: int = 1
    whole_slices: bool = False
    config: Mapping[str, Any] = field(default_factory=dict)


PRESETS: dict[str, dict[str, Preset]] = {
    "interaction": {
        "tiny-cpu": Preset("TinyInteraction", 3000, 16, 1e-3, "bf16-mixed", 1.0, 500),
        # RITM, HRNet-W32 on COCO + LVIS; its crops are 320 x 480 (153,600 pixels), ours are square
        "paper": Preset("HRNetOCR", 215_625, 32, 5e-4, "32-true", 0.0, 5000, size=384),
    },
    "propagation": {
        "tiny-cpu": Preset("TinyPropagation", 3000, 6, 1e-3, "bf16-mixed", 1.0, 500, length=8),
        # XMem, stage 3: crops of 384 pixels of whole frames
        "paper": Preset("XMem", 110_000, 8, 1e-5, "16-mixed", 0.0, 5000, size=384, length=24, whole_slices=True),
    },
    "quality": {
        "tiny-cpu": Preset(
            "TinyQuality", 1500, 32, 1e-3, "bf16-mixed", 1.0, 250, size=128, config={"references": True}
        ),
        # the paper names the network (ResNet-18) and no settings; these are ours
        "paper": Preset("ResNetQuality", 10_000, 64, 1e-4, "32-true", 1.0, 500, size=128),
    },
}
"""role -> name -> settings."""

TASKS: dict[str, tuple[str, str]] = {
    "TinyInteraction": ("limnet.tasks.interaction:InteractionModule", ""),
    "HRNetOCR": ("limnet.tasks.interaction:InteractionModule", "RITM"),
    "TinyPropagation": ("limnet.tasks.propagation:PropagationModule", ""),
    "XMem": ("limnet.tasks.propagation:PropagationModule", "XMEM"),
    "TinyQuality": ("limnet.tasks.quality:QualityModule", ""),
    "ResNetQuality": ("limnet.tasks.quality:QualityModule", ""),
}
"""Name of a network -> the LightningModule that trains it, and the name of the arguments beside it ("": none)."""


SMOKE: dict[str, dict[str, Any]] = {
    "TinyInteraction": {"widths": [16, 16, 24, 32], "depths": [1, 1, 1, 1], "embedding": 8},
    "HRNetOCR": {"width": 4, "ocr_width": 8, "small": True},
    "TinyPropagation": {
        "widths": [16, 16, 24, 32],
        "depths": [1, 1, 1, 1],
        "embedding": 8,
        "key_dim": 8,
        "value_dim": 16,
    },
    "XMem": {"key_dim": 16, "value_dim": 32, "hidden_dim": 16},
    "TinyQuality": {"widths": [16, 16, 16]},
    "ResNetQuality": {},
}
"""Name of a network -> arguments that make it small, for `--smoke`."""


def preset(role: str, name: str) -> Preset:
    """Settings of that name; InputError if there are none."""
    if name not in PRESETS[role]:
        raise InputError(f"preset {name!r} is unknown; there are {', '.join(PRESETS[role])}")
    return PRESETS[role][name]
