"""`results.json` of a model: its training data, its limits, and measured numbers, each with the command behind it."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import Any

from limnet.errors import MissingFileError, ModelFormatError
from limnet.hub.jsonfile import FORMAT_VERSION, check_version, read_object, write_object

RESULTS = "results.json"


@dataclass(frozen=True)
class Measurement:
    """One measured number.

    Attributes:
        measure: What was measured, such as "Dice after 6 rounds".
        value: The number, or text such as "0.81 ± 0.05".
        command: The command line that made it.
        unit: Such as "s"; empty for ratios.
        dataset: On which data; empty where it does not matter.
    """

    measure: str
    value: float | int | str
    command: str
    unit: str = ""
    dataset: str = ""


@dataclass(frozen=True)
class Results:
    """Content of a results.json.

    Attributes:
        rows: The measurements.
        data: What the model was trained on, one sentence or name each.
        limits: What it cannot do, one sentence each.
        machine: Where the numbers were measured.
    """

    rows: tuple[Measurement, ...] = ()
    data: tuple[str, ...] = ()
    limits: tuple[str, ...] = ()
    machine: str = ""


def read_results(folder: Path) -> Results:
    """Read results.json of a model folder; an empty `Results` when there is none.

    Raises:
        ModelFormatError: If it is damaged, or a number comes without its command.
    """
    path = folder / RESULTS
    try:
        found = read_object(path, "")
    except MissingFileError:
        return Results()
    check_version(found, path)
    rows = found.get("results", [])
    if not isinstance(rows, list):
        raise ModelFormatError(f'{path}: "results" is a {type(rows).__name__}; a list of rows is expected')
    return Results(
        tuple(_row(row, path) for row in rows),
        _texts(found, "data", path),
        _texts(found, "limits", path),
        str(found.get("machine", "")),
    )


def write_results(folder: str | Path, results: Results) -> None:
    """Write results.json of a model folder atomically."""
    content = {
        "format_version": FORMAT_VERSION,
        "machine": results.machine,
        "data": list(results.data),
        "limits": list(results.limits),
        "results": [vars(row) for row in results.rows],
    }
    write_object(Path(folder) / RESULTS, content)


def _row(row: Any, path: Path) -> Measurement:
    fields = Measurement.__dataclass_fields__
    if not isinstance(row, dict) or set(row) - set(fields):
        raise ModelFormatError(f"{path}: {str(row)[:80]} is no result; a result has the entries {', '.join(fields)}")
    for name in fields:
        value = row.get(name, "")
        number = name == "value" and isinstance(value, (int, float)) and not isinstance(value, bool)
        if not number and not isinstance(value, str):
            raise ModelFormatError(f"{path}: {name} of a result is {str(value)[:80]!r}; text is expected")
        if name in ("measure", "value", "command") and value == "":
            raise ModelFormatError(f"{path}: a result lacks {name!r}: {str(row)[:80]}. Every number names its command")
    return Measurement(**row)


def _texts(found: dict[str, Any], name: str, path: Path) -> tuple[str, ...]:
    texts = found.get(name, [])
    if not isinstance(texts, list) or not all(isinstance(text, str) for text in texts):
        raise ModelFormatError(f"{path}: {name!r} is {str(texts)[:80]!r}; a list of sentences is expected")
    return tuple(texts)
