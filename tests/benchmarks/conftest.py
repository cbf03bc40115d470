from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import pytest

from benchmarks.core.rounds import loaded
from limnet import InteractiveSegmenter
from tests.helpers.bench import ThresholdSegmenter, open_root


@pytest.fixture(autouse=True)
def _fresh() -> Iterator[None]:
    """No model that one test loaded, or put in the place of one, reaches another."""
    loaded.cache_clear()
    yield
    loaded.cache_clear()


@pytest.fixture(scope="session")
def study_root(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return open_root(tmp_path_factory.mktemp("open"))


@pytest.fixture
def models(monkeypatch: pytest.MonkeyPatch) -> list[ThresholdSegmenter]:
    """The models a script loaded; none of them has a network."""
    found: list[ThresholdSegmenter] = []

    def load(name: str, **options: object) -> ThresholdSegmenter:
        found.append(ThresholdSegmenter(str(name)))
        return found[-1]

    monkeypatch.setattr(InteractiveSegmenter, "from_pretrained", load)
    return found


@pytest.fixture
def study(study_root: Path, tmp_path: Path, models: list[ThresholdSegmenter]) -> list[str]:
    """Options every script needs; results go to `tmp_path`."""
    return ["--data", str(study_root), "--out", str(tmp_path)]
