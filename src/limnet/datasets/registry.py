"""The table of data sets: name -> where its classes are. Nothing is imported before it is asked for."""

from __future__ import annotations

import difflib
import json
from collections.abc import Collection
from importlib import import_module
from inspect import signature
from pathlib import Path
from typing import TYPE_CHECKING, Any

from limnet.errors import InputError

if TYPE_CHECKING:
    from limnet.data.dataset import LabelledDataset


DATASETS: dict[str, str] = {
    "folder": "folder.FolderDataset",
    "nnunet": "nnunet.NnUNetDataset",
    "decathlon": "decathlon.DecathlonDataset",
    "open": "open.OpenDataset",
    "amos22": "amos22.Amos22Dataset",
    "amos22-ct": "amos22.Amos22CtDataset",
    "amos22-mr": "amos22.Amos22MrDataset",
    "bids": "bids.BidsDataset",
    "btcv": "btcv.BtcvDataset",
    "cvpr25": "cvpr25.Cvpr25Dataset",
    "kits19": "kits19.Kits19Dataset",
    "msd-colon": "msd.MsdColonDataset",
    "msd-lung": "msd.MsdLungDataset",
    "msd-pancreas": "msd.MsdPancreasDataset",
    "totalsegmentator": "totalsegmentator.TotalSegmentatorDataset",
    "berkeley": "click_benchmarks.BerkeleyDataset",
    "coco-lvis": "coco_lvis.CocoLvisDataset",
    "davis2017": "davis2017.Davis2017Dataset",
    "davis345": "click_benchmarks.Davis345Dataset",
    "davis585": "davis585.Davis585Dataset",
    "endovis18": "endovis18.EndoVis18Dataset",
    "grabcut": "click_benchmarks.GrabCutDataset",
    "ishape": "ishape.IShapeDataset",
    "sbd": "sbd.SbdDataset",
    "slices": "slices.SlicesDataset",
    "static-sets": "static_sets.StaticSetsDataset",
    "youtube-vos": "youtube_vos.YouTubeVosDataset",
}
"""Name -> module in this folder and class; the data module of `XDataset` is `XDataModule` beside it."""


def dataset_names() -> list[str]:
    """Names in the table, sorted."""
    return sorted(DATASETS)


def dataset_class(name: str) -> type[LabelledDataset]:
    """The `LabelledDataset` of a name; InputError for no such name."""
    if name not in DATASETS:
        close = difflib.get_close_matches(str(name), DATASETS, n=2)
        hint = f" Did you mean {' or '.join(close)}?" if close else ""
        raise InputError(f"data set {name!r} is unknown; there are {', '.join(dataset_names())}.{hint}")
    file, _, found = DATASETS[name].partition(".")
    return getattr(import_module(f"limnet.datasets.{file}"), found)


def open_dataset(name: str, root: Path | str, **options: Any) -> LabelledDataset:
    """The data set of that name in a folder, with arguments of its class.

    InputError for no such name or option, MissingFileError for a folder that does not look like it.
    """
    cls = dataset_class(name)
    known = [key for key in signature(cls).parameters if key != "root"]
    if unknown := [key for key in options if key not in known]:
        raise InputError(
            f"data set {name} cannot be opened with {json.dumps({key: options[key] for key in unknown}, default=str)}; "
            f"its options are {', '.join(known)}"
        )
    try:
        return cls(Path(root), **options)
    except TypeError as error:
        raise InputError(
            f"data set {name} cannot be opened with {json.dumps(options, default=str)}: {error}"
        ) from error


def parse_options(text: str, texts: Collection[str] = ()) -> tuple[str, dict[str, Any]]:
    """Split "name:option=value,option=value"; values are JSON, anything else is text.

    Options among `texts` are text whatever it looks like: a folder may be called 501. InputError for one without a
    value.
    """
    name, _, rest = text.partition(":")
    given = {}
    for part in filter(None, rest.split(",")):
        field, equals, written = part.partition("=")
        if not equals:
            raise InputError(f"{text!r}: write options as name:option=value,option=value")
        value = _value(written)
        given[field] = written if field in texts and not isinstance(value, str) else value
    return name, given


def _value(written: str) -> Any:
    try:
        return json.loads(written)
    except ValueError:
        return written
