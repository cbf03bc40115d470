from __future__ import annotations

import numpy as np
import torch
from torch import Tensor, nn

from limnet.simulation.clicks import RobotUser
from limnet.simulation.robot_clicks import clicks_to_reach, robot_clicks
from tests.helpers.tiny_networks import disk, small_interaction


class Painter(nn.Module):
    """Sets what is under a positive disk to object and what is under a negative one to background."""

    image_channels = 3
    prompt_channels = ("negative", "previous", "positive")
    click_radius = 4.0

    def __init__(self) -> None:
        super().__init__()
        self.seen: list[Tensor] = []

    def encode_image(self, image: Tensor) -> tuple[Tensor, ...]:
        assert image.shape[1] == 3
        return (image,)

    def decode(self, features: tuple[Tensor, ...], prompts: Tensor) -> dict[str, Tensor]:
        negative, previous, positive = (prompts[:, i : i + 1] for i in range(3))
        self.seen.append(prompts.clone())
        return {"instances": (torch.maximum(previous, positive) * (1 - negative) - 0.5) * 20}


def scene() -> Tensor:
    """A small disk, two disks of which one is larger, and nothing."""
    pair = disk(48, 48, (12, 12), 5) + disk(48, 48, (32, 30), 9)
    return torch.cat([disk(48, 48, (20, 25), 4), pair, torch.zeros(1, 1, 48, 48)]) > 0


def test_clicks_are_those_of_the_robot_user() -> None:
    target = scene()
    result = robot_clicks(Painter(), torch.zeros(3, 1, 48, 48), target, 6)
    for i, truth in enumerate(target[:, 0].numpy()):
        robot, mask, expected = RobotUser(), None, []
        rows, columns = np.mgrid[:48, :48]
        for number in range(1, 7):
            click = robot.next_click(truth[None], None if mask is None else mask[None], number)
            mask = np.zeros_like(truth) if mask is None else mask
            if click is not None:
                _, y, x = click.zyx
                expected.append((y, x, click.positive))
                mask = np.where((rows - y) ** 2 + (columns - x) ** 2 <= 16, click.positive, mask)
        assert result.clicks[i] == expected
        np.testing.assert_array_equal(result.mask[i, 0].numpy(), mask)
        dice = (2 * (mask & truth).sum() + 1) / (mask.sum() + truth.sum() + 1)
        assert float(result.dice[-1, i]) == np.float32(dice)
    assert len(result.clicks[0]) == 1  # the disk fits at once
    assert len(result.clicks[1]) == 6
    assert result.clicks[1][0][:2] == (32, 30)  # the larger one first, in its middle
    assert result.clicks[2] == []


def test_scores_of_empty_slices_are_perfect() -> None:
    result = robot_clicks(Painter(), torch.zeros(3, 1, 48, 48), scene(), 2)
    assert result.iou.shape == result.dice.shape == (2, 3)
    assert result.iou[:, 2].tolist() == result.dice[:, 2].tolist() == [1, 1]
    assert result.iou[:, 0].tolist() == [1, 1]
    assert bool((result.iou <= result.dice).all())


def test_prompts_reach_the_network_in_its_own_order() -> None:
    network = Painter()
    robot_clicks(network, torch.zeros(3, 1, 48, 48), scene(), 2)
    negative, previous, positive = network.seen[1][1]
    assert not negative.any()
    assert bool(previous[32, 30] > 0.5)
    assert float(positive.sum()) > 49  # both disks


def test_networks_with_bounds_work_too() -> None:
    target = scene()
    with torch.no_grad():
        result = robot_clicks(small_interaction(), torch.rand(3, 1, 48, 48), target, 3)
    assert result.mask.shape == target.shape
    assert all(len(c) <= 3 for c in result.clicks)


def test_number_of_clicks() -> None:
    iou = torch.tensor([[0.9, 0.1, 0.2, 0.85], [0.1, 0.9, 0.2, 0.0], [0.1, 0.95, 0.84, 0.0]])
    assert clicks_to_reach(iou, 0.85).tolist() == [1, 2, 3, 1]


def test_start_masks_are_corrected() -> None:
    target = scene()
    start = target.clone()
    start[0] |= disk(48, 48, (40, 8), 6)[0] > 0  # too much: a negative click there
    start[1] = disk(48, 48, (12, 12), 5)[0] > 0  # the larger disk is missing
    result = robot_clicks(Painter(), torch.zeros(3, 1, 48, 48), target, 1, start)
    assert result.clicks == [[(40, 8, False)], [(32, 30, True)], []]
    assert float(result.dice[0, 0]) > float(robot_clicks(Painter(), torch.zeros(3, 1, 48, 48), start, 1).dice[0, 0])
    assert torch.equal(result.mask[2], start[2])
    none = torch.zeros_like(start)
    assert (
        robot_clicks(Painter(), none.float(), target, 3, none).clicks
        == robot_clicks(Painter(), none.float(), target, 3).clicks
    )
