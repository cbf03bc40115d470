from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest

from limnet.datasets import mixes
from limnet.datasets.mixes import MIXES, PAINT, load_mix, names_of
from limnet.datasets.registry import DATASETS
from limnet.errors import InputError
from tests.helpers.fake_volumes import build_open


class Recorded:
    """Stands for any data set."""

    def __init__(self, root: Path, **options: Any) -> None:
        self.root, self.options = root, options


@pytest.fixture
def recorded(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(mixes, "dataset_class", lambda name: Recorded)


def test_every_data_set_is_in_the_table() -> None:
    for name, weights in MIXES.items():
        assert set(names_of(name)) <= set(DATASETS), name
        assert min(weights.values()) > 0


def test_mixes_of_the_paper() -> None:
    assert names_of("paper-propagation") == ["msd-colon", "msd-lung", "kits19"]
    assert names_of("paper-stage1") == ["ishape", "amos22-ct", "coco-lvis", "davis585", "slices", "folder"]
    assert {"amos22-ct", "msd-colon", "msd-lung", "kits19"} < set(MIXES["paper-stage2"])
    assert MIXES["paper-quality"] == {"kits19": 2, "msd-lung": 1, "msd-colon": 1}
    assert list(PAINT) == ["open"]


@pytest.mark.usefixtures("recorded")
def test_only_what_is_at_hand_is_drawn_and_folders_share_a_weight() -> None:
    roots = [("kits19", Path("a")), ("folder", Path("b")), ("folder", Path("c"))]
    found: Any = load_mix("paper-stage2", roots)
    assert sorted((str(data.root), weight) for data, weight in found) == [("a", 14_072), ("b", 2_003), ("c", 2_003)]
    # own images in either form stand for the paper's in-house ones, and share their weight
    found = load_mix("paper-stage1", [("folder", Path("b")), ("slices", Path("d"))])
    assert sorted((str(data.root), weight) for data, weight in found) == [("b", 2_003), ("d", 2_003)]


def test_open_volumes_are_weighted_by_group(tmp_path: Path) -> None:
    root = build_open(tmp_path / "open")
    table = tmp_path / "weights.json"
    table.write_text(json.dumps({"train": {"ts_ct": 3.0, "synthseg": 1.0, "absent": 5.0}, "val": {"_9": 2.0}}))
    found: Any = load_mix("open", [("open", root)], table)
    assert [(data.groups, data.painted, weight) for data, weight in found] == [
        (("_9",), True, 2.0),
        (("ts_ct",), True, 3.0),
        (("synthseg",), True, 1.0),
    ]
    ((everything, weight),) = load_mix("open", [("open", root)])
    assert (len(everything.all_cases()), weight) == (7, 1.0)


@pytest.mark.usefixtures("recorded")
def test_mistakes() -> None:
    with pytest.raises(InputError, match="mix 'paper' is unknown; there are open"):
        load_mix("paper", [])
    with pytest.raises(InputError, match="btcv is no part of the mix open; its data sets are open"):
        load_mix("open", [("btcv", Path("a"))])
    with pytest.raises(InputError, match="a folder for at least one of msd-colon"):
        load_mix("paper-propagation", [])
