"""The model card: README.md of a model, made from what the folder holds."""

from __future__ import annotations

from collections.abc import Sequence
from importlib.resources import files
from pathlib import Path

from limnet.hub.describe import describe_model
from limnet.hub.model import CARD
from limnet.hub.results import read_results
from limnet.volume_io.atomic import atomic_write

LICENSE = "apache-2.0"


def make_card(
    folder: str | Path,
    *,
    name: str | None = None,
    source: str | None = None,
    data: Sequence[str] = (),
    limits: Sequence[str] = (),
    license_id: str = LICENSE,
    analyses: str = "",
) -> str:
    """Make the text of a model card.

    Args:
        folder: A complete model folder; its results.json, if any, fills the table of measurements.
        name: Title; the name of the folder by default.
        source: What `from_pretrained` in the example is given; the name by default.
        data: What the model was trained on, one sentence each; before those of results.json.
        limits: What it cannot do, likewise.
        license_id: Licence as the Hub spells it.
        analyses: More tables in Markdown, put behind the measurements.

    Returns:
        Markdown with a YAML head the Hub understands (licence, library, task, measured results).

    Raises:
        MissingFileError: If the model is incomplete.
        ModelFormatError: If the model or results.json is damaged.
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
        head=_head(title, folder, license_id),
        name=title,
        source=source or title,
        quality=found["components"]["quality"] is not None,
        components=found["components"],
        parameters=found["parameters"],
        data=[*data, *results.data],
        limits=[*limits, *results.limits],
        rows=results.rows,
        machine=results.machine,
        license=license_id,
        analyses=analyses.strip(),
        limnet_version=found["limnet_version"],
    )


def write_card(folder: str | Path, text: str) -> Path:
    """Write README.md of a model folder atomically and return its path."""
    return atomic_write(Path(folder) / CARD, lambda path: _write(path, text))


def _write(path: Path, text: str) -> None:
    path.write_text(text, encoding="utf-8")


def _head(title: str, folder: Path, license_id: str) -> str:
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
        for row in read_results(folder).rows
        if row.dataset and not isinstance(row.value, str)
    ]
    data = ModelCardData(
        license=license_id,
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
