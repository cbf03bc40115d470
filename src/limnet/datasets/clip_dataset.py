"""ClipDataset: random clips of labelled cases, each a function of seed, epoch and number."""

from __future__ import annotations

from collections import OrderedDict
from collections.abc import Callable, Sequence
from typing import Any

import numpy as np
import torch
from torch import Tensor
from torch.utils.data import Dataset

from limnet.datasets.cache import CaseCache
from limnet.datasets.clips import MIN_PIXELS, Source, draw_clip
from limnet.datasets.decoding import read_source
from limnet.datasets.labelled import LabelledCase
from limnet.errors import InputError

SLICE_SPAN, CLIP_SPAN = (0.08, 0.75), (0.12, 0.6)  # share of the window that the object spans
GAPS = (1, 1, 1, 2, 3)
_ATTEMPTS = 300
_OPEN = 32  # memory maps kept open


class NoClipError(InputError):
    """Cases that no clip can be drawn from."""


class ClipDataset(Dataset[Any]):
    """Clips (image uint8 (T, H, W) 0..255, mask uint8 (T, H, W) 0 or 1), found by (epoch, number).

    Args:
        cases: cases with the weight each is drawn with.
        length: slices per clip.
        size: side of the windows in network pixels, at least 32.
        seed: source of all randomness.
        cache: holds the decoded cases; None reads a case's own files at every draw, as do cases that say so.
        paint_probability: how often an image is painted anew from its label map.
        transform: called with {"image": float32 tensor (T, H, W) 0..255, "mask": float32 tensor (T, H, W)} and must
            return both in the same shape: MONAI's dictionary transforms, which take T for channels and so treat all
            slices alike. Before every sample it is seeded through `set_random_state` if it has that.
        name: of the whole, for messages.
        whole_slices: crops of whole slices in place of windows round the object, see `draw_clip`.

    Raises:
        NoClipError: no case that a clip of this length could be drawn from.
        InputError: arguments out of range.
    """

    def __init__(
        self,
        cases: Sequence[tuple[LabelledCase, float]],
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
        self.length, self.size, self.seed, self.cache, self.name = length, size, seed, cache, name
        self.paint_probability, self.transform, self.whole_slices = paint_probability, transform, whole_slices
        usable = [
            (case, weight) for case, weight in cases if cache is None or not case.cached or self._fits(cache.open(case))
        ]
        if not usable:
            few = ", ".join(case.name for case, _ in cases[:5]) + (", ..." if len(cases) > 5 else "")
            shown = f"{len(cases)} case(s)" + (f" ({few})" if few else "")
            raise NoClipError(
                f"{name} has {shown}, but none with a labelled object of 40 voxels or more in "
                f"{length} neighbouring slices; take other data" + (" or shorter clips" if length > 1 else "")
            )
        self.cases = [case for case, _ in usable]
        weights = np.array([weight for _, weight in usable], float)
        self.weights = weights / weights.sum()
        self._opened: OrderedDict[int, Source] = OrderedDict()

    def __getitem__(self, key: tuple[int, int]) -> tuple[Tensor, Tensor]:
        """Sample `number` of an epoch.

        Raises:
            InputError: nothing could be drawn in many attempts.
        """
        epoch, number = key
        rng = np.random.default_rng([self.seed, epoch, number])
        span = SLICE_SPAN if self.length == 1 else CLIP_SPAN
        for _ in range(_ATTEMPTS):
            source = self.source(int(rng.choice(len(self.cases), p=self.weights)))
            shape = (self.length, self.size, span, self.paint_probability)
            clip = draw_clip(rng, source, *shape, gaps=GAPS, whole_slices=self.whole_slices)
            if clip is None:
                continue
            image, mask = clip[0], clip[1].astype(np.uint8)
            if self.transform is None:
                return torch.from_numpy(image), torch.from_numpy(mask)
            changed = self._transformed(image, mask, rng)
            if changed is not None:
                return changed
        raise InputError(
            f"no clip of {self.length} slices could be drawn from {self.name} in {_ATTEMPTS} attempts; "
            "its objects are too small or too short, or the transform moves them out of the window"
        )

    def source(self, number: int) -> Source:
        """The case of that number, opened."""
        case = self.cases[number]
        if self.cache is None or not case.cached:
            return read_source(case)
        if number not in self._opened:
            self._opened[number] = self.cache.open(case)
            if len(self._opened) > _OPEN:
                self._opened.popitem(last=False)
        self._opened.move_to_end(number)
        return self._opened[number]

    def _fits(self, source: Source) -> bool:
        axes = source.axes[:1] if self.whole_slices else source.axes
        return bool(source.ids) and any(source.labels.shape[axis] >= self.length for axis in axes)

    def _transformed(
        self, image: np.ndarray, mask: np.ndarray, rng: np.random.Generator
    ) -> tuple[Tensor, Tensor] | None:
        """After the transform; None if that left too little of the object on the first slice."""
        transform: Any = self.transform
        if hasattr(transform, "set_random_state"):
            transform.set_random_state(seed=int(rng.integers(2**31)))
        given = {"image": torch.from_numpy(image).float(), "mask": torch.from_numpy(mask).float()}
        done = transform(given)
        found = {key: torch.as_tensor(np.asarray(done[key])) for key in given}
        for key, value in found.items():
            if value.shape != given[key].shape:
                raise InputError(
                    f"the transform made {key} {tuple(value.shape)} of {tuple(given[key].shape)}; it must keep the "
                    "shape (T, H, W)"
                )
        pixels = found["image"].float().nan_to_num().clamp(0, 255).round().to(torch.uint8)
        inside = (found["mask"] > 0.5).to(torch.uint8)
        return (pixels, inside) if int(inside[0].sum()) >= MIN_PIXELS else None

    def __getstate__(self) -> dict[str, Any]:
        return {**self.__dict__, "_opened": OrderedDict()}
