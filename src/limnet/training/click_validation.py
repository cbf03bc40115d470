"""Validation of click networks, the same for every LightningModule that trains one."""

from __future__ import annotations

from lightning.pytorch import LightningModule
from torch import Tensor

from limnet.interaction.inputs import ClickNetwork
from limnet.interaction.robot_clicks import clicks_to_reach, robot_clicks
from limnet.training.log_mean import log_mean
from limnet.training.pictures import Pictures

LEAST_CLICKS = 6


def validate_clicks(
    module: LightningModule, network: ClickNetwork, batch: tuple[Tensor, ...], clicks: int
) -> dict[str, Pictures]:
    """Let the robot user click on the first slice of every clip, from its start mask if one is recorded.

    Logs val/dice_1, _2, _3 and _6, the mean Dice after so many clicks, and val/noc85, the mean number of clicks to an
    IoU of 0.85 (`clicks` where it is not reached).

    Args:
        module: in its validation step.
        network: in eval mode.
        batch: image uint8 (B, T, H, W), mask uint8 (B, T, H, W) and, if recorded, start mask of the same shape.
        clicks: at least 6.

    Returns:
        What `LogImages` draws.
    """
    image, target = batch[0][:, :1].float() / 255, batch[1][:, :1].bool()
    start = batch[2][:, :1].bool() if len(batch) > 2 else None
    result = robot_clicks(network, image, target, clicks, start)
    for click in (1, 2, 3, 6):
        dice = result.dice[click - 1].mean()
        log_mean(module, f"val/dice_{click}", dice, len(image), prog_bar=click in (1, 6))
    log_mean(module, "val/noc85", clicks_to_reach(result.iou, 0.85).mean(), len(image))
    return {"pictures": Pictures(image[:, 0], target[:, 0], result.mask[:, 0], result.clicks)}
