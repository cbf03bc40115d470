"""Options that several commands have."""

from __future__ import annotations

from typing import Annotated

import typer

Model = Annotated[str, typer.Option(help="Bundled model, folder, or org/name on the Hub.")]
Device = Annotated[str, typer.Option(help="cpu, cuda, cuda:1, mps.")]
Index = Annotated[int | None, typer.Option(help="Which volume of a 4-D file, from 0.")]
Series = Annotated[str | None, typer.Option(help="Which DICOM series of a folder: UID, number or description.")]
Gaps = Annotated[
    str | None, typer.Option(metavar="refuse|resample", help="DICOM slices that make no regular grid (default refuse).")
]
