"""A tiny EndoVis18: four releases, doubled folders, macOS shadows, two forms of labels.json, RGB and RGBA, repairs."""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from limnet.datasets.endovis18 import CLASSES, COLOURS
from tests.helpers.fake_nifti import write_side_file
from tests.helpers.fake_pictures import disc, photo, write_picture

RELEASES = {1: range(1, 5), 2: range(5, 8), 3: range(9, 13), 4: range(13, 17)}
FRAMES = 9
NAMES = {0: "background-tissue", **CLASSES}
COLOUR_OF = {number: colour for colour, number in reversed(COLOURS.items())}


def build(root: Path, frames: int = FRAMES) -> Path:
    """All 15 training and 4 test sequences; release 2 is doubled, the test folder is a drive download."""
    for release, numbers in RELEASES.items():
        name = f"miccai_challenge_2018_release_{release}"
        base = root / name / name if release == 2 else root / name
        for number in numbers:
            write_sequence(base / f"seq_{number}", number, frames)
        (base / "labels.json").write_text(json.dumps(table()))
        shadow = root / name / "__MACOSX" / name / f"seq_{numbers[0]}" / "left_frames"
        shadow.mkdir(parents=True)
        write_side_file(shadow / "frame000.png")
    for number in range(1, 5):
        write_sequence(root / "test_data" / f"seq_{number}-20200101T-001" / f"seq_{number}", number, frames, rgba=True)
    classes = [
        {"name": "intestine" if n == 10 else name, "color": [*COLOUR_OF[n], 128], "active": True, "classid": n}
        for n, name in NAMES.items()
    ]
    (root / "test_data" / "labels.json").write_text(json.dumps({"classes": classes}))
    repaired = colours(scene(3, 0))
    write_picture(root / "repairs" / "seq_1_frame003.png", repaired)
    write_side_file(root / "repairs" / "seq_1_frame003.png")
    return root


def table() -> list[dict]:
    return [{"name": name, "color": list(COLOUR_OF[n]), "classid": n} for n, name in NAMES.items()]


def scene(frame: int, number: int) -> NDArray[np.uint8]:
    """Parenchyma (4), shaft (1) and, in odd sequences, thread (6); sequence 0 is the repaired one."""
    labels = np.zeros((40, 56), np.uint8)
    labels[disc(20, 28, 15)] = 4
    labels[disc(14, 14 + frame, 8)] = 1
    if number % 2:
        labels[30:33, 10:40] = 6
    return labels


def colours(labels: NDArray[np.uint8]) -> NDArray[np.uint8]:
    lookup = np.array([COLOUR_OF[n] for n in range(12)], np.uint8)
    return lookup[labels]


def write_sequence(folder: Path, number: int, frames: int, rgba: bool = False) -> None:
    for frame in range(frames):
        labels = scene(frame, number)
        write_picture(folder / "left_frames" / f"frame{frame:03d}.png", photo(labels, number))
        if frame == 0:
            write_picture(folder / "right_frames" / f"frame{frame:03d}.png", photo(labels, number))
        mask = colours(labels)
        if rgba:
            mask = np.concatenate([mask, np.full((*labels.shape, 1), 128, np.uint8)], -1)
        write_side_file(write_picture(folder / "labels" / f"frame{frame:03d}.png", mask))
    (folder / "camera_calibration.txt").write_text("fx 1\n")
