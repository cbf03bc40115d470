"""Sessions in which limnet's own prompt masks are carried to the other slices by something else.

Everything but propagation stays as in a real case: the interaction network, click rules, slices that end the object,
prompted slices that no later round touches. Fusion is off, as there is nothing random to choose from.
"""

from __future__ import annotations

from dataclasses import replace
from functools import lru_cache

from benchmarks.core.limnet_predictor import LimnetSession
from limnet.case import Case
from limnet.engine import SlicePropagator
from limnet.segmenter import InteractiveSegmenter
from limnet.volume import Volume


@lru_cache(maxsize=1)
def prompt_model(model: str, precision: str, device: str = "cpu") -> InteractiveSegmenter:
    """The model whose interaction network gives the prompt masks; kept for the following cases.

    Args:
        model: zoo name, model folder or Hub id.
        precision: "auto", "fp32" or "bf16".
        device: where to compute.
    """
    return InteractiveSegmenter.from_pretrained(model, device=device, precision=precision)


def carried_session(
    segmenter: InteractiveSegmenter, volume: Volume, axis: int, propagator: SlicePropagator
) -> LimnetSession:
    """A session on `volume` with another propagator, scope "interval" and no fusion.

    Args:
        segmenter: gives the interaction network and the settings of the clicked slice.
        volume: the image.
        axis: slice axis.
        propagator: carries prompt masks to slices without a prompt.
    """
    engine = replace(segmenter.engine(), propagator=propagator, assessor=None)
    settings = replace(segmenter.settings, scope="interval")
    return LimnetSession(Case(engine, volume, axis=axis, settings=settings))
