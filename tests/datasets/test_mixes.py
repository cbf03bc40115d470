from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest

from limnet.datasets import mixes
from limnet.datasets.mixes import MIXES, load_mix
from limnet.datasets.open import MEDICAL_WEIGHTS, VALIDATION_WEIGHTS
from limnet.datasets.registry import DATASETS
from limnet.errors import InputError


class Recorded:
    """Stands for any data set."""

    def __init__(self, root: Path, **options: Any) -> None:
        self.root, self.options = root, options


@pytest.fixture
def recorded(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(mixes, "dataset_class", lambda name: Recorded)


def test_every_data_set_is_in_the_table() -> None:
    for name, mix in MIXES.items():
        assert set(mix.names) <= set(DATASETS), name
        assert all(part.weight > 0 for part in mix.parts)


def test_mixes_of_the_paper() -> None:
    assert MIXES["paper-propagation"].names == ["msd-colon", "msd-lung", "kits19"]
    assert {"ishape", "amos22-ct", "davis585", "coco-lvis"} < set(MIXES["paper-stage1"].names)
    assert {"amos22-ct", "msd-colon", "msd-lung", "kits19"} < set(MIXES["paper-stage2"].names)
    assert {part.name: part.weight for part in MIXES["paper-quality"].parts} == {
        "kits19": 2,
        "msd-lung": 1,
        "msd-colon": 1,
    }
    assert MIXES["paper-stage1"].paint == 0


@pytest.mark.usefixtures("recorded")
def test_only_what_is_at_hand_is_drawn_and_folders_share_a_weight() -> None:
    roots = [("kits19", Path("a")), ("folder", Path("b")), ("folder", Path("c"))]
    found: Any = load_mix("paper-stage2", roots)
    assert sorted((str(data.root), weight) for data, weight in found) == [("a", 14_072), ("b", 2_003), ("c", 2_003)]
    # own images in either form stand for the paper's in-house ones, and share their weight
    found = load_mix("paper-stage1", [("folder", Path("b")), ("slices", Path("d"))])
    assert sorted((str(data.root), weight) for data, weight in found) == [("b", 2_003), ("d", 2_003)]


@pytest.mark.usefixtures("recorded")
def test_open_volumes_are_weighted_by_group() -> None:
    found: Any = load_mix("medical", [("open", Path("a"))])
    weights = {data.options["groups"][0]: weight for data, weight in found}
    assert all(len(data.options["groups"]) == 1 and data.options["painted"] for data, _ in found)
    total = sum(MEDICAL_WEIGHTS.values())
    assert all(weights[group] == pytest.approx(w / total) for group, w in MEDICAL_WEIGHTS.items())
    assert set(weights) == set(MEDICAL_WEIGHTS) | set(VALIDATION_WEIGHTS)


@pytest.mark.usefixtures("recorded")
def test_mistakes() -> None:
    with pytest.raises(InputError, match="mix 'paper' is unknown; there are broad"):
        load_mix("paper", [])
    with pytest.raises(InputError, match="btcv is no part of the mix broad; its data sets are open"):
        load_mix("broad", [("btcv", Path("a"))])
    with pytest.raises(InputError, match="a folder for at least one of msd-colon"):
        load_mix("paper-propagation", [])
