"""Networks that see whole slices for a while, as run times and budgets are usually stated."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager

from benchmarks.core.studies.play import with_settings
from limnet.segmenter import InteractiveSegmenter
from limnet.settings import Settings


@contextmanager
def whole_slices(segmenter: InteractiveSegmenter, size: int) -> Iterator[Settings]:
    """Settings of sweeps over all slices; with a size, networks see whole slices at that size meanwhile.

    Args:
        segmenter: the model; its networks are as before afterwards.
        size: side of the networks' input in pixels; 0 leaves windows that follow the object.
    """
    settings = with_settings(segmenter, scope="volume", stop_after_empty=0, follow_window=not size, short_side=0)
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
