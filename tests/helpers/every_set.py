"""A fake of every data set in the table, in its true layout, and what `check` says of one."""

from __future__ import annotations

from collections.abc import Callable
from functools import partial
from pathlib import Path

from limnet.data.dataset import LabelledDataset
from tests.helpers import (
    fake_amos22,
    fake_benchmarks_2d,
    fake_bids,
    fake_btcv,
    fake_coco_lvis,
    fake_cvpr25,
    fake_davis585,
    fake_endovis18,
    fake_films,
    fake_ishape,
    fake_kits19,
    fake_msd,
    fake_open,
    fake_slices,
    fake_static_sets,
    fake_totalsegmentator,
)
from tests.helpers.fake_folders import write_decathlon, write_folder, write_nnunet

Sets = dict[str, Callable[[Path], Path]]
MEDICAL_SETS: Sets = {
    "amos22": fake_amos22.build,
    "amos22-ct": fake_amos22.build,
    "amos22-mr": fake_amos22.build,
    "bids": fake_bids.build,
    "btcv": fake_btcv.build,
    "cvpr25": fake_cvpr25.build,
    "kits19": fake_kits19.build,
    "msd-colon": partial(fake_msd.build, task="Task10_Colon"),
    "msd-lung": partial(fake_msd.build, task="Task06_Lung"),
    "msd-pancreas": partial(fake_msd.build, task="Task07_Pancreas"),
    "totalsegmentator": fake_totalsegmentator.build,
}
OWN_SETS: Sets = {
    "decathlon": write_decathlon,
    "folder": write_folder,
    "nnunet": write_nnunet,
    "open": fake_open.build,
}
VIDEO_SETS: Sets = {
    "davis2017": fake_films.build_davis,
    "endovis18": fake_endovis18.build,
    "youtube-vos": fake_films.build_youtube,
}
TEST_PICTURE_SETS: Sets = {
    "berkeley": fake_benchmarks_2d.build_berkeley,
    "davis345": fake_benchmarks_2d.build_davis345,
    "grabcut": fake_benchmarks_2d.build_grabcut,
}
PICTURE_SETS: Sets = {
    "coco-lvis": fake_coco_lvis.build,
    "davis585": fake_davis585.build,
    "ishape": fake_ishape.build,
    "sbd": fake_benchmarks_2d.build_sbd,
    "slices": fake_slices.build,
    "static-sets": fake_static_sets.build,
    **TEST_PICTURE_SETS,
}
EVERY_SET: Sets = {**MEDICAL_SETS, **OWN_SETS, **VIDEO_SETS, **PICTURE_SETS}
TRAINED_SETS = sorted(set(EVERY_SET) - set(TEST_PICTURE_SETS))
"""Those with cases to train on."""
CLIP_SETS = sorted({*MEDICAL_SETS, *OWN_SETS, *VIDEO_SETS})
"""Those with neighbouring slices to train propagation on."""
SIZES = {
    "berkeley": fake_benchmarks_2d.OBJECTS,
    "davis345": fake_benchmarks_2d.OBJECTS,
    "davis585": fake_davis585.OBJECTS,
    "grabcut": fake_benchmarks_2d.OBJECTS,
}
"""Cases of fakes whose owners publish a number of them."""


def problems(dataset: LabelledDataset) -> str:
    """One line for each problem, "case: what -> advice"; every problem must give advice."""
    found = dataset.check()
    assert all(p.what and p.advice for p in found)
    return "\n".join(f"{p.case}: {p.what} -> {p.advice}" for p in found)


def told(dataset: LabelledDataset, *texts: str) -> None:
    """`check` says each of these, in a line of its own, and nothing else; " ... " stands between parts of a line."""
    lines = problems(dataset).splitlines()
    for text in texts:
        assert any(all(part in line for part in text.split(" ... ")) for line in lines), (text, lines)
    assert len(lines) == len(texts), lines
