"""`limnet convert`: public checkpoint files to model folders."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Annotated

import typer

convert_app = typer.Typer(help="Convert a public checkpoint file to a limnet folder.", no_args_is_help=True)

Source = Annotated[Path, typer.Argument(metavar="FILE", help="The downloaded checkpoint (.pth).")]
Target = Annotated[Path, typer.Argument(metavar="OUT", help="Folder to write.")]
Half = Annotated[
    bool, typer.Option("--half", help="Store the weights as float16: half the size, results differ slightly.")
]
KINDS = {
    "ritm": "RITM (HRNet + OCR) to an interaction network.",
    "xmem": "XMem to a propagation network.",
    "imagenet-resnet": (
        "ResNet-18, 34 or 50 of torchvision to the start of a quality network (`quality.py train --init`)."
    ),
}


def _command(kind: str) -> Callable[[Path, Path, bool], None]:
    def convert(source: Source, out: Target, half: Half = False) -> None:
        import limnet.hub.convert
        from limnet.hub.card import describe_component

        getattr(limnet.hub.convert, f"convert_{kind.replace('-', '_')}")(source, out, half=half)
        found = describe_component(out)
        typer.echo(f"{found['class']}, {found['parameters'] / 1e6:.1f} million parameters: wrote {out}")

    return convert


for _kind, _help in KINDS.items():
    convert_app.command(_kind, help=_help)(_command(_kind))
