from __future__ import annotations

from pathlib import Path

import pytest

from tests.helpers.open_root import open_root, small_model


@pytest.fixture(scope="session")
def study_root(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return open_root(tmp_path_factory.mktemp("open"))


@pytest.fixture(scope="session")
def study_model(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return small_model(tmp_path_factory.mktemp("model") / "small")


@pytest.fixture
def study(study_root: Path, study_model: Path, tmp_path: Path) -> list[str]:
    """Options every script needs; results go to `tmp_path`."""
    return ["--data", str(study_root), "--model", str(study_model), "--out", str(tmp_path)]
