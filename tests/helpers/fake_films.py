"""Tiny DAVIS 2017 and YouTube-VOS: palette masks, undecided pixels, objects that come late, frames in steps of 5."""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from tests.helpers.fake_nifti import write_side_file
from tests.helpers.fake_pictures import disc, photo, write_palette, write_picture

DAVIS_FILMS = {"train": ("bear", "bike-trial"), "val": ("goat",)}
YOUTUBE_FILMS = ("003234408d", "0043f083b5", "0044fa5fba", "005a527edd")
FRAMES = 9


def moving(frame: int, shape: tuple[int, int], late: bool = True) -> NDArray[np.uint8]:
    """Object 1 moves; object 2 is there from frame 2 on."""
    labels = np.zeros(shape, np.uint8)
    labels[disc(16, 14 + frame, 9, shape)] = 1
    if frame >= 2 or not late:
        labels[disc(28, 44 - frame, 7, shape)] = 2
    return labels


def build_davis(root: Path, year: int = 2017) -> Path:
    """`root`/DAVIS with lists of both years; films are of different width, object borders undecided."""
    base = root / "DAVIS"
    for number, film in enumerate([*DAVIS_FILMS["train"], *DAVIS_FILMS["val"]]):
        shape = (40, 56 + 4 * number)
        for frame in range(FRAMES):
            labels = moving(frame, shape)
            path = base / "JPEGImages/480p" / film / f"{frame:05d}.jpg"
            write_side_file(write_picture(path, photo(labels, number)))
            if year == 2017:
                labels[0, :3] = 255
                write_palette(base / "Annotations/480p" / film / f"{frame:05d}.png", labels)
            else:
                mask = ((labels == 1) * 255).astype(np.uint8)
                write_picture(base / "Annotations/480p" / film / f"{frame:05d}.png", mask)
    for split, films in DAVIS_FILMS.items():
        folder = base / "ImageSets" / str(year)
        folder.mkdir(parents=True, exist_ok=True)
        lines = films
        if year == 2016:
            lines = tuple(
                f"/JPEGImages/480p/{film}/{n:05d}.jpg /Annotations/480p/{film}/{n:05d}.png"
                for film in films
                for n in range(FRAMES)
            )
        (folder / f"{split}.txt").write_text("\n".join(lines) + "\n")
    return root


def build_youtube(root: Path, folder: str = "train") -> Path:
    """`root`/train with meta.json, films of two objects; the second one comes late."""
    base = root / folder
    videos = {}
    for number, film in enumerate(YOUTUBE_FILMS):
        for frame in range(FRAMES):
            labels = moving(frame, (40, 56))
            name = f"{5 * frame:05d}"
            write_side_file(write_picture(base / "JPEGImages" / film / f"{name}.jpg", photo(labels, number)))
            write_palette(base / "Annotations" / film / f"{name}.png", labels)
        second = "penguin" if number else "zebra"
        objects = {
            "1": {"category": "penguin", "frames": [f"{5 * n:05d}" for n in range(FRAMES)]},
            "2": {"category": second, "frames": [f"{5 * n:05d}" for n in range(2, FRAMES)]},
        }
        videos[film] = {"objects": objects}
    (root / "train").mkdir(exist_ok=True)
    (root / "train" / "meta.json").write_text(json.dumps({"videos": videos}))
    return root
