"""Data modules: clips drawn from labelled cases; samples drawn ahead, collected or made up."""

from __future__ import annotations

import os
import warnings
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any, ClassVar

from limnet.data.cache import GRAYS, CaseCache, gray_case
from limnet.data.dataset import LabelledCase, LabelledDataset
from limnet.data.drawing import ClipDataset, NoClipError
from limnet.data.loading import ClipLoader
from limnet.errors import InputError

try:
    from lightning.pytorch import LightningDataModule
except ModuleNotFoundError as _error:
    if (_error.name or "").split(".")[0] != "lightning":
        raise

    class LightningDataModule:  # type: ignore[no-redef]
        """What stands in its place: data modules are there by name and cannot be made."""

        def __init__(self, *arguments: Any, **options: Any) -> None:
            raise InputError("a data module needs Lightning, which is not installed; run: pip install 'limnet[train]'")


class SampleDataModule(LightningDataModule):
    """Batches of samples that are there already or made up: shards, defect sets, drawn clips, synthetic slices.

    `training` and `held` (None for no validation) are found by (epoch, number), see `ClipLoader`.
    """

    def __init__(self, training: Any, held: Any, batch_size: int, held_batch: int, workers: int = 0) -> None:
        super().__init__()
        self.training, self.held = training, held
        self.batch_size, self.held_batch, self.workers = batch_size, held_batch, workers

    def train_dataloader(self) -> ClipLoader:
        """The loader's state can be saved and restored."""
        return ClipLoader(self.training, self.batch_size, self.workers)

    def val_dataloader(self) -> ClipLoader | list[Any]:
        """All held samples in order."""
        if self.held is None:
            return []
        return ClipLoader(self.held, self.held_batch, self.workers, fixed=True)


class CaseDataModule(LightningDataModule):
    """Clips drawn at random from labelled cases, for training and validation.

    Training batches are (image uint8 (B, T, H, W) 0..255, mask uint8 (B, T, H, W) 0 or 1): T = 1 for interaction,
    `length` for propagation. A draw depends on seed, epoch and its number alone: any number of workers or processes
    gives the same samples, and a resumed training goes on with the next one. Validation batches are the same clips
    every time, never painted or transformed.

    Every data set has a subclass of its own (`data_module`), which also takes the folder.

    Args:
        dataset: a data set, several as (data set, weight) pairs, or the folder of the `dataset_class`.
        task: "interaction" (single slices) or "propagation" (clips).
        batch_size: samples per process and step.
        samples_per_epoch: draws per epoch over all processes; `val_samples` likewise for validation.
        size: side of the square windows in network pixels.
        length: slices per clip for propagation.
        workers: processes that draw samples; 0 draws in the training process.
        cache_dir: folder for decoded cases; None for the user's cache folder.
        cached: False reads the files anew at every draw and stores nothing: for single pictures.
        paint_probability: how often an image is painted anew from its label map.
        transform: dictionary transform (MONAI's, for example); see `ClipDrawer`.
        gray: how colour becomes the one channel of clips: "luminance", "mean", or "red", "green" or "blue" alone (green
            shows most in endoscopy).
        whole_slices: draw from crops of whole slices in place of windows round one object, as XMem is trained.

    Raises:
        InputError: another task or gray, a folder where a data set is needed, or no weight above 0.
    """

    dataset_class: ClassVar[type[LabelledDataset] | None] = None

    def __init__(
        self,
        dataset: LabelledDataset | Sequence[tuple[LabelledDataset, float]] | Path | str,
        task: str = "interaction",
        batch_size: int = 8,
        samples_per_epoch: int = 2000,
        size: int = 160,
        length: int = 8,
        workers: int = 0,
        seed: int = 0,
        cache_dir: Path | str | None = None,
        cached: bool = True,
        paint_probability: float = 0.0,
        val_samples: int = 64,
        transform: Callable[[dict[str, Any]], dict[str, Any]] | None = None,
        gray: str = "luminance",
        whole_slices: bool = False,
    ) -> None:
        super().__init__()
        if gray not in GRAYS:
            raise InputError(f"gray is {gray!r}; allowed are {', '.join(GRAYS)}")
        if isinstance(dataset, (str, os.PathLike)):
            if self.dataset_class is None:
                raise InputError(f"{dataset} is a folder: give a data set, such as FolderDataset({str(dataset)!r})")
            dataset = self.dataset_class(Path(dataset))
        mix = dataset.mix() if isinstance(dataset, LabelledDataset) else list(dataset)
        if not mix or any(weight <= 0 for _, weight in mix):
            raise InputError("give at least one data set, each with a weight above 0")
        if task not in ("interaction", "propagation"):
            raise InputError(f"task is {task!r}; allowed are interaction and propagation")
        self.mix: list[tuple[LabelledDataset, float]] = mix
        self.task, self.length = task, 1 if task == "interaction" else length
        self.batch_size, self.samples_per_epoch, self.val_samples = batch_size, samples_per_epoch, val_samples
        self.size, self.workers, self.seed = size, workers, seed
        self.cache = CaseCache(cache_dir) if cached else None
        self.paint_probability, self.transform, self.gray = paint_probability, transform, gray
        self.whole_slices = whole_slices
        self.training: ClipDataset | None = None
        self.validation: ClipDataset | None = None
        self._nothing_held = False  # the held-out cases have no object, and that was said

    def prepare_data(self) -> None:
        """Decode what is not in the cache yet, with a progress bar; called on one process a machine."""
        if self.cache is not None:
            drawn = [case for split in ("train", "val") for case, _ in self._drawn(split)]
            self.cache.build([case for case in drawn if case.cached])

    def setup(self, stage: str | None = None) -> None:
        """Open the training and validation cases (not their voxels); warns where no held-out case has an object."""
        if stage in (None, "fit") and self.training is None:
            self.training = self._clips("train", self.samples_per_epoch, self.paint_probability, self.transform)
        wanted = stage in (None, "fit", "validate") and self.validation is None and not self._nothing_held
        if wanted and self._weighted("val"):
            try:
                self.validation = self._clips("val", self.val_samples, 0.0, None)
            except NoClipError as error:
                self._nothing_held = True
                warnings.warn(f"there is no validation: {error}")

    def train_dataloader(self) -> ClipLoader:
        """Random clips; the loader's state can be saved and restored."""
        if self.training is None:
            self.prepare_data()
            self.setup("fit")
        return ClipLoader(self.training, self.batch_size, self.workers)

    def val_dataloader(self) -> ClipLoader | list[Any]:
        """The same clips every time; nothing where no case is held out, or none of them has an object."""
        if self.validation is None:
            self.prepare_data()
            self.setup("validate")
        if self.validation is None:
            return []
        return ClipLoader(self.validation, self.batch_size, self.workers, fixed=True)

    def _weighted(self, split: str) -> list[tuple[LabelledCase, float]]:
        """Cases with weights: each data set's share falls equally on its cases."""
        found = []
        for dataset, weight in self.mix:
            cases = dataset.cases(split) if split in dataset.splits else []
            found += [(case, weight / len(cases)) for case in cases]
        return found

    def _drawn(self, split: str) -> list[tuple[LabelledCase, float]]:
        """Cases as clips are drawn from them: in one channel."""
        return [(gray_case(case, self.gray), weight) for case, weight in self._weighted(split)]

    def _clips(self, split: str, samples: int, paint: float, transform: Any) -> ClipDataset:
        return ClipDataset(
            self._drawn(split),
            samples,
            self.length,
            self.size,
            self.seed,
            self.cache,
            paint,
            transform,
            name=f"split {split!r}",
            whole_slices=self.whole_slices,
        )


def data_module(dataset: type[LabelledDataset]) -> type[CaseDataModule]:
    """The `CaseDataModule` that takes the folder of a data set: "KitsDataModule" for `KitsDataset`, of its module."""
    about = {"__doc__": f"Clips of {dataset.title}.", "__module__": dataset.__module__, "dataset_class": dataset}
    return type(f"{dataset.__name__.removesuffix('Dataset')}DataModule", (CaseDataModule,), about)
