from __future__ import annotations

from pathlib import Path

import pytest

from limnet import InteractiveSegmenter
from tests.helpers.open_root import ThresholdSegmenter, open_root


@pytest.fixture(scope="session")
def study_root(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return open_root(tmp_path_factory.mktemp("open"))


@pytest.fixture
def loaded(monkeypatch: pytest.MonkeyPatch) -> list[ThresholdSegmenter]:
    """The models a script loaded; none of them has a network."""
    found: list[ThresholdSegmenter] = []

    def load(name: str, **options: object) -> ThresholdSegmenter:
        found.append(ThresholdSegmenter(str(name)))
        return found[-1]

    monkeypatch.setattr(InteractiveSegmenter, "from_pretrained", load)
    return found


@pytest.fixture
def study(study_root: Path, tmp_path: Path, loaded: list[ThresholdSegmenter]) -> list[str]:
    """Options every script needs; results go to `tmp_path`."""
    return ["--data", str(study_root), "--out", str(tmp_path)]
