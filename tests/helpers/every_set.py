"""A fake of every data set in the table, in its true layout, the folders of the benchmarks, and what `check` says."""

from __future__ import annotations

from collections.abc import Callable
from functools import partial
from pathlib import Path

from limnet.data.dataset import LabelledDataset
from tests.helpers import fake_picture_sets as pictures
from tests.helpers import fake_volumes as volumes
from tests.helpers.fake_folders import write_decathlon, write_folder, write_nnunet

Sets = dict[str, Callable[[Path], Path]]
MEDICAL_SETS: Sets = {
    "amos22": volumes.build_amos22,
    "amos22-ct": volumes.build_amos22,
    "amos22-mr": volumes.build_amos22,
    "bids": volumes.build_bids,
    "btcv": volumes.build_btcv,
    "cvpr25": volumes.build_cvpr25,
    "kits19": volumes.build_kits19,
    "msd-colon": partial(volumes.build_msd, task="Task10_Colon"),
    "msd-lung": partial(volumes.build_msd, task="Task06_Lung"),
    "msd-pancreas": partial(volumes.build_msd, task="Task07_Pancreas"),
    "totalsegmentator": volumes.build_totalsegmentator,
}
OWN_SETS: Sets = {
    "decathlon": write_decathlon,
    "folder": write_folder,
    "nnunet": write_nnunet,
    "open": volumes.build_open,
}
VIDEO_SETS: Sets = {
    "davis2017": pictures.build_davis,
    "endovis18": pictures.build_endovis18,
    "youtube-vos": pictures.build_youtube,
}
TEST_PICTURE_SETS: Sets = {
    "berkeley": pictures.build_berkeley,
    "davis345": pictures.build_davis345,
    "grabcut": pictures.build_grabcut,
}
PICTURE_SETS: Sets = {
    "coco-lvis": pictures.build_coco_lvis,
    "davis585": pictures.build_davis585,
    "ishape": pictures.build_ishape,
    "sbd": pictures.build_sbd,
    "slices": pictures.build_slices,
    "static-sets": pictures.build_static_sets,
    **TEST_PICTURE_SETS,
}
EVERY_SET: Sets = {**MEDICAL_SETS, **OWN_SETS, **VIDEO_SETS, **PICTURE_SETS}
TRAINED_SETS = sorted(set(EVERY_SET) - set(TEST_PICTURE_SETS))
"""Those with cases to train on."""
CLIP_SETS = sorted({*MEDICAL_SETS, *OWN_SETS, *VIDEO_SETS})
"""Those with neighbouring slices to train propagation on."""
SIZES = {**dict.fromkeys(TEST_PICTURE_SETS, pictures.CLICK_OBJECTS), "davis585": pictures.DAVIS585_OBJECTS}
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


def table_root(root: Path, kits: tuple[int, ...] = (0, 2, 7)) -> Path:
    """The data sets of the paper's tables side by side, as `limnet bench table1 --data ROOT` wants them."""
    volumes.build_kits19(root / "KiTS19", kits)
    for task in volumes.TASKS:
        volumes.build_msd(root, task)
    volumes.build_btcv(root / "BTCV")
    pictures.build_endovis18(root / "EndoVis18", 3)
    return root


def picture_root(root: Path) -> Path:
    """All sets of the click benchmark: GrabCut 3 objects, Berkeley 3, SBD 2 (val), DAVIS 3, DAVIS-585 12."""
    pictures.build_grabcut(root / "GrabCut")
    pictures.build_berkeley(root / "Berkeley")
    pictures.build_sbd(root / "SBD")
    pictures.build_davis345(root / "DAVIS")
    return pictures.build_davis585(root)
