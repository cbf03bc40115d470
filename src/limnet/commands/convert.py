"""`limnet convert`: public checkpoint files to model folders."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

convert_app = typer.Typer(help="Convert a public checkpoint file to a limnet folder.", no_args_is_help=True)

Source = Annotated[Path, typer.Argument(metavar="FILE", help="The downloaded checkpoint (.pth).")]
Target = Annotated[Path, typer.Argument(metavar="OUT", help="Folder to write.")]
Half = Annotated[
    bool, typer.Option("--half", help="Store the weights as float16: half the size, results differ slightly.")
]


@convert_app.command()
def ritm(source: Source, out: Target, half: Half = False) -> None:
    """RITM (HRNet + OCR) to an interaction network."""
    from limnet.hub.convert import convert_ritm

    convert_ritm(source, out, half=half)
    _report(out)


@convert_app.command()
def xmem(source: Source, out: Target, half: Half = False) -> None:
    """XMem to a propagation network."""
    from limnet.hub.convert import convert_xmem

    convert_xmem(source, out, half=half)
    _report(out)


@convert_app.command(name="imagenet-resnet")
def imagenet_resnet(source: Source, out: Target, half: Half = False) -> None:
    """ResNet-18, 34 or 50 of torchvision to the start of a quality network (`quality.py train --init`)."""
    from limnet.hub.convert import convert_imagenet_resnet

    convert_imagenet_resnet(source, out, half=half)
    _report(out)


def _report(out: Path) -> None:
    from limnet.hub.card import describe_component

    found = describe_component(out)
    typer.echo(f"{found['class']}, {found['parameters'] / 1e6:.1f} million parameters: wrote {out}")
