"""Everything that can be wrong with a model folder, found in one go."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

from limnet.errors import LimnetError, MissingFileError
from limnet.hub.card import RESULTS, license_of, read_results
from limnet.hub.folder import CONFIG, WEIGHTS
from limnet.hub.golden import compare_golden, read_golden
from limnet.hub.locate import zoo_folder
from limnet.hub.model import CARD, GOLDEN, INDEX, load_model, read_card, read_index
from limnet.hub.registry import ROLES

MAX_BYTES = 20_000_000
"""Largest file of a bundled model: it lies in git and travels with every installation."""


@dataclass(frozen=True)
class Problem:
    """One thing found wrong.

    Attributes:
        part: File or network it is about.
        message: What is wrong.
        fatal: False for what a bundled model must have but any other model may lack.
    """

    part: str
    message: str
    fatal: bool = True

    def __str__(self) -> str:
        return f"{self.part}: {self.message}"


def verify_model(folder: str | Path, bundled: bool | None = None) -> list[Problem]:
    """Check a model folder: index, configurations, weights (strict and finite), golden outputs, card, results, size.

    Args:
        folder: A model folder, such as `locate(name)` gives.
        bundled: Hold it to the rules of the zoo as well (card with licence, golden file, no file over 20 MB, nothing
            else in the folder); when False, breaking those is reported as not fatal. None: True inside the zoo.

    Returns:
        Problems found, the fatal ones first; empty for a sound model.
    """
    folder = Path(folder)
    if bundled is None:
        zoo = zoo_folder()
        bundled = zoo is not None and folder.resolve().parent == zoo.resolve()
    problems = _weights_and_golden(folder, bundled) + _papers(folder, bundled)
    if folder.is_dir():
        problems += _size(folder, bundled)
    return sorted(problems, key=lambda problem: not problem.fatal)


def _weights_and_golden(folder: Path, bundled: bool) -> list[Problem]:
    try:
        read_index(folder)
    except LimnetError as error:
        return [Problem(INDEX, str(error))]
    try:
        model = load_model(folder)
    except LimnetError as error:
        return [Problem("networks", str(error))]
    try:
        golden = read_golden(folder)
    except MissingFileError as error:
        return [Problem(GOLDEN, str(error), bundled)]
    except LimnetError as error:
        return [Problem(GOLDEN, str(error))]
    return [Problem(role, message) for role, message in compare_golden(model, golden).items()]


def _papers(folder: Path, bundled: bool) -> list[Problem]:
    problems = []
    card = read_card(folder)
    if not card:
        problems.append(Problem(CARD, "there is no card; make one with limnet.hub.card.make_card", bundled))
    elif license_of(card) is None:
        problems.append(Problem(CARD, 'the card names no licence; its head needs a line "license: ..."', bundled))
    try:
        read_results(folder)
    except LimnetError as error:
        problems.append(Problem(RESULTS, str(error)))
    return problems


def _size(folder: Path, bundled: bool) -> list[Problem]:
    files = {path.relative_to(folder).as_posix(): path for path in folder.rglob("*") if path.is_file()}
    expected = {INDEX, CARD, GOLDEN, RESULTS, *(f"{role}/{name}" for role in ROLES for name in (CONFIG, WEIGHTS))}
    problems = [
        Problem(name, "is no part of a model and is not published; remove it", bundled)
        for name in sorted(set(files) - expected)
    ]
    for name, path in sorted(files.items()) if bundled else ():  # any other model may be as large as it is
        size = path.stat().st_size
        if size > MAX_BYTES:
            text = f"{name} has {size / 1e6:.1f} MB; a file of a bundled model has at most {MAX_BYTES / 1e6:.0f} MB"
            problems.append(Problem("size", f"{text}; publish larger ones on the Hub"))
    return problems
