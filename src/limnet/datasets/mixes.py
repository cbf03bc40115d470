"""Named mixes of data sets with sampling weights, for `--mix` of the recipes.

The paper names the data sets of its stages and counts their training images (Table III) but gives no sampling weights;
here a data set is drawn as often as it has images there, so that every image counts alike. Its in-house CT and
ultrasound slices have never been published: your own take their place, as `slices` or as `folder`.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

from limnet.datasets.registry import dataset_class
from limnet.errors import InputError

if TYPE_CHECKING:
    from limnet.data.dataset import LabelledDataset

_IN_HOUSE = 683 + 3_323  # ultrasound and CT slices
_TUMOURS = {"msd-colon": 1_034, "msd-lung": 1_140, "kits19": 14_072}
MIXES: dict[str, Mapping[str, float]] = {
    # the open volumes and pictures; `load_mix(weights=)` says how often groups of their files are drawn
    "open": {"open": 1.0},
    # the stages of the paper, by training images
    "paper-stage1": {
        "ishape": 10_185,
        "amos22-ct": 6_263,
        "coco-lvis": 99_354,
        "davis585": 585,
        "slices": _IN_HOUSE,
    },
    "paper-stage2": {"amos22-ct": 6_263, **_TUMOURS, "slices": _IN_HOUSE},
    "paper-stage3": _TUMOURS,
    "paper-propagation": _TUMOURS,
    # its four defect sets, alike: organ and tumour of KiTS19 are two of them
    "paper-quality": {"kits19": 2, "msd-lung": 1, "msd-colon": 1},
}
"""Name -> data set in `limnet.datasets.registry.DATASETS` -> how often it is drawn, relative to the others."""
INSTEAD = {"folder": "slices"}
"""Data set -> the one that it may stand for, or beside: all their folders share the weight."""
OPTIONS: dict[str, dict[str, Any]] = {"open": {"painted": True}, "davis585": {"protocol": "paper"}}
"""Data set -> its arguments besides the folder."""
PAINT = {"open": 0.3}
"""Mix -> how often an image is painted anew from its label map; 0 for the others."""


def names_of(mix: str) -> list[str]:
    """Data sets of a mix, and those that may stand for them."""
    return [*MIXES[mix], *(name for name, other in INSTEAD.items() if other in MIXES[mix])]


def load_mix(
    name: str, roots: Sequence[tuple[str, Path]], weights: Path | None = None
) -> list[tuple[LabelledDataset, float]]:
    """The data sets of a mix (in `MIXES`) that are at hand, with their weights, for `CaseDataModule`.

    Args:
        roots: (name of a data set, folder). A data set may come in several folders, which share its weight; those of
            the mix that have no folder are left out.
        weights: for `open`: how often groups of its files are drawn, a file for `limnet.datasets.open.read_weights`;
            all alike without one.

    Raises InputError for an unknown mix, a data set that is not part of it, or no folder at all.
    """
    if name not in MIXES:
        raise InputError(f"mix {name!r} is unknown; there are {', '.join(MIXES)}")
    known = names_of(name)
    if foreign := sorted({data for data, _ in roots} - set(known)):
        raise InputError(f"{', '.join(foreign)} is no part of the mix {name}; its data sets are {', '.join(known)}")
    if not roots:
        raise InputError(f"the mix {name} needs a folder for at least one of {', '.join(known)}")
    found = []
    for part, weight in MIXES[name].items():
        folders = [(data, folder) for data, folder in roots if INSTEAD.get(data, data) == part]
        for data, folder in folders:
            if data == "open" and weights is not None:
                found += _weighted(folder, weights)
            else:
                found.append((dataset_class(data)(folder, **OPTIONS.get(data, {})), weight / len(folders)))
    return found


def _weighted(root: Path, weights: Path) -> list[tuple[LabelledDataset, float]]:
    """The groups of the open volumes that a folder has; those that only validate are never drawn."""
    from limnet.datasets.open import OpenDataset, read_weights

    groups = {**read_weights(weights, "val"), **read_weights(weights, "train")}
    found = [(OpenDataset(root, groups=(group,), **OPTIONS["open"]), weight) for group, weight in groups.items()]
    return [(data, weight) for data, weight in found if data.files]
