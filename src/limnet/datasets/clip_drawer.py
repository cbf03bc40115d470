"""ClipDrawer: one random training clip after the other, from real, painted, synthetic and pasted objects."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field

import numpy as np

from limnet.datasets.clips import Source, draw_clip
from limnet.datasets.pasted_clips import draw_pasted
from limnet.errors import InputError
from limnet.simulation.corruption import corrupt
from limnet.simulation.volumes import synthetic_labels

_POOL = 40  # synthetic volumes kept for more than one draw
_RENEW = 0.1  # how often a synthetic draw brings a new volume
_ATTEMPTS = 1000

Clip = tuple[np.ndarray, np.ndarray, np.ndarray]


@dataclass
class ClipDrawer:
    """Draws clips; what comes depends on the generator alone, and on what this drawer drew before.

    Args:
        sources: labelled volumes, drawn by their `weight`.
        length: slices of a clip.
        size: side of the windows in network pixels.
        span: an object's larger side as a share of the window.
        paint: how often an image is painted anew from its label map.
        parts: how often a target in several pieces is cut down to one of them.
        synthetic: share of clips of synthetic volumes.
        pasted: share of clips of bodies blended into real images (`draw_pasted`).
        defects: share of clips that come with a defective mask to start from (`limnet.simulation.corruption`).
        gaps: slice steps to draw from, see `draw_clip`.
        stills: whether a single picture makes a clip that stands still; without it, no clip of several slices.

    Raises:
        InputError: no source and not everything synthetic, or shares that are none.
    """

    sources: Sequence[Source]
    length: int = 1
    size: int = 160
    span: tuple[float, float] = (0.08, 0.75)
    paint: float = 0.3
    parts: float = 0.2
    synthetic: float = 0.15
    pasted: float = 0.0
    defects: float = 0.0
    gaps: tuple[int, ...] = (1, 1, 1, 2)
    stills: bool = True
    _synthetic: list[Source] = field(default_factory=list, init=False, repr=False)

    def __post_init__(self) -> None:
        shares = (self.paint, self.parts, self.synthetic, self.pasted, self.defects)
        if min(shares) < 0 or max(shares) > 1 or self.synthetic + self.pasted > 1:
            raise InputError(f"paint, parts, synthetic, pasted and defects are {shares}; each is a share from 0 to 1")
        if not self.sources and self.synthetic < 1:
            raise InputError("no volumes to draw from; give some, or draw synthetic ones only (synthetic=1)")
        self._odds = _odds(self.sources)
        self._with_image = [source for source in self.sources if source.image is not None]
        if self.pasted and not self._with_image:
            raise InputError("no volume has an image to paste into; give some, or leave out pasted")
        self._image_odds = _odds(self._with_image)

    def draw(self, rng: np.random.Generator) -> Clip:
        """One clip.

        Returns:
            image uint8 (length, size, size), mask bool and start bool of the same shape; start is empty where nothing
            is started from.

        Raises:
            InputError: nothing could be drawn in many attempts.
        """
        for _ in range(_ATTEMPTS):
            kind = rng.random() if self.pasted + self.synthetic else 1.0
            if kind < self.pasted:
                source = self._with_image[int(rng.choice(len(self._with_image), p=self._image_odds))]
                drawn = draw_pasted(rng, source, self.length, self.size, self.span)
            elif kind < self.pasted + self.synthetic:
                drawn = self._clip(rng, self._synthetic_source(rng), 0.0)
            else:
                drawn = self._clip(rng, self.sources[int(rng.choice(len(self.sources), p=self._odds))], self.paint)
            if drawn is not None:
                return (*drawn, self._start(rng, drawn[1]))
        raise InputError(
            f"no clip of {self.length} slices could be drawn in {_ATTEMPTS} attempts; the objects are too small or "
            "have too few slices"
        )

    def _clip(self, rng: np.random.Generator, source: Source, paint: float) -> tuple[np.ndarray, np.ndarray] | None:
        single = self.stills and source.labels.shape[0] == 1
        length = 1 if single else self.length
        drawn = draw_clip(rng, source, length, self.size, self.span, paint, self.parts, self.gaps)
        if drawn is None or not single:
            return drawn
        image, mask = (np.repeat(part, self.length, 0) for part in drawn)
        return image, mask

    def _synthetic_source(self, rng: np.random.Generator) -> Source:
        if len(self._synthetic) < 12 or rng.random() < _RENEW:
            labels = synthetic_labels(rng, (max(2 * self.length, 24), 128, 128))
            self._synthetic = [*self._synthetic[1 - _POOL :], Source(labels, (1.0, 1.0, 1.0)).with_ids()]
        return self._synthetic[int(rng.integers(len(self._synthetic)))]

    def _start(self, rng: np.random.Generator, mask: np.ndarray) -> np.ndarray:
        start = np.zeros_like(mask)
        if self.defects and rng.random() < self.defects:
            for i, truth in enumerate(mask):
                if truth.any() and not truth.all():
                    start[i] = corrupt(truth, int(rng.integers(2**62)))[0]
        return start


def _odds(sources: Sequence[Source]) -> np.ndarray | None:
    weights = np.array([source.weight for source in sources], float)
    return weights / weights.sum() if len(weights) else None
