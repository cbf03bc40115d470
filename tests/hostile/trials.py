"""One damaged input after the other, judged: an error of limnet, the right values, or a fault of limnet."""

from __future__ import annotations

import os
import resource
import shutil
import signal
import tempfile
import warnings
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import numpy as np

from limnet.errors import LimnetError
from tests.hostile import texts, volumes
from tests.hostile.mutations import Files
from tests.hostile.texts import Judge, Wrong

ROOM = 1 << 30  # bytes of address space above what the process has before the first trial
GROWTH = 400 << 20  # bytes of memory that the process may grow by over all trials
PATIENCE = 20  # seconds for one input, on a busy machine; the usual time is a few milliseconds

Damage = Callable[[np.random.Generator], tuple[Files, bool]]
Kind = tuple[Damage, Judge]


def kinds(folder: Path) -> dict[str, Kind]:
    """Every kind of input: what damages it and what judges what came out of it."""
    found: dict[str, Kind] = {}
    for name, format in volumes.formats(folder / "volumes").items():
        original = _original(folder / "whole", format)

        def judge(place: Path, covered: bool, format: Any = format, original: Any = original) -> str:
            with warnings.catch_warnings(record=True) as told:
                warnings.simplefilter("always")
                volume = volumes.read(place, format)
            if volumes.equal(volume, original):
                return "right"
            if covered:
                raise Wrong("other voxels than were saved, though the file has checksums")
            try:
                said = " ".join(str(warning.message) for warning in told)
                if "left out" in said:
                    answer = volumes.dicom_answer(place, volume.files)  # what is left is as its files say
                else:
                    answer = format.reference(place / format.entry)
            except Exception as error:
                raise Wrong(f"limnet reads what {format.reference.__name__} refuses ({error})") from error
            if "position are unknown" in said:
                answer = answer[0], None
            if not volumes.equal(volume, answer):
                raise Wrong("neither the saved values nor those of the other reader")
            return "as the file says"

        found[name] = lambda rng, format=format: volumes.damaged(rng, format), judge
    (folder / "session").mkdir()
    prompts, session = texts.prompts(), texts.session(folder / "session")
    model = texts.model(folder / "model")
    found["prompts"] = lambda rng: texts.damaged_prompts(rng, prompts), texts.judge_prompts
    found["session"] = lambda rng: texts.damaged_session(rng, session), texts.session_judge(session, folder)
    found["model"] = lambda rng: texts.damaged_model(rng, model), texts.judge_model
    return found


def run(seed: int, start: int, stop: int, current: Path | None = None) -> Iterator[tuple[int, str, str, str]]:
    """Trials `start` to `stop`, each a function of the seed and its number alone.

    Args:
        seed: of the whole run.
        start: first number.
        stop: number after the last.
        current: file that always holds the number at work, for the case that the process dies.

    Yields:
        Number, kind of input, outcome ("refused", "right", "as the file says", or "FAULT"), and what a fault is.
    """
    warnings.simplefilter("ignore")
    with tempfile.TemporaryDirectory() as name:
        base = Path(name)
        table = kinds(base)
        aside = base / "temporary"
        aside.mkdir()
        tempfile.tempdir = str(aside)
        before = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * 1024
        used = int(Path("/proc/self/statm").read_text().split()[0]) * resource.getpagesize()
        resource.setrlimit(resource.RLIMIT_AS, (used + ROOM, resource.RLIM_INFINITY))
        signal.signal(signal.SIGALRM, _too_long)
        names = list(table)
        for number in range(start, stop):
            if current is not None:
                current.write_text(str(number))
            kind = names[number % len(names)]
            outcome, what = _trial(np.random.default_rng([seed, number]), table[kind], base / "trial", aside)
            yield number, kind, outcome, what
        grown = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * 1024 - before
        if grown > GROWTH:
            yield stop, "memory", "FAULT", f"memory grew by {grown >> 20} MiB"
        tempfile.tempdir = None


def _original(place: Path, format: volumes.Format) -> volumes.Answer:
    _lay(place, format.files)
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        volume = volumes.read(place, format)
        reference = format.reference(place / format.entry if format.entry else place)
    if not volumes.equal(volume, reference):
        raise Wrong(f"{format.entry or 'a folder'} is read wrongly even without damage")
    return volume.array, volume.affine_in("RAS")


def _trial(rng: np.random.Generator, kind: Kind, place: Path, aside: Path) -> tuple[str, str]:
    damage, judge = kind
    files, covered = damage(rng)
    _lay(place, files)
    signal.alarm(PATIENCE)
    try:
        outcome, what = judge(place, covered), ""
    except LimnetError as error:
        outcome, what = ("refused", "") if str(error).strip() and len(str(error)) < 9000 else ("FAULT", "no message")
    except Wrong as error:
        outcome, what = "FAULT", str(error)
    except Exception as error:
        outcome, what = "FAULT", f"{type(error).__name__}: {error}"
    finally:
        signal.alarm(0)
    left = sorted({str(p.relative_to(place)) for p in place.rglob("*") if p.is_file()} - set(files)) + os.listdir(aside)
    return ("FAULT", f"files left behind: {left}") if left else (outcome, " ".join(what.split())[:300])


def _lay(place: Path, files: Files) -> None:
    shutil.rmtree(place, ignore_errors=True)
    for name, data in files.items():
        (place / name).parent.mkdir(parents=True, exist_ok=True)
        (place / name).write_bytes(data)


def _too_long(*_: object) -> None:
    raise TimeoutError(f"more than {PATIENCE} s")
