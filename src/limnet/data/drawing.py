"""Drawing clips: ClipDrawer, from any sources; by epoch and number DrawnClips of a drawer and ClipDataset of cases."""

from __future__ import annotations

from collections import OrderedDict
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from typing import Any, overload

import numpy as np
import torch
from torch import Tensor
from torch.utils.data import Dataset

from limnet.data.cache import CaseCache, read_source
from limnet.data.clips import MIN_PIXELS, Source, draw_clip, draw_pasted
from limnet.data.dataset import LabelledCase
from limnet.errors import InputError
from limnet.simulation.corruptions import corrupt
from limnet.simulation.volumes import synthetic_labels

SLICE_SPAN, CLIP_SPAN = (0.08, 0.75), (0.12, 0.6)  # share of the window that the object spans
GAPS = (1, 1, 1, 2, 3)
_POOL = 40  # synthetic volumes kept for more than one draw
_RENEW = 0.1  # how often a synthetic draw brings a new volume
_ATTEMPTS = 1000
_OPEN = 32  # memory maps kept open

Clip = tuple[np.ndarray, np.ndarray, np.ndarray]


@dataclass
class ClipDrawer:
    """Draws clips; what comes depends on the generator alone, and on what this drawer drew before.

    Args:
        sources: labelled volumes, drawn by their `weight`, or by `odds`.
        length: slices of a clip.
        size: side of the windows in network pixels.
        span: an object's larger side as a share of the window.
        paint: how often an image is painted anew from its label map.
        parts: how often a target in several pieces is cut down to one of them.
        synthetic: share of clips of synthetic volumes.
        pasted: share of clips of bodies blended into real images (`draw_pasted`).
        defects: share of clips that come with a defective mask to start from (`limnet.simulation.corruptions`).
        gaps: slice steps to draw from; with `whole_slices` see `draw_clip`.
        stills: whether a single picture makes a clip that stands still; without it, no clip of several slices.
        transform: called with {"image": float32 tensor (T, H, W) 0..255, "mask": float32 tensor (T, H, W)} and must
            return both in the same shape: MONAI's dictionary transforms, which take T for channels and so treat all
            slices alike. Before every clip it is seeded through `set_random_state` if it has that.
        name: of the sources, for messages.

    Raises InputError for no source where not everything is synthetic, or shares that are none.
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
    odds: np.ndarray | None = None
    whole_slices: bool = False
    transform: Callable[[dict[str, Any]], dict[str, Any]] | None = None
    name: str = "the volumes"
    _synthetic: list[Source] = field(default_factory=list, init=False, repr=False)

    def __post_init__(self) -> None:
        shares = (self.paint, self.parts, self.synthetic, self.pasted, self.defects)
        if min(shares) < 0 or max(shares) > 1 or self.synthetic + self.pasted > 1:
            raise InputError(f"paint, parts, synthetic, pasted and defects are {shares}; each is a share from 0 to 1")
        if not self.sources and self.synthetic < 1:
            raise InputError("no volumes to draw from; give some, or draw synthetic ones only (synthetic=1)")
        if self.odds is None:
            self.odds = _odds(self.sources)
        self._with_image = [source for source in self.sources if source.image is not None] if self.pasted else []
        if self.pasted and not self._with_image:
            raise InputError("no volume has an image to paste into; give some, or leave out pasted")
        self._image_odds = _odds(self._with_image)

    def draw(self, rng: np.random.Generator) -> Clip:
        """One clip: image uint8 (length, size, size), mask and start mask, bool of the same shape.

        The start mask is empty where nothing is started from. InputError if nothing could be drawn in many attempts, or
        the transform changes the shape.
        """
        for _ in range(_ATTEMPTS):
            drawn = self.attempt(rng)
            if drawn is not None and self.transform is not None:
                drawn = self._transformed(*drawn, rng)
            if drawn is not None:
                return (*drawn, self._start(rng, drawn[1]))
        raise InputError(
            f"no clip of {self.length} slices could be drawn from {self.name} in {_ATTEMPTS} attempts; the objects are "
            "too small or have too few slices, or the transform moves them out of the window"
        )

    def attempt(self, rng: np.random.Generator) -> tuple[np.ndarray, np.ndarray] | None:
        """Image and mask of a clip, or None where a source had nothing to draw."""
        kind = rng.random() if self.pasted + self.synthetic else 1.0
        if kind < self.pasted:
            source = self._with_image[int(rng.choice(len(self._with_image), p=self._image_odds))]
            return draw_pasted(rng, source, self.length, self.size, self.span)
        if kind < self.pasted + self.synthetic:
            return self._clip(rng, self._synthetic_source(rng), 0.0)
        return self._clip(rng, self.sources[int(rng.choice(len(self.sources), p=self.odds))], self.paint)

    def _clip(self, rng: np.random.Generator, source: Source, paint: float) -> tuple[np.ndarray, np.ndarray] | None:
        single = self.stills and source.labels.shape[0] == 1
        length = 1 if single else self.length
        drawn = draw_clip(rng, source, length, self.size, self.span, paint, self.parts, self.gaps, self.whole_slices)
        if drawn is None or not single:
            return drawn
        image, mask = (np.repeat(part, self.length, 0) for part in drawn)
        return image, mask

    def _synthetic_source(self, rng: np.random.Generator) -> Source:
        if len(self._synthetic) < 12 or rng.random() < _RENEW:
            labels = synthetic_labels(rng, (max(2 * self.length, 24), 128, 128))
            self._synthetic = [*self._synthetic[1 - _POOL :], Source(labels, (1.0, 1.0, 1.0)).with_ids()]
        return self._synthetic[int(rng.integers(len(self._synthetic)))]

    def _transformed(
        self, image: np.ndarray, mask: np.ndarray, rng: np.random.Generator
    ) -> tuple[np.ndarray, np.ndarray] | None:
        """After the transform; None if that left too little of the object on the first slice."""
        transform: Any = self.transform
        if hasattr(transform, "set_random_state"):
            transform.set_random_state(seed=int(rng.integers(2**31)))
        given = {"image": torch.from_numpy(image).float(), "mask": torch.from_numpy(mask).float()}
        done = transform(given)
        found = {key: torch.as_tensor(np.asarray(done[key])).float() for key in given}
        for key, value in found.items():
            if value.shape != given[key].shape:
                raise InputError(
                    f"the transform made {key} {tuple(value.shape)} of {tuple(given[key].shape)}; it must keep the "
                    "shape (T, H, W)"
                )
        pixels = found["image"].nan_to_num().clamp(0, 255).round().to(torch.uint8).numpy()
        inside = (found["mask"] > 0.5).numpy()
        return (pixels, inside) if inside[0].sum() >= MIN_PIXELS else None

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


class DrawnClips(Dataset[Any]):
    """So many clips of a drawer an epoch, found by (epoch, number)."""

    def __init__(self, drawer: ClipDrawer, samples: int, seed: int = 0) -> None:
        self.drawer, self.samples, self.seed = drawer, samples, seed

    def __len__(self) -> int:
        return self.samples

    def __getitem__(self, key: tuple[int, int]) -> tuple[Tensor, ...]:
        """Image, mask and, if the drawer makes defects, start mask, each uint8 (T, S, S)."""
        image, mask, start = self.drawer.draw(np.random.default_rng([self.seed, *key]))
        parts = (image, mask, start) if self.drawer.defects else (image, mask)
        return tuple(torch.from_numpy(part.astype(np.uint8)) for part in parts)


class OpenedCases(Sequence[Source]):
    """Cases as sources, opened when asked for; few stay open, none in another process."""

    def __init__(self, cases: Sequence[LabelledCase], cache: CaseCache | None) -> None:
        self.cases, self.cache = cases, cache
        self._opened: OrderedDict[int, Source] = OrderedDict()

    def __len__(self) -> int:
        return len(self.cases)

    @overload
    def __getitem__(self, number: int) -> Source: ...
    @overload
    def __getitem__(self, number: slice) -> Sequence[Source]: ...
    def __getitem__(self, number: int | slice) -> Source | Sequence[Source]:
        """The case of that number."""
        if isinstance(number, slice):
            return [self[i] for i in range(*number.indices(len(self)))]
        case = self.cases[number]
        if self.cache is None or not case.cached:
            return read_source(case)
        if number not in self._opened:
            self._opened[number] = self.cache.open(case)
            if len(self._opened) > _OPEN:
                self._opened.popitem(last=False)
        self._opened.move_to_end(number)
        return self._opened[number]

    def __getstate__(self) -> dict[str, Any]:
        return {**self.__dict__, "_opened": OrderedDict()}


class NoClipError(InputError):
    """Cases that no clip can be drawn from."""


class ClipDataset(DrawnClips):
    """Clips of cases, each drawn with its weight; see `ClipDrawer`.

    Args:
        samples: in an epoch.
        size: side of the windows in network pixels, at least 32.
        cache: holds the decoded cases; None reads a case's own files at every draw, as do cases that say so.

    Raises:
        NoClipError: no case that a clip of this length could be drawn from.
        InputError: arguments out of range.
    """

    def __init__(
        self,
        cases: Sequence[tuple[LabelledCase, float]],
        samples: int,
        length: int = 1,
        size: int = 160,
        seed: int = 0,
        cache: CaseCache | None = None,
        paint_probability: float = 0.0,
        transform: Callable[[dict[str, Any]], dict[str, Any]] | None = None,
        name: str = "the data set",
        whole_slices: bool = False,
    ) -> None:
        if size < 32 or length < 1:
            raise InputError(f"size is {size} and length {length}; at least 32 pixels and 1 slice are needed")

        def fits(source: Source) -> bool:
            axes = source.axes[:1] if whole_slices else source.axes
            return bool(source.ids) and any(source.labels.shape[axis] >= length for axis in axes)

        usable = [(case, w) for case, w in cases if cache is None or not case.cached or fits(cache.open(case))]
        if not usable:
            few = ", ".join(case.name for case, _ in cases[:5]) + (", ..." if len(cases) > 5 else "")
            shown = f"{len(cases)} case(s)" + (f" ({few})" if few else "")
            raise NoClipError(
                f"{name} has {shown}, but none with a labelled object of 40 voxels or more in "
                f"{length} neighbouring slices; take other data" + (" or shorter clips" if length > 1 else "")
            )
        self.sources = OpenedCases([case for case, _ in usable], cache)
        weights = np.array([weight for _, weight in usable], float)
        drawer = ClipDrawer(
            self.sources,
            length,
            size,
            SLICE_SPAN if length == 1 else CLIP_SPAN,
            paint_probability,
            synthetic=0.0,
            gaps=GAPS,
            stills=False,
            odds=weights / weights.sum(),
            whole_slices=whole_slices,
            transform=transform,
            name=name,
        )
        super().__init__(drawer, samples, seed)
