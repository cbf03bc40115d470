"""What is in a model folder, read without building the networks."""

from __future__ import annotations

import math
import re
from pathlib import Path
from typing import Any

from limnet.hub.folder import WEIGHTS, read_config, read_shapes
from limnet.hub.index import read_index
from limnet.hub.model import CARD, GOLDEN, read_card
from limnet.hub.results import read_results

_NO_PARAMETER = re.compile(r"(running_mean|running_var|num_batches_tracked)$")


def describe_model(folder: str | Path) -> dict[str, Any]:
    """Describe a model folder in plain values (for `limnet zoo list` and the card).

    Args:
        folder: A model folder, such as `locate(name)` gives.

    Returns:
        name, folder, limnet_version, settings, bytes (of the whole folder), parameters (of all networks), license (of
        the card, or None), card and golden (whether there is one), results (rows, see `limnet.hub.results`), and
        components: role -> None or a dict of class, config, parameters, bytes and dtypes.

    Raises:
        MissingFileError: If the index, a configuration or weights are missing.
        ModelFormatError: If one of them is damaged or newer.
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
