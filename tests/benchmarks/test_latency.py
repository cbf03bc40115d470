"""What `limnet bench latency` makes of volumes, clicks and rows."""

from __future__ import annotations

from pathlib import Path
from types import SimpleNamespace

import numpy as np

from benchmarks.core.record import Record
from benchmarks.speed.latency import mirrored, resampled, tables
from benchmarks.speed.latency_process import rounds


def test_volumes_are_mirrored_and_interpolated():
    line = np.arange(4)[:, None, None] * np.ones((1, 2, 2), int)
    assert mirrored(line, (-2, 0, 0), (8, 2, 1))[:, 0, 0].tolist() == [2, 1, 0, 1, 2, 3, 2, 1]
    assert resampled(10 * line, (2, 1, 1), (1, 1, 1)).shape == (8, 2, 2)
    assert resampled(70 * line, (2, 1, 1), (1, 1, 1))[:, 0, 0].tolist() == [0, 30, 60, 90, 120, 150, 180, 210]


def test_the_robot_corrects_the_largest_error_and_hears_of_its_own_slice():
    voxels = np.ones((3, 5, 5), bool)
    voxels[0, :2] = False
    corner = np.array([1, 2, 2])
    clicks = []

    def click(point, positive, on_update):
        clicks.append((point, positive))
        on_update(((0, 1), (0, 1), (0, 1)), None, 0, 1)  # another slice
        mask = np.zeros((6, 9, 9), bool)
        mask[1:4, 2:7, 2:7] = voxels
        mask[5, 4:7, 4:7] = len(clicks) == 1  # too much
        return mask

    case = SimpleNamespace(object=lambda name: SimpleNamespace(click=click))
    row = rounds(case, "ball", {"corner": corner, "voxels": voxels}, 2)
    assert clicks == [((2, 4, 4), True), ((5, 5, 5), False)]
    assert row["dice"] == [2 * 65 / (65 + 74), 1]
    assert row["first"] == row["round"]  # nothing was told of the clicked slice before the end


def test_tables_divide_rounds_of_the_same_object():
    common = {
        "volume": "ct",
        "case": "ct",
        "command": "bench latency",
        "threads": 2,
        "precision": "auto",
        "busy": 0,
        "session": False,
        "slices": 11,
    }
    common |= {"first": [0.1, 0.1], "dice": [0.5, 0.75], "peak": 2**29, "click": [], "click_again": []}
    rows = [
        common | {"version": version, "object": name, "round": [factor * took, took], "variant": version}
        for version, factor in (("now", 1), ("before", 3))
        for name, took in (("liver", 2.0), ("spleen", 1.0))
    ]
    file = {"file": "large.nii", "bytes": 5e8, "read": {"limnet": [0.1, 0.2, 0.9], "nibabel": [0.3]}}
    record = Record(Path("latency.json"), {})
    record.take(
        [*rows, {**file, "variant": "file", "case": "large.nii", "object": "", "command": "bench latency --files"}]
    )
    text = tables(record)
    assert "| 1.50 / 2.00 | 0.10 / 0.10 | 1.50 / 2.00 |  |  | 512 | 3.0, 1.0 | 0.750 |" in text
    assert "Opening a NIfTI file of 500 MB: 0.20 s, nibabel 0.30 s." in text
    assert "    bench latency --files\n" in text
