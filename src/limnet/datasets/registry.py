"""The table of data sets: name -> where its classes are. Nothing is imported before it is asked for."""

from __future__ import annotations

import difflib
import json
from collections.abc import Collection
from importlib import import_module
from inspect import signature
from pathlib import Path
from typing import TYPE_CHECKING, Any, NamedTuple

from limnet.errors import InputError

if TYPE_CHECKING:
    from limnet.data.dataset import LabelledDataset
    from limnet.data.module import CaseDataModule


class Entry(NamedTuple):
    """Where a data set is defined.

    Attributes:
        file: module that holds both classes.
        dataset: name of the `LabelledDataset`.
        data_module: name of the `CaseDataModule`.
    """

    file: str
    dataset: str
    data_module: str


DATASETS: dict[str, Entry] = {
    "folder": Entry("limnet.datasets.folder", "FolderDataset", "FolderDataModule"),
    "nnunet": Entry("limnet.datasets.nnunet", "NnUNetDataset", "NnUNetDataModule"),
    "decathlon": Entry("limnet.datasets.decathlon", "DecathlonDataset", "DecathlonDataModule"),
    "open": Entry("limnet.datasets.open", "OpenDataset", "OpenDataModule"),
    "amos22": Entry("limnet.datasets.amos22", "Amos22Dataset", "Amos22DataModule"),
    "amos22-ct": Entry("limnet.datasets.amos22", "Amos22CtDataset", "Amos22CtDataModule"),
    "amos22-mr": Entry("limnet.datasets.amos22", "Amos22MrDataset", "Amos22MrDataModule"),
    "bids": Entry("limnet.datasets.bids", "BidsDataset", "BidsDataModule"),
    "btcv": Entry("limnet.datasets.btcv", "BtcvDataset", "BtcvDataModule"),
    "cvpr25": Entry("limnet.datasets.cvpr25", "Cvpr25Dataset", "Cvpr25DataModule"),
    "kits19": Entry("limnet.datasets.kits19", "Kits19Dataset", "Kits19DataModule"),
    "msd-colon": Entry("limnet.datasets.msd", "MsdColonDataset", "MsdColonDataModule"),
    "msd-lung": Entry("limnet.datasets.msd", "MsdLungDataset", "MsdLungDataModule"),
    "msd-pancreas": Entry("limnet.datasets.msd", "MsdPancreasDataset", "MsdPancreasDataModule"),
    "totalsegmentator": Entry(
        "limnet.datasets.totalsegmentator", "TotalSegmentatorDataset", "TotalSegmentatorDataModule"
    ),
    "berkeley": Entry("limnet.datasets.berkeley", "BerkeleyDataset", "BerkeleyDataModule"),
    "coco-lvis": Entry("limnet.datasets.coco_lvis", "CocoLvisDataset", "CocoLvisDataModule"),
    "davis2017": Entry("limnet.datasets.davis2017", "Davis2017Dataset", "Davis2017DataModule"),
    "davis345": Entry("limnet.datasets.davis345", "Davis345Dataset", "Davis345DataModule"),
    "davis585": Entry("limnet.datasets.davis585", "Davis585Dataset", "Davis585DataModule"),
    "endovis18": Entry("limnet.datasets.endovis18", "EndoVis18Dataset", "EndoVis18DataModule"),
    "grabcut": Entry("limnet.datasets.grabcut", "GrabCutDataset", "GrabCutDataModule"),
    "ishape": Entry("limnet.datasets.ishape", "IShapeDataset", "IShapeDataModule"),
    "sbd": Entry("limnet.datasets.sbd", "SbdDataset", "SbdDataModule"),
    "slices": Entry("limnet.datasets.slices", "SlicesDataset", "SlicesDataModule"),
    "static-sets": Entry("limnet.datasets.static_sets", "StaticSetsDataset", "StaticSetsDataModule"),
    "youtube-vos": Entry("limnet.datasets.youtube_vos", "YouTubeVosDataset", "YouTubeVosDataModule"),
}


def dataset_names() -> list[str]:
    """Names in the table, sorted."""
    return sorted(DATASETS)


def dataset_class(name: str) -> type[LabelledDataset]:
    """The `LabelledDataset` of a name.

    Raises:
        InputError: no such name.
    """
    entry = _entry(name)
    return getattr(import_module(entry.file), entry.dataset)


def data_module_class(name: str) -> type[CaseDataModule]:
    """The `CaseDataModule` of a name.

    Raises:
        InputError: no such name.
    """
    entry = _entry(name)
    return getattr(import_module(entry.file), entry.data_module)


def open_dataset(name: str, root: Path | str, **options: Any) -> LabelledDataset:
    """The data set of that name in a folder.

    Args:
        name: of the data set.
        root: the folder.
        **options: arguments of its class.

    Raises:
        InputError: no such name, or no such option.
        MissingFileError: the folder does not look like it.
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

    Args:
        text: name and options.
        texts: options that are text whatever it looks like: a folder may be called 501.

    Raises:
        InputError: an option without a value.
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


def _entry(name: str) -> Entry:
    if name in DATASETS:
        return DATASETS[name]
    close = difflib.get_close_matches(str(name), DATASETS, n=2)
    hint = f" Did you mean {' or '.join(close)}?" if close else ""
    raise InputError(f"data set {name!r} is unknown; there are {', '.join(dataset_names())}.{hint}")
