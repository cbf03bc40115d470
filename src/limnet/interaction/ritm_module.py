"""RITMModule: trains a click network the way RITM's were, starting some samples from defective masks."""

from __future__ import annotations

import copy
from collections.abc import Sequence
from typing import Any

import torch
from lightning.pytorch.utilities.types import OptimizerLRSchedulerConfig
from torch import Tensor

from limnet.datasets.loading import process_place
from limnet.errors import InputError
from limnet.hub.registry import resolve
from limnet.interaction.click_maps import add_disks
from limnet.interaction.inputs import fit_image, fit_prompts
from limnet.interaction.losses import click_loss
from limnet.interaction.scattered_clicks import scatter_clicks
from limnet.simulation.click_batch import draw_clicks
from limnet.simulation.corruption_batch import corrupt_batch
from limnet.training.augment import augment_clips
from limnet.training.averaged_module import AveragedModule
from limnet.training.click_validation import LEAST_CLICKS, validate_clicks
from limnet.training.pictures import Pictures

HEAD = ("maps_transform.", "feature_extractor.conv3x3_ocr.", "feature_extractor.ocr_distri_head.")
"""Parameters of `HRNetOCR` that learn at the full rate."""


class RITMModule(AveragedModule):
    """Training of Sofiiuk et al., "Reviving Iterative Training with Mask Guidance" (ICIP 2022).

    The defaults are those of its HRNet-W32 on COCO + LVIS: 230 epochs of 30,000 samples in batches of 32. Random clicks
    and no mask to begin with; 0 to `iterations` rounds in which the network predicts without gradient and gets one
    more click on its largest error; then one step with gradient, its normalised focal loss and 0.4 of the cross
    entropy of the rough output. The LIM-Net paper adds start masks damaged in its six ways; `defects` is how often.

    Args:
        network_config: arguments of the network; None for its defaults.
        network: name of an interaction network in `limnet.hub.registry.TABLE`.
        learning_rate: of Adam.
        max_steps: length of the training.
        drops: steps after which the learning rate falls to a tenth.
        backbone_rate: factor on the learning rate of everything but `HEAD`, for networks that have such parts.
        iterations: largest number of rounds before the step with gradient.
        most_clicks: random clicks of one kind at most; each further one has 0.8 of the chance of the one before.
        defects: how often a sample starts from a defective mask (the paper gives no number).
        literal_pixels: defects of 10 to 30 pixels whatever the object's size, see `draw_corruption`.
        erase: how often the start mask lies on a wrong object and negative clicks must empty it.
        average_decay: decay of the moving average kept as `self.average`; 0 keeps the weights themselves.
        validation_clicks: of the robot user.
        seed: of clicks and augmentation.

    Raises:
        InputError: fewer than 6 clicks in validation.
    """

    network: Any
    average: Any

    def __init__(
        self,
        network_config: dict[str, Any] | None = None,
        network: str = "HRNetOCR",
        learning_rate: float = 5e-4,
        max_steps: int = 215_625,
        drops: Sequence[int] = (187_500, 206_250),
        backbone_rate: float = 0.1,
        iterations: int = 3,
        most_clicks: int = 24,
        defects: float = 0.25,
        literal_pixels: bool = False,
        erase: float = 0.05,
        average_decay: float = 0.0,
        validation_clicks: int = 20,
        seed: int = 0,
    ):
        super().__init__()
        if validation_clicks < LEAST_CLICKS:
            raise InputError(f"validation_clicks is {validation_clicks}; Dice is logged after 6 clicks: give 6 or more")
        drops = list(drops)
        self.save_hyperparameters()
        self.network = resolve("interaction", network)(**(network_config or {}))
        self.average = copy.deepcopy(self.network).requires_grad_(False)

    def configure_optimizers(self) -> OptimizerLRSchedulerConfig:
        """Adam without weight decay, the backbone slower, the learning rate falling in steps."""
        rate, slow = self.hparams["learning_rate"], self.hparams["backbone_rate"]
        named = list(self.network.named_parameters())
        head = [p for name, p in named if name.startswith(HEAD)]
        rest = [p for name, p in named if not name.startswith(HEAD)]
        groups = [{"params": head}, {"params": rest, "lr": rate * slow}] if head else [{"params": rest}]
        optimizer = torch.optim.Adam(groups, lr=rate, betas=(0.9, 0.999))
        schedule = torch.optim.lr_scheduler.MultiStepLR(optimizer, self.hparams["drops"], 0.1)
        return {"optimizer": optimizer, "lr_scheduler": {"scheduler": schedule, "interval": "step"}}

    def training_step(self, batch: tuple[Tensor, Tensor], batch_index: int) -> Tensor:
        """One batch of (image uint8 (B, T, H, W), mask uint8 (B, T, H, W)); the first slice of each clip is used."""
        generator = self.common_generator(batch_index)
        image, target = augment_clips(
            batch[0][:, :1], batch[1][:, :1], generator, scale=(0.75, 1.4), share=process_place()
        )
        generator = self.own_generator(generator, batch_index)
        image = fit_image(image, self.network)
        prompts = self.first_prompts(target, generator)
        chosen = (torch.rand(len(target), generator=generator) < self.hparams["erase"]).to(target.device)
        prompts[chosen, 0], prompts[chosen, 1] = target[chosen, 0].float(), 0.0
        target = target & ~chosen.view(-1, 1, 1, 1)
        self.network.eval()
        with torch.no_grad():
            for _ in range(int(torch.randint(0, self.hparams["iterations"] + 1, (1,), generator=generator))):
                logits = self._predict(image, prompts)["instances"]
                prompts[:, 0:1] = logits.float().sigmoid()
                points, kind = draw_clicks(target, prompts[:, 0:1] > 0.49, generator)
                add_disks(prompts[:, 1:2], prompts[:, 2:3], points, kind, self.network.click_radius)
        self.network.train()
        outputs = self._predict(image, prompts)
        loss = click_loss(outputs, target.float())
        with torch.no_grad():
            mask = outputs["instances"] > 0
            both, either = (mask & target).flatten(1).sum(1), (mask | target).flatten(1).sum(1)
            self.log("train/iou", (both / either.clamp_min(1)).mean())
        self.log("train/loss", loss.detach(), prog_bar=True)
        return loss

    def validation_step(self, batch: tuple[Tensor, ...], batch_index: int) -> dict[str, Pictures]:
        """The robot user on the first slice of every clip; see `validate_clicks`."""
        self.average.eval()
        return validate_clicks(self, self.average, batch, self.hparams["validation_clicks"])

    def _predict(self, image: Tensor, prompts: Tensor) -> dict[str, Tensor]:
        return self.network.decode(self.network.encode_image(image), fit_prompts(prompts, self.network))

    def first_prompts(self, target: Tensor, generator: torch.Generator) -> Tensor:
        """Maps (B, 4, H, W) before the first round: random clicks on targets (B, 1, H, W), some defective masks."""
        prompts = torch.zeros(len(target), 4, *target.shape[2:], device=target.device)
        scatter_clicks(
            prompts[:, 1:2], prompts[:, 2:3], target, generator, self.network.click_radius, self.hparams["most_clicks"]
        )
        start = (torch.rand(len(target), generator=generator) < self.hparams["defects"]).to(target.device)
        prompts[start, 0:1] = corrupt_batch(target, generator, literal=self.hparams["literal_pixels"])[start]
        return prompts
