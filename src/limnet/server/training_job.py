"""Fine-tuning in the background on the labels that MONAI Label clients have submitted.

A process of its own runs `recipes/stage3.py` on the data store, so that rounds go on meanwhile; the recipe measures the
model on held-out patients before and after, and only a better model is used for the images opened from then on.
"""

from __future__ import annotations

import contextlib
import importlib.util
import json
import os
import re
import secrets
import subprocess
import sys
import time
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import limnet
from limnet.errors import InputError
from limnet.server.protocols.datastore import FINAL, Datastore

STEPS = 300  # a first try of docs/training-on-your-data.md: about 10 minutes of one free core
_LEAST = 2  # labelled images: one to learn from, one to measure on
_TAIL = 20  # lines of its output that are told
_STEP = re.compile(r"step (\d+) of (\d+)")  # as StepProgress prints them
_NOISE = re.compile(  # what Lightning says of itself: hardware, tips, its table of parts, warnings
    r"^(GPU|TPU|HPU) available|^\W*Tip: |Automatic Mixed Precision|^[┏┡└┃│├]|^(Non-t|T)(rainable|otal) |"
    r"^Modules in |^Total |^`Trainer|^\S+\.py:\d+: |^(rank_zero_warn|warnings\.warn)\("
)


def recipe() -> Path | None:
    """The training recipe of a checkout with the training packages; None where there is none."""
    path = Path(limnet.__file__).resolve().parents[2] / "recipes" / "stage3.py"
    return path if path.is_file() and importlib.util.find_spec("lightning") is not None else None


@dataclass
class TrainingJob:
    """One training, in a process that writes data in the layout of the recipe, a log and the model to its folder.

    `taken` says whether its model was tried for the images to come, `fault` why that failed.
    """

    folder: Path
    process: subprocess.Popen[bytes]
    steps: int = STEPS
    started: float = field(default_factory=time.time)
    id: str = field(default_factory=lambda: secrets.token_hex(8))
    stopped: bool = False
    taken: bool = False
    fault: str | None = None
    _ended: int | None = None

    @classmethod
    def start(cls, store: Datastore, model: str, script: Path, steps: int = STEPS) -> TrainingJob:
        """Begin a training on all images of a data store that have finished labels; two at least."""
        labelled = {
            path: label
            for name, path in store.images().items()
            if path.is_file() and (label := store.labels(name).get(FINAL)) is not None
        }
        if len(labelled) < _LEAST:
            raise InputError(
                f"{len(labelled)} images have finished labels: submit labels of at least {_LEAST} patients"
            )
        folder = store.root / ".training" / f"{time.strftime('%Y%m%d-%H%M%S')}-{secrets.token_hex(3)}"
        for kind, files in (("images", list(labelled)), ("masks", list(labelled.values()))):
            (folder / "data" / kind).mkdir(parents=True)
            for file in files:
                _link(file, folder / "data" / kind / file.name)
        command = [sys.executable, str(script), "--data", "folder", "--root", str(folder / "data"), "--init", model]
        command += ["--out", str(folder / "run"), "--steps", str(steps), "--cache", str(folder / "cache")]
        threads = str(max(1, (os.cpu_count() or 2) // 2))  # rounds of people who wait come first
        with open(folder / "log.txt", "wb") as log:
            process = subprocess.Popen(
                command, stdout=log, stderr=subprocess.STDOUT, env={**os.environ, "OMP_NUM_THREADS": threads}
            )
        return cls(folder, process, steps)

    @property
    def running(self) -> bool:
        """Whether it still runs."""
        return self.process.poll() is None

    def stop(self) -> None:
        """End it; what it has written stays."""
        if self.running:
            self.stopped = True
            self.process.terminate()
            with contextlib.suppress(subprocess.TimeoutExpired):
                self.process.wait(10)
            self.process.kill()
            self.process.wait(10)

    @property
    def status(self) -> str:
        """RUNNING, DONE, CANCELED or ERROR, the words of MONAI Label."""
        if self.running:
            return "RUNNING"
        if self.stopped:
            return "CANCELED"
        return "DONE" if self.process.returncode == 0 else "ERROR"

    def state(self) -> dict[str, Any]:
        """Its state as MONAI Label tells it."""
        lines = self._log()[-_TAIL:]
        if self.status == "DONE":
            better = self.better_model is not None
            told = "images opened from now on use the new model" if better else "the model in use stays"
            lines.append(self.fault or told)
        now = int(time.time())
        if self._ended is None and not self.running:
            self._ended = now
        return {
            "id": self.id,
            "model": "limnet",
            "status": self.status,
            "start_ts": int(self.started),
            "end_ts": self._ended,
            "details": [{"ts": now, "message": line} for line in lines],
        }

    def progress(self) -> tuple[int, int]:
        """Steps that are done, and all of them."""
        for line in reversed(self._log()):
            if found := _STEP.match(line):
                return int(found[1]), int(found[2])
        return 0, self.steps

    def _log(self) -> list[str]:
        try:
            text = (self.folder / "log.txt").read_text(encoding="utf-8", errors="replace")
        except OSError:
            return []
        lines = [line.strip() for line in text.replace("\r", "\n").splitlines()]
        return [line for line in lines if line and not _NOISE.search(line)]

    def measured(self) -> tuple[float, float] | None:
        """Dice of one click on held-out slices before and after; None if nothing was measured, or not yet."""
        try:
            result = json.loads((self.folder / "run" / "result.json").read_text(encoding="utf-8"))
            return float(result["before"]["dice_1"]), float(result["after"]["dice_1"])
        except (OSError, ValueError, KeyError, TypeError):
            return None

    @property
    def better_model(self) -> Path | None:
        """The new model, if it was finished and measured to be better than the one it started from."""
        figures = self.measured()
        if self.status != "DONE" or figures is None or figures[1] <= figures[0]:
            return None
        return self.folder / "run" / "model"


def _link(source: Path, target: Path) -> None:
    try:
        os.link(source, target)
    except OSError:  # another disk, or a system without links
        target.write_bytes(source.read_bytes())
