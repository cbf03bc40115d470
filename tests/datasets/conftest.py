"""Fakes of data sets: one that all tests share, and a copy of it to spoil."""

from __future__ import annotations

import functools
import shutil
from collections.abc import Callable
from pathlib import Path

import pytest

from tests.helpers.every_set import EVERY_SET


@pytest.fixture(scope="session")
def fake(tmp_path_factory: pytest.TempPathFactory) -> Callable[[str], Path]:
    """Folder of a data set's fake, written when first asked for and left as it is."""
    top = tmp_path_factory.mktemp("sets")
    return functools.cache(lambda name: EVERY_SET[name](top / name))


@pytest.fixture
def good(request: pytest.FixtureRequest, fake: Callable[[str], Path]) -> Path:
    """The fake of the module's data set, `NAME`."""
    return fake(request.module.NAME)


@pytest.fixture
def root(good: Path, tmp_path: Path) -> Path:
    """A copy of it to spoil."""
    return shutil.copytree(good, tmp_path / good.name, symlinks=True)
