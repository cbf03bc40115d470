"""Clicks on batches of single slices: drawn by training steps, and played to the end in validation.

The rules are those of `limnet.simulation.clicks.RobotUser` on volumes of one slice: the click goes into the largest
8-connected error (the first one into the object); a training step draws it among the pixels that lie deep in it. On the
CPU `RobotUser` itself aims, slice by slice. On an accelerator, where a question per slice would hold up the queue,
tensors do the same without a loop over samples, and nothing is read back: components and depths beyond 24 pixels are
found on a grid of every second pixel. Generators are of the CPU.
"""

from __future__ import annotations

from typing import Any, NamedTuple

import torch
import torch.nn.functional as functional
from torch import Tensor

from limnet.interaction.prompt_maps import fit_image, fit_prompts
from limnet.simulation.clicks import RobotUser

REACH = 24  # pixels: deeper ones are few, and half a pixel is little there
ROUNDS = 12  # of joining pixels to components; each at least doubles their reach, noise of 200 x 200 pixels takes 6

CHANCE = 0.8  # of every further click, relative to the one before
ERODED = 0.9  # share of samples whose positive clicks keep three pixels off the border
BORDER = 0.5  # share of negative clicks that lie in the band around the object
BAND = 0.1  # width of that band, in square roots of the object's area


def draw_clicks(
    target: Tensor, predicted: Tensor, generator: torch.Generator, off_centre: float = 0.5, first: bool = False
) -> tuple[Tensor, Tensor]:
    """One click of the robot user for every sample, with masks bool (B, 1, H, W) on one device: truth, and mask so far.

    Pixels deeper than the share `off_centre`, in [0, 1), of the largest depth are equally likely (`RobotUser` with
    `off_centre`: .5). With `first`, samples without a predicted pixel have not been clicked yet: the whole object is
    aimed at, not its largest component.

    Returns:
        points int64 (B, 2) as (row, column), and kind int64 (B,): 1 positive, 0 negative, -1 no error and no click.
    """
    aims = _aims if target.device.type == "cpu" else aims_on_device
    depth, positive = aims(target[:, 0], predicted[:, 0], first)
    depth = depth.flatten(1)
    deepest = depth.amax(1, keepdim=True)
    empty = deepest[:, 0] <= 0
    likely = torch.where(empty[:, None], 1.0, (depth > off_centre * deepest).float())
    reached = likely.cumsum(1)
    draw = torch.rand((len(depth), 1), generator=generator, device=generator.device).to(reached.device)
    total = reached[:, -1:]
    index = torch.searchsorted(reached, torch.minimum(draw * total, total - 0.5), right=True)[:, 0]
    width = target.shape[-1]
    kind = torch.where(empty, torch.full_like(index, -1), positive.long())
    return torch.stack([index // width, index % width], 1), kind


def _aims(target: Tensor, predicted: Tensor, first: bool) -> tuple[Tensor, Tensor]:
    """Depth float (B, H, W) within what the next click goes to, 0 elsewhere, and whether it is positive (B,)."""
    robot = RobotUser()
    depth, positive = torch.zeros(target.shape), torch.zeros(len(target), dtype=torch.bool)
    for i, (truth, mask) in enumerate(zip(target.numpy(), predicted.numpy(), strict=True)):
        aim = robot.aim(truth[None], None if first and not mask.any() else mask[None])
        if aim is not None:
            _, rows, columns = aim.where
            depth[i, rows, columns] = torch.from_numpy(aim.depth[0]).float()
            positive[i] = aim.positive
    return depth, positive


def aims_on_device(target: Tensor, predicted: Tensor, first: bool) -> tuple[Tensor, Tensor]:
    """The same by tensors alone, bool (B, H, W) on any device."""
    errors = torch.stack([target & ~predicted, predicted & ~target], 1)
    counts = functional.avg_pool2d(errors.float(), 2, ceil_mode=True, divisor_override=1)
    number = components(counts > 0)
    batch, pixels = len(target), counts[0].numel()
    sizes = torch.zeros(batch, pixels + 1, device=target.device)
    sizes.scatter_add_(1, number.flatten(1), counts.flatten(1))
    sizes[:, -1] = 0  # what is no error
    best = sizes.argmax(1)  # missed ones come first: they win a tie
    chosen = number == best.view(-1, 1, 1, 1)
    positive = best < pixels // 2
    if first:
        fresh = ~predicted.flatten(1).any(1)
        chosen = torch.where(fresh.view(-1, 1, 1, 1), counts > 0, chosen)
        positive = positive | fresh
    size = target.shape[-2:]

    def enlarged(grid: Tensor) -> Tensor:
        return functional.interpolate(grid[:, None].float(), scale_factor=2.0)[:, 0, : size[0], : size[1]]

    wanted = torch.where(positive.view(-1, 1, 1), errors[:, 0], errors[:, 1])
    region = (enlarged(chosen.any(1)) > 0) & wanted
    rough = 2 * enlarged(euclidean_depth((chosen & (counts > 1)).any(1))) - 0.5  # of the middle of a block
    depth = euclidean_depth(region, REACH)
    return torch.where(depth > REACH, rough.clamp_min(REACH), depth), positive


def components(mask: Tensor) -> Tensor:
    """Numbers of 8-connected components, each the smallest position of its pixels in its sample.

    Of masks bool (B, K, H, W) (the K maps of a sample are apart from each other); K H W where there is nothing.
    """
    batch, pixels = len(mask), mask[0].numel()
    nothing = torch.full((batch, 1), pixels, device=mask.device)
    start = torch.arange(pixels, device=mask.device).expand(batch, -1)
    inside = mask.flatten(1)
    number = torch.where(inside, start, pixels)
    for _ in range(ROUNDS):
        seen = number.view(mask.shape)
        for axis in (2, 3):  # smallest number around: 3 x 3 pixels, one axis after the other
            last = seen.shape[axis] - 1
            before, after = seen.narrow(axis, 0, last), seen.narrow(axis, 1, last)
            low = torch.minimum(before, after)
            ends = seen.narrow(axis, 0, 1), seen.narrow(axis, last, 1)
            left = torch.cat([ends[0], low], axis)
            right = torch.cat([low, ends[1]], axis)
            seen = torch.minimum(left, right)
        around = torch.where(inside, seen.flatten(1), pixels)
        table = torch.cat([number, nothing], 1)
        table.scatter_reduce_(1, number, around, "amin")  # the whole component so far follows its first pixel
        table[:, -1] = pixels
        number = torch.where(inside, torch.minimum(around, table.gather(1, number)), pixels)
        for _ in range(2):
            number = torch.cat([number, nothing], 1).gather(1, number)
    return number.view(mask.shape)


def euclidean_depth(mask: Tensor, reach: int | None = None) -> Tensor:
    """Distance of every pixel of bool (B, H, W) to the nearest one outside, float; beyond the edges is outside.

    With `reach` distances up to so many pixels are exact, larger ones too large, which takes a step for each pixel.
    """
    height, width = mask.shape[1:]
    place = torch.arange(height, device=mask.device, dtype=torch.float32).view(1, -1, 1)
    above = torch.where(mask, -1.0, place).cummax(1).values
    below = torch.where(mask, float(height), place).flip(1).cummin(1).values.flip(1)
    column = torch.minimum(place - above, below - place).square()  # within each column
    across = torch.arange(width, device=mask.device, dtype=torch.float32)
    nearest = torch.minimum(across + 1, width - across).square().view(1, 1, -1)  # to the edges left and right
    result = torch.minimum(column, nearest)
    most = min(height, width) // 2
    for step in range(1, (most if reach is None else min(reach, most)) + 1):
        ahead, behind = result[..., :-step], result[..., step:]
        moved = column[..., step:] + step**2, column[..., :-step] + step**2
        torch.minimum(ahead, moved[0], out=ahead)
        torch.minimum(behind, moved[1], out=behind)
    return result.sqrt()


def scatter_clicks(
    positive: Tensor,
    negative: Tensor,
    target: Tensor,
    generator: torch.Generator,
    radius: float,
    most: int = 24,
) -> None:
    """Draw 1 to `most` positive and 0 to `most` negative clicks into the maps, in place; their numbers fall off by 0.8.

    Positive clicks lie anywhere in the object, mostly three pixels from its border. Half of the negative ones lie in a
    band around it, half anywhere in the background. Empty objects get no positive click, full slices no negative one.
    Maps are float, the target bool, all (B, 1, H, W); `radius` is that of the disks.
    """
    chances = CHANCE ** torch.arange(most + 1, dtype=torch.float32)
    for i, mask in enumerate(target[:, 0]):
        count = 1 + int(torch.multinomial(chances[:most], 1, generator=generator))
        region = mask
        if float(torch.rand((), generator=generator)) < ERODED:
            inner = -functional.max_pool2d(-mask[None].float(), 7, 1, 3)[0] > 0
            region = inner if int(inner.sum()) > 10 else mask
        _draw(positive, i, region, count, generator, radius)
        count = int(torch.multinomial(chances, 1, generator=generator))
        near = int((torch.rand(count, generator=generator) < BORDER).sum())
        reach = max(1, round(BAND * float(mask.sum()) ** 0.5))
        band = (functional.max_pool2d(mask[None].float(), 2 * reach + 1, 1, reach)[0] > 0) & ~mask
        near = near if bool(band.any()) else 0
        _draw(negative, i, band, near, generator, radius)
        _draw(negative, i, ~mask, count - near, generator, radius)


def _draw(disks: Tensor, sample: int, region: Tensor, count: int, generator: torch.Generator, radius: float) -> None:
    where = torch.nonzero(region)
    if not count or not len(where):
        return
    points = where[torch.randint(0, len(where), (count,), generator=generator).to(where.device)]
    row = disks[sample : sample + 1]
    for point in points:
        add_disks(row, row.new_zeros(row.shape), point[None], point.new_ones(1), radius)


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
    network: Any, image: Tensor, target: Tensor, count: int = 6, start: Tensor | None = None
) -> RobotClicks:
    """Let `limnet.simulation.clicks.RobotUser` correct slices with a network, in eval mode.

    The robot sees each slice as a volume of one slice: first the middle of the object, then the middle of the largest
    error. Where nothing is wrong the network takes a second look without a new click.

    Args:
        network: a click network.
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


def add_disks(positive: Tensor, negative: Tensor, points: Tensor, kind: Tensor, radius: float) -> None:
    """Draw clicks at points (B, 2) as disks into the maps, float (B, 1, H, W), in place.

    Kind (B,) is 1 positive, 0 negative, -1 none. A pixel belongs to the disk when its squared distance is at most
    radius squared.
    """
    height, width = positive.shape[-2:]
    rows = torch.arange(height, device=positive.device)[None, :, None] - points[:, 0, None, None]
    columns = torch.arange(width, device=positive.device)[None, None, :] - points[:, 1, None, None]
    disk = (rows**2 + columns**2 <= radius**2)[:, None]
    positive[disk & (kind == 1)[:, None, None, None]] = 1.0
    negative[disk & (kind == 0)[:, None, None, None]] = 1.0
