"""One training from parsed options: the same Trainer, checkpoints, logs and exports for every recipe."""

from __future__ import annotations

import argparse
import logging
import warnings
from collections.abc import Callable
from typing import TYPE_CHECKING

from limnet.training.launch import leave_group_at_exit, trainer_kwargs

if TYPE_CHECKING:
    from lightning.pytorch import LightningDataModule, LightningModule, Trainer


def prepare(args: argparse.Namespace) -> None:
    """Set threads and seeds, before the module is built; a smoke run is quiet, several processes end in order.

    Raises:
        InputError: OUT holds a training already, and neither --resume nor --overwrite is given.
    """
    import torch
    from lightning import seed_everything

    from limnet.training.resume import check_out

    check_out(args.out, args.resume, args.overwrite)
    leave_group_at_exit()
    if args.smoke:
        logging.getLogger("lightning.pytorch").setLevel(logging.ERROR)
        warnings.filterwarnings("ignore", module="lightning")
    if args.threads:
        torch.set_num_threads(args.threads)
    seed_everything(args.seed, workers=True, verbose=False)


def fit(
    args: argparse.Namespace, role: str, module: LightningModule, data: Callable[[int], LightningDataModule]
) -> Trainer:
    """Train, validate, keep OUT/last.ckpt, and export the averaged network to OUT/<role>.

    Args:
        args: options of `add_recipe_arguments`.
        role: "interaction", "propagation" or "quality".
        module: has `network` and `average`.
        data: called with the number of processes.

    Returns:
        The Trainer, after training.

    Raises:
        InputError: --resume with options that OUT/last.ckpt was not trained with.
    """
    import torch
    from lightning import Trainer
    from lightning.pytorch.callbacks import LearningRateMonitor, ModelCheckpoint

    from limnet.training.callbacks import EndAfter, ExportAverage, StepProgress
    from limnet.training.log_images import LogImages
    from limnet.training.loggers import make_loggers
    from limnet.training.resume import checkpoint_to_resume

    last = checkpoint_to_resume(args.out, module, role, args.resume)
    module.to(memory_format=torch.channels_last)  # type: ignore[call-overload]
    every = min(args.save_every, args.steps)
    callbacks = [
        ModelCheckpoint(
            args.out, save_last=True, every_n_train_steps=every, save_top_k=0, enable_version_counter=False
        ),
        ExportAverage(args.out / role, every=every),
        LearningRateMonitor("step"),
    ]
    if not args.smoke:
        callbacks.append(StepProgress(args.steps, args.minutes))
    if args.minutes is not None:
        callbacks.append(EndAfter(args.minutes))
    if args.images:
        callbacks.append(LogImages(args.out / "images", args.images))
    trainer = Trainer(
        **trainer_kwargs(args),
        max_steps=args.steps,
        logger=make_loggers(args),
        callbacks=callbacks,
        gradient_clip_val=args.gradient_clip or None,
        val_check_interval=min(args.validate_every, args.steps),
        check_val_every_n_epoch=None,
        num_sanity_val_steps=0,
        log_every_n_steps=min(25, args.steps),
        enable_progress_bar=False,
        enable_model_summary=not args.smoke,
    )
    trainer.fit(module, datamodule=data(trainer.world_size), ckpt_path=last)
    return trainer
