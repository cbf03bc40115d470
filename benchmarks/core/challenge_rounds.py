"""The rounds of the CVPR 2025 interactive challenge: a box, then five clicks."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path

import numpy as np
from numpy.typing import NDArray
from scipy import ndimage

from benchmarks.core.protocol import BoxSession, Session, Voxel
from benchmarks.core.rounds import RoundRow, fell, surface_score, timed_mask
from limnet.datasets.cvpr25 import read_boxes
from limnet.metrics.interaction import click_compliance
from limnet.metrics.overlap import dice
from limnet.simulation.clicks import RobotClick
from limnet.volume import Volume

CLICKS = 5
SEED = 42
LARGE = 60_000_000  # voxels of a crop from which distances are taken at half resolution
_CONNECTED_26 = np.ones((3, 3, 3), dtype=bool)


@dataclass(frozen=True)
class ChallengeRounds:
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

    @property
    def rounds(self) -> int:
        """Number of clicks."""
        return self.clicks

    def play(
        self,
        session: Session,
        volume: Volume,
        truth: NDArray[np.bool_],
        axis: int,
        case: str = "",
        object: str = "",
    ) -> list[RoundRow]:
        """Play all rounds; see `Rounds.play`."""
        mask = np.zeros(truth.shape, dtype=bool)
        rows: list[RoundRow] = []
        given: list[tuple[Voxel, bool]] = []

        def measured(number: int, click: RobotClick | None, seconds: float) -> RoundRow:
            score = dice(mask, truth)
            return RoundRow(
                round=number,
                dice=score,
                zyx=None if click is None else click.zyx,
                positive=None if click is None else click.positive,
                compliance=click_compliance(mask, given) if given else None,
                lost=fell(rows[-1].dice if rows else None, score),
                seconds=seconds,
                nsd=surface_score(mask, truth, volume.spacing, self.nsd_mm),
            )

        corners = self._corners(case, object)
        if corners is not None and isinstance(session, BoxSession):
            mask, seconds = timed_mask(truth.shape, session.box, *corners)
            rows.append(measured(0, None, seconds))
        for number in range(1, self.clicks + 1):
            click = challenge_click(truth, mask)
            if click is None:
                repeated = rows[-1] if rows else measured(number, None, 0.0)
                rows.append(repeated._replace(round=number, zyx=None, positive=None, lost=False, seconds=0.0))
                continue
            mask, seconds = timed_mask(truth.shape, session.click, click.zyx, click.positive)
            given.append((click.zyx, click.positive))
            rows.append(measured(number, click, seconds))
        return rows

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
    error = truth ^ mask
    if not error.any():
        return None
    parts, _ = ndimage.label(error, _CONNECTED_26)
    sizes = np.bincount(parts.ravel())
    sizes[0] = 0
    best = int(np.argmax(sizes))
    found = ndimage.find_objects(parts, max_label=best)[best - 1]
    pads = [max(1, int((s.stop - s.start) * 0.25)) for s in found]
    inside = np.asarray(parts[found] == best)
    distance = _distance(np.pad(inside, [(pad, pad) for pad in pads]))
    distance = distance[tuple(slice(pad, pad + n) for pad, n in zip(pads, inside.shape, strict=True))] * inside
    deepest = np.argwhere(distance == distance.max())
    voxel = deepest[np.random.RandomState(SEED).choice(len(deepest))]
    z, y, x = (int(v) + s.start for v, s in zip(voxel, found, strict=True))
    return RobotClick((z, y, x), bool(truth[z, y, x]), int(sizes[best]))


def _distance(region: NDArray[np.bool_]) -> NDArray[np.float64]:
    """Distance in voxels to the nearest voxel off the region; at half resolution for large regions."""
    if region.size <= LARGE:
        return ndimage.distance_transform_edt(region)
    even = np.pad(region, [(0, n % 2) for n in region.shape])
    d, h, w = (n // 2 for n in even.shape)
    pooled: NDArray[np.bool_] = np.asarray(even.reshape(d, 2, h, 2, w, 2).any(axis=(1, 3, 5)))
    half = ndimage.distance_transform_edt(pooled)
    whole = half.repeat(2, 0).repeat(2, 1).repeat(2, 2)[tuple(slice(n) for n in region.shape)]
    return np.where(region, whole, 0.0)
