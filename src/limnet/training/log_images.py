"""LogImages: a picture of some validation samples at every validation."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
from lightning.pytorch import Callback, LightningModule, Trainer
from numpy.typing import NDArray

from limnet.tasks.base import Pictures
from limnet.training.pictures import draw_grid
from limnet.volume_io.atomic import atomic_write


class LogImages(Callback):
    """Draw the first validation batch: slices with the contours of mask and truth and the robot's clicks.

    The module's `validation_step` returns {"pictures": `limnet.tasks.base.Pictures`}. The picture goes to
    FOLDER/step_NNNNNN.png, and to every logger of the Trainer that takes images (Weights & Biases does).

    Args:
        folder: made when needed.
        count: slices in the picture.
    """

    def __init__(self, folder: Path | str, count: int = 8):
        self.folder, self.count = Path(folder), count

    def on_validation_batch_end(
        self,
        trainer: Trainer,
        pl_module: LightningModule,
        outputs: Any,
        batch: Any,
        batch_idx: int,
        dataloader_idx: int = 0,
    ) -> None:
        """Draw batch 0 of process 0."""
        pictures = outputs.get("pictures") if isinstance(outputs, dict) else None
        if batch_idx or dataloader_idx or not trainer.is_global_zero or not isinstance(pictures, Pictures):
            return
        grid = draw_grid(pictures, self.count)
        self.folder.mkdir(parents=True, exist_ok=True)
        atomic_write(self.folder / f"step_{trainer.global_step:06d}.png", lambda path: _write_png(grid, path))
        for logger in trainer.loggers:
            log_image = getattr(logger, "log_image", None)
            if log_image is not None:
                log_image(key="val/masks", images=[grid])


def _write_png(grid: NDArray[np.uint8], path: Path) -> None:
    import SimpleITK

    writer = SimpleITK.ImageFileWriter()
    writer.SetImageIO("PNGImageIO")
    writer.SetFileName(str(path))
    writer.Execute(SimpleITK.GetImageFromArray(grid, isVector=True))
