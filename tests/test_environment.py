"""Threads that leave the machine usable, and which code made a result: packages, commit, changes of the work tree."""

from __future__ import annotations

import os
import shutil
import subprocess
import sys
import types
from pathlib import Path

import pytest

import limnet
from limnet.environment import commit, cores_of, environment
from limnet.errors import InputError, InputTypeError

CHOICES = ("OMP_NUM_THREADS", "OMP_WAIT_POLICY", "GOMP_SPINCOUNT", "KMP_BLOCKTIME")


@pytest.fixture
def fresh(monkeypatch):
    """An environment in which nothing was chosen, and a stand-in for torch that is loaded on demand."""
    for name in CHOICES:
        monkeypatch.setenv(name, "")  # so that it is restored afterwards
        monkeypatch.delenv(name)
    torch = types.SimpleNamespace(counts=[])
    torch.set_num_threads = torch.counts.append
    monkeypatch.setitem(sys.modules, "torch", None)
    return torch


def test_threads_sleep_and_are_as_many_as_asked_for(fresh, recwarn):
    assert limnet.use_threads(3) == 3
    assert os.environ["OMP_WAIT_POLICY"] == "PASSIVE"
    assert os.environ["OMP_NUM_THREADS"] == "3"
    assert not recwarn


def test_what_the_user_chose_stays(fresh, monkeypatch):
    monkeypatch.setenv("OMP_WAIT_POLICY", "ACTIVE")
    monkeypatch.setenv("OMP_NUM_THREADS", "5,2")
    assert limnet.use_threads() == 5
    assert os.environ["OMP_WAIT_POLICY"] == "ACTIVE"


def test_torch_loaded_first_warns_unless_its_threads_sleep(fresh, monkeypatch, recwarn):
    monkeypatch.setitem(sys.modules, "torch", fresh)
    with pytest.warns(UserWarning, match="torch was loaded before"):
        limnet.use_threads(2)
    monkeypatch.setenv("OMP_WAIT_POLICY", "passive")
    recwarn.clear()
    limnet.use_threads(1)
    assert not recwarn
    assert fresh.counts == [2, 1]


@pytest.mark.parametrize(
    ("count", "error"), [(0, InputError), (-1, InputError), (2.5, InputTypeError), (True, InputTypeError)]
)
def test_other_counts_are_refused(count, error):
    with pytest.raises(error, match="at least 1"):
        limnet.use_threads(count)


def test_notebooks_do_it_by_themselves():
    code = "import sys, os; sys.modules['ipykernel'] = os; import limnet; limnet.Volume; print(dict(os.environ))"
    environment = {k: v for k, v in os.environ.items() if k not in CHOICES}
    done = subprocess.run([sys.executable, "-c", code], env=environment, capture_output=True, text=True, check=True)
    assert "'OMP_WAIT_POLICY': 'PASSIVE'" in done.stdout


@pytest.mark.parametrize(
    ("files", "cores"),
    [
        ({}, 4),  # the system tells nothing: each processor counts
        ({"proc/self/cgroup": "0::/a/b\n", "sys/fs/cgroup/a/b/cpu.max": "max 100000\n"}, 4),
        ({"proc/self/cgroup": "0::/a/b\n", "sys/fs/cgroup/a/cpu.max": "250000 100000\n"}, 2),
        ({"proc/self/cgroup": "0::/outside\n", "sys/fs/cgroup/cpu.max": "50000 100000\n"}, 1),
        (
            {
                "proc/self/cgroup": "5:memory:/m\n4:cpu,cpuacct:/c\n",
                "sys/fs/cgroup/cpu,cpuacct/c/cpu.cfs_quota_us": "300000\n",
                "sys/fs/cgroup/cpu,cpuacct/c/cpu.cfs_period_us": "100000\n",
                "sys/fs/cgroup/cpu,cpuacct/cpu.cfs_quota_us": "-1\n",
                "sys/fs/cgroup/cpu,cpuacct/cpu.cfs_period_us": "100000\n",
            },
            3,
        ),
        (
            {
                f"sys/devices/system/cpu/cpu{n}/topology/thread_siblings_list": f"{n % 2},{n % 2 + 2}\n"
                for n in range(4)
            },
            2,
        ),
    ],
)
def test_physical_cores_and_limits_of_containers(tmp_path, files, cores):
    for name, text in files.items():
        path = tmp_path / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(text)
    assert cores_of({0, 1, 2, 3}, tmp_path) == cores


# which code made a result


needs_git = pytest.mark.skipif(shutil.which("git") is None, reason="git is not installed")


def test_packages_of_baselines_are_told_where_they_are(monkeypatch: pytest.MonkeyPatch):
    known = {"torch": "1", "SimpleITK": "2", "transformers": "3"}
    monkeypatch.setattr("limnet.environment._version", known.get)
    assert environment()["packages"] == known


def git(folder: Path, *words: str) -> None:
    who = ("-c", "user.name=a", "-c", "user.email=a@b.c", "-c", "commit.gpgsign=false")
    subprocess.run(["git", *who, *words], cwd=folder, check=True, capture_output=True)


@needs_git
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


@needs_git
def test_another_tree_is_not_ours(tmp_path: Path):
    git(tmp_path, "init")
    (tmp_path / "a").write_text("1")
    git(tmp_path, "add", ".")
    git(tmp_path, "commit", "-m", "all")
    assert commit(tmp_path) is None
