"""What the demo works on: a volume, its labels and where they come from."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path


@dataclass(frozen=True)
class DemoFiles:
    """An image and a label map on one grid.

    Attributes:
        image: NIfTI file with the image.
        labels: NIfTI file with the label map.
        structures: name of each structure to segment and its number in the label map, in the order of work.
        title: one line for tables and pictures.
        source: origin and licence, to be shown to the user.
        seen_by: bundled models that had this volume among their training data.
        synthetic: True for the made-up volume.
    """

    image: Path
    labels: Path
    structures: Mapping[str, int]
    title: str
    source: str
    seen_by: tuple[str, ...] = ()
    synthetic: bool = False
