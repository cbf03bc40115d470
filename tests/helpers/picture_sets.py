"""Fakes of the picture and film sets by the name of their data set."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

from tests.helpers import (
    fake_benchmarks_2d,
    fake_coco_lvis,
    fake_davis585,
    fake_endovis18,
    fake_films,
    fake_ishape,
    fake_slices,
    fake_static_sets,
)

FILM_SETS: dict[str, Callable[[Path], Path]] = {
    "davis2017": fake_films.build_davis,
    "endovis18": fake_endovis18.build,
    "youtube-vos": fake_films.build_youtube,
}
TRAINING_PICTURE_SETS: dict[str, Callable[[Path], Path]] = {
    "coco-lvis": fake_coco_lvis.build,
    "davis585": fake_davis585.build,
    "ishape": fake_ishape.build,
    "sbd": fake_benchmarks_2d.build_sbd,
    "slices": fake_slices.build,
    "static-sets": fake_static_sets.build,
}
TEST_PICTURE_SETS: dict[str, Callable[[Path], Path]] = {
    "berkeley": fake_benchmarks_2d.build_berkeley,
    "davis345": fake_benchmarks_2d.build_davis345,
    "grabcut": fake_benchmarks_2d.build_grabcut,
}
PICTURE_SETS = {**TRAINING_PICTURE_SETS, **TEST_PICTURE_SETS, **FILM_SETS}
