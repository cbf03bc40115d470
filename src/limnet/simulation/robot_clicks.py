"""The robot user on a batch of single slices: clicks, Dice and IoU after each, for validation."""

from __future__ import annotations

from typing import NamedTuple

import torch
from torch import Tensor

from limnet.interaction.click_maps import add_disks
from limnet.interaction.inputs import ClickNetwork, fit_image, fit_prompts
from limnet.simulation.clicks import RobotUser


class RobotClicks(NamedTuple):
    """What came of n clicks on each of B slices.

    Attributes:
        dice: (n, B) after each click; two empty masks agree.
        iou: (n, B).
        mask: bool (B, 1, H, W) after the last click.
        clicks: for each slice (row, column, positive) of its clicks; none where nothing was wrong any more.
    """

    dice: Tensor
    iou: Tensor
    mask: Tensor
    clicks: list[list[tuple[int, int, bool]]]


def robot_clicks(
    network: ClickNetwork, image: Tensor, target: Tensor, count: int = 6, start: Tensor | None = None
) -> RobotClicks:
    """Let `limnet.simulation.clicks.RobotUser` correct slices with a network.

    The robot sees each slice as a volume of one slice: first the middle of the object, then the middle of the largest
    error. Where nothing is wrong the network takes a second look without a new click.

    Args:
        network: in eval mode.
        image: (B, 1, H, W) or (B, C, H, W) in [0, 1].
        target: bool (B, 1, H, W).
        count: clicks, at least 1.
        start: bool (B, 1, H, W), the masks to begin from, empty for slices without one; None for no masks at all.
    """
    robot = RobotUser()
    truth = target[:, 0].cpu().numpy()
    features = network.encode_image(fit_image(image, network))
    prompts = image.new_zeros(len(image), 4, *image.shape[-2:])
    made: list[list[tuple[int, int, bool]]] = [[] for _ in truth]
    dice, iou, mask = [], [], torch.zeros_like(target) if start is None else start.bool()
    prompts[:, 0:1] = mask
    for number in range(1, count + 1):
        seen = mask[:, 0].cpu().numpy()
        points, kinds = [(0, 0)] * len(truth), [-1] * len(truth)
        for i in range(len(truth)):
            before = None if number == 1 and not seen[i].any() else seen[i][None]
            click = robot.next_click(truth[i][None], before, number)
            if click is not None:
                points[i], kinds[i] = click.zyx[1:], int(click.positive)
                made[i].append((*click.zyx[1:], click.positive))
        where = torch.tensor(points, device=image.device), torch.tensor(kinds, device=image.device)
        add_disks(prompts[:, 1:2], prompts[:, 2:3], *where, network.click_radius)
        logits = network.decode(features, fit_prompts(prompts, network))["instances"]
        prompts[:, 0:1] = logits.float().sigmoid()
        mask = prompts[:, 0:1] > 0.5
        both, either = (mask & target).flatten(1).sum(1), (mask | target).flatten(1).sum(1)
        iou.append(torch.where(either > 0, both / either.clamp_min(1), torch.ones_like(both, dtype=torch.float32)))
        dice.append((2 * both + 1) / (both + either + 1))
    return RobotClicks(torch.stack(dice), torch.stack(iou), mask, made)


def clicks_to_reach(iou: Tensor, goal: float) -> Tensor:
    """NoC: number of the first click after which the IoU (n, B) is at least `goal`; n where it never is. (B,) float."""
    reached = iou >= goal
    first = reached.float().argmax(0) + 1
    return torch.where(reached.any(0), first, torch.full_like(first, len(iou))).float()
