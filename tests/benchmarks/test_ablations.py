from __future__ import annotations

import json
from pathlib import Path
from types import SimpleNamespace

import numpy as np
import pytest

from benchmarks.analyses import ablations
from benchmarks.analyses.watchers import ChoosingSession
from limnet.errors import InputError
from limnet.settings import Settings
from tests.helpers.open_root import ThresholdSegmenter

SIZES = {"cache_bytes", "short_side", "quality_batch", "memory_min_frames", "memory_max_frames"}


def test_one_setting_at_a_time(study: list[str], models: list[ThresholdSegmenter], tmp_path: Path) -> None:
    ablations.main([*study, "--rounds", "3", "--per-file", "1"])
    rows = json.loads((tmp_path / "ablations.json").read_text())["rows"]
    changes = ablations.variants_of(models[0])  # type: ignore[arg-type]
    assert [r["variant"] for r in rows] == [*changes, *changes], "two objects"
    own = models[0].settings.to_json()
    used = [{k: v for k, v in s.to_json().items() if v != own[k]} for s in models[0].used]
    assert used == [*changes.values(), *changes.values()]
    assert {n for c in changes.values() if len(c) == 1 for n in c} == set(own) - SIZES
    for row in rows:
        assert row["compliance"][-1] == 1.0
        assert 1 <= row["newest"][1] <= row["all"][1]
    table = (tmp_path / "ablations.md").read_text()
    assert all(name in table for name in changes)
    assert (tmp_path / "ablations.png").stat().st_size > 5000


def test_what_would_change_nothing_is_left_out() -> None:
    model = ThresholdSegmenter(settings=Settings(tau=1.0, click_fallback=0))
    changes = ablations.variants_of(model)  # type: ignore[arg-type]
    assert not {"no fusion", "no disk around disobeyed clicks"} & set(changes)
    assert {"scope": "interval"} in changes.values()


def test_several_models(study: list[str], tmp_path: Path) -> None:
    options = [*study, "--models", f"{tmp_path}/a,plain={tmp_path}/b", "--rounds", "1"]
    ablations.main(options)
    found = json.loads((tmp_path / "ablations_models.json").read_text())
    assert {r["variant"] for r in found["rows"]} == {"a", "plain"}
    assert "--models a,plain=b" in found["command"]
    with pytest.raises(InputError, match="two models"):
        ablations.main([*study, "--models", "x/a,y/a"])


def test_better_clicked_slices(study: list[str], tmp_path: Path) -> None:
    ablations.main([*study, "--true-prompts", "--rounds", "2", "--per-file", "1"])
    rows = json.loads((tmp_path / "ablations_prompts.json").read_text())["rows"]
    assert [r["variant"] for r in rows] == [ablations.RELEASED, ablations.CHOSEN, ablations.TRUE] * 2
    for released, chosen, true in zip(rows[::3], rows[1::3], rows[2::3], strict=True):
        assert true["dice"][0] >= released["dice"][0]
        assert true["newest"][0] == true["newest"][1], "a true mask obeys every click"
        assert chosen["steps"][-1] == chosen["dice"][-1]
    choices = sum(len(row["steps"]) - len(row["dice"]) for row in rows[1::3]) / 2
    assert f"{choices:.1f} choices an object" in (tmp_path / "ablations_prompts.md").read_text()


def test_the_best_answer_is_chosen_and_counted() -> None:
    truth = np.zeros((3, 4, 4), bool)
    truth[1] = True

    class Offering:
        """A case whose click marks a row; the answers offered are two rows and the whole slice."""

        box = None

        def click(self, point: tuple[int, int, int], positive: bool = True) -> np.ndarray:
            return self._marked(1)

        def alternatives(self) -> list[SimpleNamespace]:
            return [SimpleNamespace(mask=self._marked(rows)[1]) for rows in (1, 4, 2)]

        def choose(self, number: int) -> np.ndarray:
            assert number == 1
            return self._marked(4)

        def _marked(self, rows: int) -> np.ndarray:
            mask = np.zeros_like(truth)
            mask[1, :rows] = True
            return mask

    session = ChoosingSession(Offering(), truth)  # type: ignore[arg-type]
    assert np.array_equal(session.click((1, 0, 0)), truth)
    assert session.steps == [pytest.approx(0.4), 1.0]
