"""Which code made a result: the commit, and whether the work tree differs from it."""

from __future__ import annotations

import shutil
import subprocess
from pathlib import Path

import pytest

from limnet.environment import commit, environment

pytestmark = pytest.mark.skipif(shutil.which("git") is None, reason="git is not installed")


def test_packages_of_peers_are_told_where_they_are(monkeypatch: pytest.MonkeyPatch):
    known = {"torch": "1", "SimpleITK": "2", "transformers": "3"}
    monkeypatch.setattr("limnet.environment._version", known.get)
    assert environment()["packages"] == known


def git(folder: Path, *words: str) -> None:
    who = ("-c", "user.name=a", "-c", "user.email=a@b.c", "-c", "commit.gpgsign=false")
    subprocess.run(["git", *who, *words], cwd=folder, check=True, capture_output=True)


def test_changes_are_seen_from_any_folder(tmp_path: Path):
    inner = tmp_path / "src/limnet/image"
    inner.mkdir(parents=True)
    (inner / "a.py").write_text("1")
    (tmp_path / "zoo").mkdir()
    (tmp_path / "zoo/weights").write_text("1")
    (tmp_path / "README.md").write_text("1")
    git(tmp_path, "init")
    git(tmp_path, "add", ".")
    git(tmp_path, "commit", "-m", "all")
    clean = commit(inner)
    assert clean is not None
    assert len(clean) == 40
    (tmp_path / "README.md").write_text("2")
    assert commit(inner) == clean, "a text makes no other numbers"
    (tmp_path / "zoo/weights").write_text("2")
    assert commit(inner) == commit(tmp_path) == f"{clean}+changes"
    (tmp_path / "zoo/weights").write_text("1")
    (inner / "a.py").write_text("2")
    assert commit(inner) == f"{clean}+changes"


def test_another_tree_is_not_ours(tmp_path: Path):
    git(tmp_path, "init")
    (tmp_path / "a").write_text("1")
    git(tmp_path, "add", ".")
    git(tmp_path, "commit", "-m", "all")
    assert commit(tmp_path) is None
