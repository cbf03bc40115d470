"""A segmenter of very small tiny networks with fixed random weights: whole rounds in a fraction of a second."""

from __future__ import annotations

from typing import Any

import numpy as np
import torch

from limnet import InteractiveSegmenter
from limnet.case.case import Case
from limnet.propagation.networks.tiny import TinyPropagation
from tests.helpers.fake_engine import phantom
from tests.helpers.tiny_networks import ENCODER, MEMORY, small_interaction, small_quality

SHAPE = (8, 32, 40)
CENTRE = (4, 16, 20)
"""A volume `phantom(SHAPE)`, and the middle of the object in it."""


def small_segmenter(image_channels: int = 1, **options: Any) -> InteractiveSegmenter:
    """Interaction and quality with scrambled weights; propagation as it starts out, which nearly copies masks."""
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(5)
        propagation = TinyPropagation(image_channels, **ENCODER, **MEMORY)
    options.setdefault("precision", "fp32")
    return InteractiveSegmenter(
        small_interaction(image_channels), propagation, small_quality(image_channels), **options
    )


def blob(shape: tuple[int, int, int] = SHAPE) -> np.ndarray:
    """The bright part of `phantom(shape)`."""
    return phantom(shape) > 100


def seen(case: Case) -> tuple[Any, ...]:
    """What a user can see of a case."""
    arrays = (case.mask, case.probability, case.quality, case.labels)
    return (*(a.tobytes() for a in arrays), case.prompted, case.rounds, case.bounds, case.finished, case.objects)
