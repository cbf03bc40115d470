"""The CVPR 2025 challenge on interactive 3D segmentation: a box, then five clicks for every object; its scores."""

from __future__ import annotations

import math
from collections import Counter
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import cast

import numpy as np
from numpy.typing import NDArray
from scipy import ndimage

from benchmarks.core.record import Record
from benchmarks.core.rounds import Mask, Prompts, Rounds, Target, Voxel
from benchmarks.core.suite import ObjectChoice, Suite, SuiteOptions
from limnet.datasets.cvpr25 import Cvpr25Dataset, read_boxes
from limnet.datasets.registry import open_dataset, parse_options
from limnet.errors import InputError
from limnet.metrics.interaction import COUNTED, challenge_scores
from limnet.simulation.clicks import RobotClick, largest_errors

CLICKS = 5
SEED = 42
LARGE = 60_000_000  # voxels of a crop from which distances are taken at half resolution
NAMES = ("DSC_AUC", "NSD_AUC", "DSC_Final", "NSD_Final")
NOTE = (
    "Boxes are those of the files; a method that takes no box begins with the first click. Clicks follow the rule of "
    "the challenge's evaluation script. Its limit of 90 s per object "
    "is not enforced, and the model stays loaded between steps."
)


def build(root: Path, options: SuiteOptions) -> Suite:
    """The validation files, or those of another split; groups are the modalities of the file names.

    `options.dataset` may give arguments of the data set's class, as "cvpr25:spacing_order=xyz".

    Raises:
        InputError: another data set, or an option that the protocol leaves no room for.
    """
    if options.jitter is not None or options.seed is not None:
        raise InputError("benchmark cvpr25 clicks by a fixed rule; leave --jitter and --seed out")
    name, given = parse_options(options.dataset or "cvpr25")
    if name != "cvpr25":
        raise InputError(
            f"benchmark cvpr25 was given the data set {name!r}; it reads cvpr25 alone, such as --name "
            "cvpr25:spacing_order=xyz. Others are run by limnet bench dataset"
        )
    dataset = cast(Cvpr25Dataset, open_dataset(name, root, **given))
    found = dataset.cases(options.split or "val")
    cases = options.few_of_groups(found, [modality_of(case.name) for case in found])
    clicks = options.rounds or CLICKS
    nsd_mm = ChallengeRounds.nsd_mm if options.nsd_mm is None else options.nsd_mm
    rounds = ChallengeRounds(clicks, nsd_mm, files={case.name: dataset.image_file(case) for case in cases})
    return Suite(
        name="cvpr25",
        title="CVPR 2025 interactive segmentation",
        cases=cases,
        rounds=rounds,
        choice=options.chosen(ObjectChoice(smallest=1, components=())),
        group=modality_of,
        parts={name: given} if given else {},
        scores="challenge" if clicks == CLICKS else None,
        note=NOTE if clicks == CLICKS else f"{NOTE} Scores of the challenge need {CLICKS} clicks.",
    )


@dataclass(frozen=True)
class ChallengeRounds(Rounds):
    """Round 0 is the box stored with the case, rounds 1 to `clicks` are one click each.

    A case without a box, or a method that takes none, begins with the first click. All rounds are reported: where
    nothing is left to correct a round repeats the one before.

    Attributes:
        clicks: number of clicks.
        nsd_mm: tolerance of the surface Dice in mm.
        rule: version of `challenge_click`; objects played by another one are played again.
        files: case -> file with its boxes, one for each id; objects are called "id 1", "id 2", ...
    """

    clicks: int = CLICKS
    nsd_mm: float = 2.0
    rule: int = 2
    files: Mapping[str, Path] = field(default_factory=dict, repr=False, metadata={"config": False})

    per_slice = False

    def prompts(self, target: Target, mask: Mask, boxes: bool) -> Prompts:
        """See `Rounds.prompts`."""
        corners = self._corners(target.case, target.object) if boxes else None
        if corners is not None:
            mask = yield [corners]
        for _ in range(self.clicks):
            click = challenge_click(target.truth, mask)
            mask = yield [] if click is None else [(click.zyx, click.positive)]

    def _corners(self, case: str, object: str) -> tuple[Voxel, Voxel] | None:
        boxes = read_boxes(self.files[case]) if case in self.files else None
        number = int(object.removeprefix("id ")) if object.removeprefix("id ").isdigit() else 0
        if boxes is None or not 1 <= number <= len(boxes):
            return None
        box = boxes[number - 1]
        lo = (box["z_min"], box["z_mid_y_min"], box["z_mid_x_min"])
        return lo, (box["z_max"], box["z_mid_y_max"], box["z_mid_x_max"])


def challenge_click(truth: NDArray[np.bool_], mask: NDArray[np.bool_]) -> RobotClick | None:
    """The challenge's next click: the deepest voxel of the largest error, whatever its kind; None without errors.

    The error is one mask, missed and surplus voxels together; its largest 26-connected component is taken. Distances
    are in voxels, on the component's box with a quarter of its size (at least 1) of nothing around it, so that the
    border of the volume is a border of the error, too. Of equally deep voxels one is drawn as the challenge's script
    does, with the same seed at every call.

    Args:
        truth: bool (D, H, W).
        mask: bool (D, H, W), the segmentation so far.
    """
    errors = largest_errors(truth ^ mask, np.zeros_like(mask))
    if not errors:
        return None
    where, size, inside, _ = errors[0]
    pads = [max(1, n // 4) for n in inside.shape]
    distance = _distance(np.pad(inside, [(pad, pad) for pad in pads]))
    distance = distance[tuple(slice(pad, pad + n) for pad, n in zip(pads, inside.shape, strict=True))] * inside
    deepest = np.argwhere(distance == distance.max())
    voxel = deepest[np.random.RandomState(SEED).choice(len(deepest))]
    z, y, x = (int(v) + s.start for v, s in zip(voxel, where, strict=True))
    return RobotClick((z, y, x), bool(truth[z, y, x]), size)


def _distance(region: NDArray[np.bool_]) -> NDArray[np.float64]:
    """Distance in voxels to the nearest voxel off the region; at half resolution for large regions."""
    if region.size <= LARGE:
        return ndimage.distance_transform_edt(region)
    from skimage.measure import block_reduce

    half = ndimage.distance_transform_edt(block_reduce(region, 2, np.max))
    whole = half.repeat(2, 0).repeat(2, 1).repeat(2, 2)[tuple(slice(n) for n in region.shape)]
    return np.where(region, whole, 0.0)


def challenge_means(results: Record) -> dict[str, tuple[int, dict[str, float]]]:
    """Number of cases and mean scores over them, by group and for "all", from Dice and NSD of every round.

    A case's scores are those of the mean over its objects. As in the challenge whatever failed counts with 0 in all
    steps: an object, a case of which every object failed, and a case that could not be read at all.
    """
    measured = bool(results.rows)
    dice, nsd = (results.table.curves(column) if measured else {} for column in ("dice", "nsd"))
    zeros = [0.0] * max((len(curve) for curve in dice.values()), default=COUNTED)
    failed = Counter(str(error["case"]) for error in results.errors if error["object"])
    # The error of a whole case counts where nothing else is known of the case.
    unread = {str(error["case"]) for error in results.errors} - failed.keys() - {case for case, _ in dice}
    failed.update(unread)
    group_of = {case: modality_of(case) for case in failed} | {str(o["case"]): str(o["group"]) for o in results.rows}
    scores: dict[str, list[dict[str, float]]] = {}
    for case, group in sorted(group_of.items()):
        names = [name for name in dice if name[0] == case]
        lost = [zeros] * failed[case]
        found = challenge_scores([*(dice[n] for n in names), *lost], [*(nsd[n] for n in names), *lost])
        scores.setdefault(group, []).append(found)
    every = [found for group in sorted(scores) for found in scores[group]]
    return {
        group: (len(some), {name: math.fsum(found[name] for found in some) / len(some) for name in NAMES})
        for group, some in [*sorted(scores.items()), ("all", every)]
        if some
    }


def modality_of(case: str, label: str = "") -> str:
    """The group of a case of the challenge: the modality that its file name begins with."""
    return case.split("_")[0]
