"""The process and its machine: threads, folders of the user's data, versions for the head of a result file."""

from __future__ import annotations

import os
import platform
import shlex
import subprocess
import sys
import warnings
from collections.abc import Collection, Iterator
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path
from typing import Any

from limnet._version import __version__
from limnet.errors import InputError, InputTypeError

PACKAGES = ("torch", "numpy", "scipy", "SimpleITK", "lightning", "monai")
BASELINE_PACKAGES = ("transformers", "nnInteractive", "dynamic-network-architectures")
_PASSIVE = {
    "OMP_WAIT_POLICY": "PASSIVE",  # GNU and LLVM
    "KMP_BLOCKTIME": "0",  # Intel and LLVM: milliseconds of spinning
}


def use_threads(count: int | None = None) -> int:
    """Compute with so many threads, which sleep while they wait for each other: the machine stays usable.

    By default threads of OpenMP spin while they wait: beside other busy programs a round then takes many times longer.
    They are told when torch is loaded, so call this before anything that loads it:

        import limnet

        limnet.use_threads()
        segmenter = limnet.InteractiveSegmenter.from_pretrained("limnet-tiny")

    The command line, its servers and notebooks that load limnet before torch do so by themselves. What the user chose
    by OMP_WAIT_POLICY, KMP_BLOCKTIME and OMP_NUM_THREADS stays.

    Args:
        count: Threads, at least 1; by default OMP_NUM_THREADS, else all `usable_cores()` but one. Sleeping threads are
            slow to wake: on two cores a round takes 1.6 s with one thread, alone or beside a busy program, and 2.4 and
            1.8 s with two (with two that spin 1.2 s, but 8 to 12 s beside that program).

    Returns:
        The number of threads.

    Raises:
        InputError: If the count is below 1.
        InputTypeError: If it is no integer.

    Warns:
        UserWarning: If torch was loaded before, with threads that spin. The count holds nevertheless.
    """
    if count is not None and (isinstance(count, bool) or not isinstance(count, int)):
        raise InputTypeError(f"the number of threads is an integer of at least 1, got {count!r}")
    if count is not None and count < 1:
        raise InputError(f"{count} threads came; give at least 1")
    chosen = os.environ.get("OMP_NUM_THREADS", "").partition(",")[0]
    number = count or (int(chosen) if chosen.isdecimal() and int(chosen) else max(1, usable_cores() - 1))
    if torch := sys.modules.get("torch"):
        warn_of_spinning()
        torch.set_num_threads(number)
    else:
        for name, value in _PASSIVE.items():
            os.environ.setdefault(name, value)
        os.environ["OMP_NUM_THREADS"] = str(number)
    return number


def warn_of_spinning() -> None:
    """Warn the caller's caller if the environment does not tell the threads of a loaded torch to sleep."""
    if os.environ.get("OMP_WAIT_POLICY", "").upper() != "PASSIVE" and os.environ.get("GOMP_SPINCOUNT") != "0":
        warnings.warn(
            "torch was loaded before limnet could tell its threads to sleep while they wait: beside other busy "
            "programs rounds take many times longer. Call limnet.use_threads() before anything that loads torch, or "
            "set OMP_WAIT_POLICY=PASSIVE before Python starts",
            stacklevel=3,
        )


def usable_cores() -> int:
    """Physical cores that this process may use: its affinity, and its share of the processor in a container."""
    if hasattr(os, "sched_getaffinity"):  # Linux
        return cores_of(os.sched_getaffinity(0), Path("/"))
    return os.cpu_count() or 1


def cores_of(processors: Collection[int], root: Path) -> int:
    """Physical cores of some processors, at most as many as the control group gets.

    The folder `root` holds `proc` and `sys`.
    """
    cores = set()
    for number in processors:
        siblings = root / f"sys/devices/system/cpu/cpu{number}/topology/thread_siblings_list"
        try:
            cores.add(siblings.read_text())
        except OSError:
            cores.add(str(number))
    return max(1, int(min(len(cores), *_limits(root), len(processors))))


def _limits(root: Path) -> Iterator[float]:
    """Processors that the control group of this process and those around it get, where there is a limit."""
    try:
        lines = (root / "proc/self/cgroup").read_text().splitlines()
    except OSError:
        return
    for line in lines:  # 0::/path in version 2, number:controllers:/path in version 1
        _, controllers, path = line.split(":", 2)
        if controllers and "cpu" not in controllers.split(","):
            continue
        base = root / "sys/fs/cgroup" / controllers
        folder = base / path.lstrip("/")
        for place in (folder, *folder.parents):  # inside a container the path may be that of the outside
            names = ("cpu.cfs_quota_us", "cpu.cfs_period_us") if controllers else ("cpu.max",)
            try:
                quota, period = " ".join((place / name).read_text() for name in names).split()
                if float(quota) > 0:
                    yield float(quota) / float(period)
            except (OSError, ValueError):  # no such group, or "max": no limit
                pass
            if place == base:
                break


def user_folder(kind: str) -> Path:
    """Folder for "sessions" or "adapters", not made yet: LIMNET_KIND, or `limnet/kind` among the user's own data."""
    if chosen := os.environ.get(f"LIMNET_{kind.upper()}"):
        return Path(chosen).absolute()
    from platformdirs import user_data_path

    return user_data_path("limnet", appauthor=False) / kind


def cache_folder() -> Path:
    """Folder for what can be made or fetched again, not made yet: LIMNET_CACHE, or `limnet` in the user's cache."""
    if chosen := os.environ.get("LIMNET_CACHE"):
        return Path(chosen).expanduser()
    from platformdirs import user_cache_path

    return user_cache_path("limnet", appauthor=False)


def origin() -> dict[str, Any]:
    """Version and commit of limnet as it is now."""
    return {"limnet": __version__, "commit": commit(Path(__file__).parent)}


def environment() -> dict[str, Any]:
    """Versions, commit, machine and threads of this process."""
    import torch

    return {
        **origin(),
        "python": platform.python_version(),
        "packages": {name: found for name in (*PACKAGES, *BASELINE_PACKAGES) if (found := _version(name))},
        "machine": {
            "cpu": cpu_model(),
            "cores": os.cpu_count(),
            "system": f"{platform.system()} {platform.machine()}",
            "gpus": [torch.cuda.get_device_name(i) for i in range(torch.cuda.device_count())],
        },
        "threads": torch.get_num_threads(),
    }


def command_line() -> str:
    """The command of this process, the program without its folder."""
    return shlex.join([Path(sys.argv[0]).name, *sys.argv[1:]])


def commit(folder: Path) -> str | None:
    """Commit of the git work tree around a folder, with "+changes" where tracked files differ; None without one."""
    top = _git(folder, "rev-parse", "--show-toplevel")
    if not top or not (Path(top) / "src" / "limnet").is_dir():
        return None  # installed in some other project's tree
    head = _git(folder, "rev-parse", "HEAD")
    code = (":/src/limnet", ":/benchmarks/*.py", ":/zoo")
    changed = _git(folder, "status", "--porcelain", "--untracked-files=no", "--", *code)
    return None if not head else head + ("+changes" if changed else "")


def cpu_model() -> str:
    """Name of the processor as the system gives it."""
    try:
        lines = Path("/proc/cpuinfo").read_text().splitlines()
    except OSError:
        return platform.processor() or platform.machine()
    return next((line.split(":", 1)[1].strip() for line in lines if line.startswith("model name")), platform.machine())


def _git(folder: Path, *arguments: str) -> str:
    command = ["git", "--no-optional-locks", *arguments]
    try:
        done = subprocess.run(command, cwd=folder, capture_output=True, text=True, timeout=20, check=False)
    except (OSError, subprocess.TimeoutExpired):
        return ""
    return done.stdout.strip() if done.returncode == 0 else ""


def _version(package: str) -> str | None:
    try:
        return version(package)
    except PackageNotFoundError:
        return None
