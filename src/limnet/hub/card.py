"""What is in a model folder, in plain values; its `results.json`; and its card, made from both.

`results.json` holds the training data, the limits, and measured numbers, each with the command behind it.
"""

from __future__ import annotations

import math
import re
from dataclasses import dataclass
from importlib.resources import files
from pathlib import Path
from typing import Any

from limnet.errors import MissingFileError, ModelFormatError
from limnet.hub.folder import WEIGHTS, fit_arguments, fit_value, read_config, read_object, read_shapes, write_object
from limnet.hub.model import CARD, GOLDEN, read_card, read_index
from limnet.image.io.atomic import atomic_write

RESULTS = "results.json"
LICENSE = "apache-2.0"
_NO_PARAMETER = re.compile(r"(running_mean|running_var|num_batches_tracked)$")


@dataclass(frozen=True)
class Measurement:
    """One measured number, or text such as "0.81 ± 0.05", with the command line that made it."""

    measure: str
    value: float | int | str
    command: str
    unit: str = ""
    dataset: str = ""


@dataclass(frozen=True)
class Results:
    """Content of a results.json: measurements, what the model was trained on, its limits (sentences), the machine."""

    rows: tuple[Measurement, ...] = ()
    data: tuple[str, ...] = ()
    limits: tuple[str, ...] = ()
    machine: str = ""


def read_results(folder: Path) -> Results:
    """results.json of a model folder, empty when there is none; ModelFormatError for a number without its command."""
    path = folder / RESULTS
    try:
        found = read_object(path, "")
    except MissingFileError:
        return Results()
    rows = fit_value(found.get("results", []), list[Any], f"{path}: results")
    data, limits = (fit_value(found.get(name, []), tuple[str, ...], f"{path}: {name}") for name in ("data", "limits"))
    return Results(tuple(_row(row, path) for row in rows), data, limits, str(found.get("machine", "")))


def write_results(folder: str | Path, results: Results) -> None:
    """Write results.json of a model folder atomically."""
    rows = [vars(row) for row in results.rows]
    content = {"machine": results.machine, "data": results.data, "limits": results.limits, "results": rows}
    write_object(Path(folder) / RESULTS, content)


def _row(row: Any, path: Path) -> Measurement:
    found = Measurement(**fit_arguments(Measurement, row, f"{path}: a result"))
    if "" in (found.measure, found.value, found.command):
        raise ModelFormatError(f"{path}: a result lacks measure, value or command: {str(row)[:80]}")
    return found


def describe_model(folder: str | Path) -> dict[str, Any]:
    """Describe a model folder in plain values (for `limnet zoo list` and the card).

    Sizes are of the whole folder, parameters of all networks, the licence is the card's; `components` has for each role
    None or what `describe_component` says.
    """
    folder = Path(folder)
    index = read_index(folder)
    components = {role: describe_component(path) if path else None for role, path in index.components.items()}
    card = read_card(folder)
    return {
        "name": folder.resolve().name,
        "folder": str(folder),
        "limnet_version": index.limnet_version,
        "settings": index.settings,
        "bytes": sum(path.stat().st_size for path in folder.rglob("*") if path.is_file()),
        "parameters": sum(found["parameters"] for found in components.values() if found),
        "license": license_of(card),
        "card": (folder / CARD).is_file(),
        "golden": (folder / GOLDEN).is_file(),
        "results": [vars(row) for row in read_results(folder).rows],
        "components": components,
    }


def describe_component(folder: Path) -> dict[str, Any]:
    """Describe one network folder; parameters are all stored numbers but running statistics."""
    config = read_config(folder)
    shapes = read_shapes(folder)
    return {
        "class": config["class"],
        "config": config["config"],
        "parameters": sum(math.prod(shape) for key, (_, shape) in shapes.items() if not _NO_PARAMETER.search(key)),
        "bytes": (folder / WEIGHTS).stat().st_size,
        "dtypes": sorted({dtype for dtype, _ in shapes.values()}),
    }


def license_of(card: str | None) -> str | None:
    """The `license:` entry of the YAML head of a card, or None."""
    head = re.match(r"\ufeff?---\s*\n(.*?)\n---\s*(\n|$)", card or "", re.DOTALL)
    found = re.search(r"^license:[ \t]*[\"']?([\w.-]+)", head.group(1), re.MULTILINE) if head else None
    return found.group(1) if found else None


def make_card(
    folder: str | Path,
    *,
    name: str | None = None,
    source: str | None = None,
    analyses: str = "",
) -> str:
    """Make the text of a model card: Markdown with a YAML head the Hub understands.

    Args:
        folder: A complete model folder; data, limits and measurements come from its results.json, if any.
        name: Title; the name of the folder by default.
        source: What `from_pretrained` in the example is given; the name by default.
        analyses: More tables in Markdown, put behind the measurements.
    """
    from jinja2 import Environment, StrictUndefined

    folder = Path(folder)
    found = describe_model(folder)
    results = read_results(folder)
    title = name or found["name"]
    environment = Environment(undefined=StrictUndefined, autoescape=False, keep_trailing_newline=True)
    environment.filters["cell"] = _cell
    template = environment.from_string(files("limnet.hub").joinpath("card.md.jinja").read_text(encoding="utf-8"))
    return template.render(
        head=_head(title, results),
        name=title,
        source=source or title,
        quality=found["components"]["quality"] is not None,
        components=found["components"],
        parameters=found["parameters"],
        data=results.data,
        limits=results.limits,
        rows=results.rows,
        machine=results.machine,
        license=LICENSE,
        analyses=analyses.strip(),
        limnet_version=found["limnet_version"],
    )


def write_card(folder: str | Path, text: str) -> Path:
    """Write README.md of a model folder atomically and return its path."""
    return atomic_write(Path(folder) / CARD, lambda path: path.write_text(text, encoding="utf-8"))


def _head(title: str, results: Results) -> str:
    from huggingface_hub import EvalResult, ModelCardData

    measured = [
        EvalResult(
            task_type="image-segmentation",
            dataset_type=_slug(row.dataset),
            dataset_name=row.dataset,
            metric_type=_slug(row.measure),
            metric_name=row.measure,
            metric_value=row.value,
        )
        for row in results.rows
        if row.dataset and not isinstance(row.value, str)
    ]
    data = ModelCardData(
        license=LICENSE,
        library_name="limnet",
        pipeline_tag="image-segmentation",
        tags=["medical", "interactive-segmentation", "3d", "limnet"],
        model_name=title if measured else None,
        eval_results=measured or None,
    )
    return data.to_yaml().strip()


def _slug(text: str) -> str:
    return "-".join("".join(c if c.isalnum() else " " for c in text.lower()).split())


def _cell(value: object) -> str:
    """One table cell: no line breaks, no bars."""
    return " ".join(str(value).split()).replace("|", "\\|")
