"""Named mixes of data sets with sampling weights, for `--mix` of the recipes.

The paper names the data sets of its stages and counts their training images (Table III) but gives no sampling weights;
here a data set is drawn as often as it has images there, so that every image counts alike. Its in-house CT and
ultrasound slices have never been published: your own take their place, as `slices` or as `folder`.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Any

from limnet.datasets.registry import dataset_class
from limnet.errors import InputError

if TYPE_CHECKING:
    from limnet.data.dataset import LabelledDataset


@dataclass(frozen=True)
class Part:
    """One share of a mix.

    Attributes:
        name: data set in `limnet.datasets.registry.DATASETS`.
        weight: how often it is drawn, relative to the other parts.
        options: arguments of the data set besides its folder.
        instead: other data sets that may stand for it, or beside it; all their folders share the weight.
    """

    name: str
    weight: float
    options: Mapping[str, Any] = field(default_factory=dict)
    instead: tuple[str, ...] = ()

    @property
    def names(self) -> tuple[str, ...]:
        """The data set and those that may stand for it."""
        return (self.name, *self.instead)


@dataclass(frozen=True)
class Mix:
    """Parts, and how often an image is painted anew from its label map.

    Attributes:
        parts: what is drawn from.
        paint: `paint_probability` of `CaseDataModule`.
    """

    parts: tuple[Part, ...]
    paint: float = 0.0

    @property
    def names(self) -> list[str]:
        """Data sets of the mix, each once."""
        return list(dict.fromkeys(name for part in self.parts for name in part.names))


IN_HOUSE = Part("slices", 683 + 3_323, instead=("folder",))  # ultrasound and CT slices


def _parts(**weights: float) -> tuple[Part, ...]:
    return tuple(Part(name.replace("_", "-"), weight) for name, weight in weights.items())


MIXES: dict[str, Mix] = {
    # the open volumes and pictures; `load_mix(weights=)` says how often groups of their files are drawn
    "open": Mix((Part("open", 1.0, {"painted": True}),), paint=0.3),
    # the stages of the paper, by training images
    "paper-stage1": Mix(
        (
            *_parts(ishape=10_185, amos22_ct=6_263, coco_lvis=99_354),
            Part("davis585", 585, {"protocol": "paper"}),
            IN_HOUSE,
        )
    ),
    "paper-stage2": Mix((*_parts(amos22_ct=6_263, msd_colon=1_034, msd_lung=1_140, kits19=14_072), IN_HOUSE)),
    "paper-stage3": Mix(_parts(msd_colon=1_034, msd_lung=1_140, kits19=14_072)),
    "paper-propagation": Mix(_parts(msd_colon=1_034, msd_lung=1_140, kits19=14_072)),
    # its four defect sets, alike: organ and tumour of KiTS19 are two of them
    "paper-quality": Mix(_parts(kits19=2, msd_lung=1, msd_colon=1)),
}
"""Name -> mix."""


def load_mix(
    name: str, roots: Sequence[tuple[str, Path]], weights: Path | None = None
) -> list[tuple[LabelledDataset, float]]:
    """Open the data sets of a mix that are at hand, with their weights.

    Args:
        name: in `MIXES`.
        roots: (name of a data set, folder). A data set may come in several folders, which share its weight; those of
            the mix that have no folder are left out.
        weights: for `open`: how often groups of its files are drawn, a file for `limnet.datasets.open.read_weights`;
            all alike without one.

    Returns:
        Data sets and weights for `CaseDataModule`.

    Raises:
        InputError: an unknown mix, a data set that is not part of it, or no folder at all.
        MissingFileError: a folder that is not that data set.
    """
    if name not in MIXES:
        raise InputError(f"mix {name!r} is unknown; there are {', '.join(MIXES)}")
    mix = MIXES[name]
    foreign = sorted({data for data, _ in roots} - set(mix.names))
    if foreign:
        raise InputError(f"{', '.join(foreign)} is no part of the mix {name}; its data sets are {', '.join(mix.names)}")
    if not roots:
        raise InputError(f"the mix {name} needs a folder for at least one of {', '.join(mix.names)}")
    found = []
    for part in mix.parts:
        folders = [(data, folder) for data, folder in roots if data in part.names]
        for data, folder in folders:
            if data == "open" and weights is not None:
                found += _weighted(folder, part, weights)
            else:
                found.append((dataset_class(data)(folder, **part.options), part.weight / len(folders)))
    return found


def _weighted(root: Path, part: Part, weights: Path) -> list[tuple[LabelledDataset, float]]:
    """The groups of the open volumes that a folder has; those that only validate are never drawn."""
    from limnet.datasets.open import OpenDataset, read_weights

    groups = {**read_weights(weights, "val"), **read_weights(weights, "train")}
    found = [(OpenDataset(root, groups=(group,), **part.options), weight) for group, weight in groups.items()]
    return [(data, weight) for data, weight in found if data.files]
