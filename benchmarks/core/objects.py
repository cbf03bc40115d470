"""The objects of a labelled case, in a fixed order: what a benchmark segments."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray
from scipy import ndimage

from benchmarks.core.rounds import Target
from limnet.errors import InputError

if TYPE_CHECKING:
    from limnet.data.dataset import LabelledCase
    from limnet.image.volume import Volume


@dataclass(frozen=True)
class ObjectChoice:
    """Which objects of every case a suite takes.

    Every label is one object, with the labels that are part of it (`LabelledCase.includes`), except those whose name
    holds a word of `components`: there every 26-connected component is one, numbered in array order ("lesion 3").

    Attributes:
        smallest: least number of voxels.
        components: words that mark labels of many separate things.
        per_case: at most that many objects of a case, spread evenly over all of them; None takes all.
        axis: slice axis; None takes the one with the thickest slices, the first of equals; 0 for a single image.
        merge: instead of the labels, objects made of several of them: name -> label ids, such as
            {"kidney": (1, 2), "tumour": (2,)}. Absent ids are no error.

    Raises:
        InputError: `per_case` or `smallest` below 1.
    """

    smallest: int = 300
    components: tuple[str, ...] = ("lesion", "nodule")
    per_case: int | None = None
    axis: int | None = 0
    merge: Mapping[str, tuple[int, ...]] | None = None

    def __post_init__(self) -> None:
        if self.smallest < 1 or (self.per_case is not None and self.per_case < 1):
            raise InputError(f"smallest is {self.smallest} and per_case {self.per_case}; give numbers of at least 1")

    def objects(self, case: LabelledCase, volume: Volume) -> Iterator[Target]:
        """Yield the objects of a case with that image by ascending label; groups are the names of labels.

        Raises:
            InputError: labels that are no integer volume.
        """
        array = np.asarray(case.read_labels())
        if array.ndim != 3 or array.dtype.kind not in "iub":
            raise InputError(
                f"labels of {case.name} are {array.dtype} {array.shape}; an integer (D, H, W) map is expected"
            )
        found: list[tuple[str, str, NDArray[Any], tuple[int, ...]]] = []
        for name, ids in self._named(array, case):
            if any(word in name.lower() for word in self.components):
                parts, number = ndimage.label(_where(array, ids), np.ones((3, 3, 3)))
                sizes = np.bincount(parts.ravel(), minlength=number + 1)
                found += [(f"{name} {i}", name, parts, (i,)) for i in range(1, number + 1) if sizes[i] >= self.smallest]
            elif np.count_nonzero(_where(array, ids)) >= self.smallest:
                found.append((name, name, array, ids))
        thickest = 0 if volume.shape[0] == 1 else int(np.argmax(np.round(volume.spacing, 3)))
        axis = thickest if self.axis is None else self.axis
        for i in evenly_spread(len(found), self.per_case):
            name, label, source, ids = found[i]
            yield Target(case.name, name, label, volume, _where(source, ids), axis)

    def _named(self, array: NDArray[Any], case: LabelledCase) -> list[tuple[str, tuple[int, ...]]]:
        """Names, each with its label ids."""
        if self.merge is not None:
            return [(name, tuple(int(i) for i in ids)) for name, ids in self.merge.items()]
        present = [int(i) for i in np.unique(array[array > 0])]
        given = [case.labels.get(i, f"id {i}") for i in present]
        # Label maps with one name for several ids exist; objects need names of their own.
        unique = [n if given.count(n) == 1 else f"{n} (id {i})" for i, n in zip(present, given, strict=True)]
        return [(name, (i, *case.includes.get(i, ()))) for name, i in zip(unique, present, strict=True)]


def evenly_spread(number: int, limit: int | None) -> list[int]:
    """At most `limit` of the indices 0..number-1, first and last included, at even distances."""
    if number == 0:
        return []
    count = number if limit is None else min(limit, number)
    return [int(i) for i in np.unique(np.linspace(0, number - 1, count).round())]


def _where(array: NDArray[Any], ids: tuple[int, ...]) -> NDArray[np.bool_]:
    return array == ids[0] if len(ids) == 1 else np.isin(array, ids)
