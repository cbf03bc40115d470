"""A segmenter of very small tiny networks with fixed random weights: whole rounds in a fraction of a second."""

from __future__ import annotations

from typing import Any

import torch

from limnet import InteractiveSegmenter
from limnet.propagation.tiny import TinyPropagation
from tests.helpers.tiny_networks import ENCODER, MEMORY, small_interaction, small_quality


def small_segmenter(image_channels: int = 1, **options: Any) -> InteractiveSegmenter:
    """Interaction and quality with scrambled weights; propagation as it starts out, which nearly copies masks."""
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(5)
        propagation = TinyPropagation(image_channels, **ENCODER, **MEMORY)
    options.setdefault("precision", "fp32")
    return InteractiveSegmenter(
        small_interaction(image_channels), propagation, small_quality(image_channels), **options
    )
