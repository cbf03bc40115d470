"""The objects of a labelled case, in a fixed order: what a benchmark segments."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from typing import TYPE_CHECKING, Any, NamedTuple

import numpy as np
from numpy.typing import NDArray
from scipy import ndimage

from limnet.errors import InputError

if TYPE_CHECKING:
    from limnet.data.dataset import LabelledCase

SMALLEST = 300
COMPONENTS: tuple[str, ...] = ("lesion", "nodule")


class BenchObject(NamedTuple):
    """One object to segment.

    Attributes:
        case: name of its case.
        object: name, unique within the case; stable as long as the labels are.
        group: row of the tables it belongs to.
        axis: slice axis.
        mask: the truth, bool (D, H, W).
    """

    case: str
    object: str
    group: str
    axis: int
    mask: NDArray[np.bool_]


def iter_objects(
    case: LabelledCase,
    smallest: int = SMALLEST,
    components: Sequence[str] = COMPONENTS,
    per_case: int | None = None,
    *,
    axis: int = 0,
    group: str | None = None,
    merge: Mapping[str, Sequence[int]] | None = None,
    labels: NDArray[np.integer] | None = None,
) -> Iterator[BenchObject]:
    """Yield the objects of a case by ascending label, one mask at a time.

    Every label is one object, with the labels that are part of it (`LabelledCase.includes`), except those whose name
    holds a word of `components`: there every 26-connected component is one, numbered in array order ("lesion 3").

    Args:
        case: the case.
        smallest: least number of voxels.
        components: words that mark labels of many separate things.
        per_case: at most that many objects, spread evenly over all of them; None takes all.
        axis: slice axis handed on.
        group: group of all objects; by default the name of their label.
        merge: instead of the labels, objects made of several of them: name -> label ids, such as
            {"kidney": (1, 2), "tumour": (2,)}. Absent ids are no error.
        labels: label map already read; `case.read_labels()` by default.

    Raises:
        InputError: `per_case` or `smallest` below 1, labels that are no integer volume.
    """
    if smallest < 1 or (per_case is not None and per_case < 1):
        raise InputError(f"smallest is {smallest} and per_case {per_case}; give numbers of at least 1")
    array = np.asarray(case.read_labels() if labels is None else labels)
    if array.ndim != 3 or array.dtype.kind not in "iub":
        raise InputError(f"labels of {case.name} are {array.dtype} {array.shape}; an integer (D, H, W) map is expected")
    found: list[tuple[str, str, NDArray[Any], tuple[int, ...]]] = []
    for name, ids in _targets(array, case, merge):
        if any(word in name.lower() for word in components):
            parts, number = ndimage.label(_where(array, ids), np.ones((3, 3, 3)))
            sizes = np.bincount(parts.ravel(), minlength=number + 1)
            found += [(f"{name} {i}", name, parts, (i,)) for i in range(1, number + 1) if sizes[i] >= smallest]
        elif np.count_nonzero(_where(array, ids)) >= smallest:
            found.append((name, name, array, ids))
    for i in evenly_spread(len(found), per_case):
        name, label, source, ids = found[i]
        yield BenchObject(case.name, name, group or label, axis, _where(source, ids))


def evenly_spread(number: int, limit: int | None) -> list[int]:
    """At most `limit` of the indices 0..number-1, first and last included, at even distances."""
    if number == 0:
        return []
    count = number if limit is None else min(limit, number)
    return [int(i) for i in np.unique(np.linspace(0, number - 1, count).round())]


def _targets(
    array: NDArray[Any], case: LabelledCase, merge: Mapping[str, Sequence[int]] | None
) -> list[tuple[str, tuple[int, ...]]]:
    if merge is not None:
        return [(name, tuple(int(i) for i in ids)) for name, ids in merge.items()]
    present = [int(i) for i in np.unique(array[array > 0])]
    given = [case.labels.get(i, f"id {i}") for i in present]
    # Label maps with one name for several ids exist; objects need names of their own.
    unique = [n if given.count(n) == 1 else f"{n} (id {i})" for i, n in zip(present, given, strict=True)]
    return [(name, (i, *case.includes.get(i, ()))) for name, i in zip(unique, present, strict=True)]


def _where(array: NDArray[Any], ids: tuple[int, ...]) -> NDArray[np.bool_]:
    return array == ids[0] if len(ids) == 1 else np.isin(array, ids)
