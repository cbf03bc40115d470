"""Where and with what a result was made: versions, commit, machine, for the head of a result file."""

from __future__ import annotations

import os
import platform
import shlex
import subprocess
import sys
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path
from typing import Any

import limnet

PACKAGES = ("torch", "numpy", "scipy", "SimpleITK", "lightning", "monai")
PEER_PACKAGES = ("transformers", "nnInteractive", "dynamic-network-architectures")


def origin() -> dict[str, Any]:
    """Version and commit of limnet as it is now."""
    return {"limnet": limnet.__version__, "commit": commit(Path(__file__).parent)}


def environment() -> dict[str, Any]:
    """Versions, commit, machine and threads of this process."""
    import torch

    return {
        **origin(),
        "python": platform.python_version(),
        "packages": {name: found for name in (*PACKAGES, *PEER_PACKAGES) if (found := _version(name))},
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
