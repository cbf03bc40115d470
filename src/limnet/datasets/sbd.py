"""SBD: the semantic boundaries set, 11,355 pictures of Pascal VOC with every object outlined.

Layout as its owner ships it (the root may be `benchmark_RELEASE`, its `dataset` folder, or the folder above)::

    benchmark_RELEASE/dataset/img/2008_000002.jpg
    benchmark_RELEASE/dataset/inst/2008_000002.mat     GTinst: Segmentation (H, W) 0, 1, 2, ...; Categories; Boundaries
    benchmark_RELEASE/dataset/train.txt                8,498 names, one a line
    benchmark_RELEASE/dataset/val.txt                  2,857 names

Splits: the owner's lists. Labels number the instances of a picture; the classes stand in the .mat files.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable
from functools import partial
from pathlib import Path
from typing import Any

from numpy.typing import NDArray

from limnet.data.dataset import CaseFiles, InstanceNames, Problem
from limnet.data.files import case_name, pairs_by_stem, read_text, smallest_unsigned
from limnet.data.module import data_module
from limnet.data.pictures import PictureDataset
from limnet.errors import FileFormatError
from limnet.image.io.reading import explained


class SbdDataset(PictureDataset):
    """SBD; every instance is a label."""

    title = "SBD (semantic boundaries)"
    licence = "annotations for research, pictures under the terms of Flickr (Pascal VOC)"
    access = "free download of benchmark.tgz from http://home.bharathh.info/pubs/codes/SBD/download.html"
    labels = InstanceNames(("object", 1, 254))

    def list_files(self) -> Iterable[CaseFiles]:
        """Pictures and .mat files of the same stem, with the splits of the lists."""
        masks = self.first_folder("inst", "dataset/inst", "benchmark_RELEASE/dataset/inst", "SBD/dataset/inst")
        base = masks.parent
        for path in (base / "img", base / "train.txt", base / "val.txt"):
            if not path.exists():
                raise self.missing(f"there is no {path.name} in {base}")
        self.listed = {name: split for split in self.splits for name in read_text(base / f"{split}.txt").split()}
        for _, stem, image, mask in pairs_by_stem(base / "img", masks, (".jpg",), (".mat",)):
            yield CaseFiles(case_name(stem), stem, image, (mask,), "photo", self.listed.get(stem))

    def labels_of(self, files: CaseFiles) -> Callable[[], NDArray[Any]]:
        """Segmentation of the .mat file."""
        return partial(read_instances, files.masks[0])

    def check_files(self) -> list[Problem]:
        """Names of the lists."""
        return self.compare(self.listed, (f.patient for f in self.files), "train.txt and val.txt", used=False)


def read_instances(path: Path) -> NDArray[Any]:
    """Instances of a picture, unsigned (1, H, W); FileFormatError if it is damaged, or without GTinst."""
    from scipy.io import loadmat

    with explained(path, "It should hold GTinst: download it again"):
        found = loadmat(path, appendmat=False)["GTinst"][0, 0]["Segmentation"]
    if found.ndim != 2 or found.dtype.kind not in "iu":
        raise FileFormatError(f"{path} holds a Segmentation of {found.dtype} {found.shape}; expected (H, W) numbers")
    return smallest_unsigned(found[None])


SbdDataModule = data_module(SbdDataset)
