from __future__ import annotations

import torch

from limnet.simulation.initial_masks import damage, loose_boxes, poor_masks, shifted, start_prompts, wrong_objects
from tests.helpers.tiny_networks import disk


def test_start_prompts_are_sometimes_a_mask_or_a_box_around_the_object() -> None:
    target = (disk(48, 48, (20, 25), 9) > 0).expand(300, -1, -1, -1)
    prompts = start_prompts(target, torch.Generator().manual_seed(0))
    assert prompts.shape == (300, 4, 48, 48)
    assert prompts.dtype == torch.float32
    assert not prompts[:, 1:3].any()
    masked, boxed = prompts[:, 0].any(-1).any(-1), prompts[:, 3].any(-1).any(-1)
    # damaged .25, grown together .15, poor .15; boxes .10; three standard deviations of 300 draws
    assert abs(float(masked.float().mean()) - 0.55) < 0.09
    assert abs(float(boxed.float().mean()) - 0.10) < 0.06
    assert not bool((masked & boxed).any())
    assert bool((prompts[boxed, 3] >= target[boxed, 0].float()).all())  # nothing of the object outside its box
    empty = start_prompts(torch.zeros(5, 1, 32, 32, dtype=torch.bool), torch.Generator().manual_seed(0))
    assert not empty[:, 3].any()


def test_damaged_masks_are_neither_the_same_nor_unrelated() -> None:
    target = (disk(64, 64, (30, 30), 14) > 0).expand(40, -1, -1, -1)
    damaged = damage(target, torch.Generator().manual_seed(0))
    assert set(damaged.unique().tolist()) == {0.0, 1.0}
    overlap = (2 * (damaged * target).flatten(1).sum(1)) / (damaged.flatten(1).sum(1) + target.flatten(1).sum(1))
    assert 0.5 < float(overlap.mean()) < 0.98
    assert float(overlap.std()) > 0.02


def test_wrong_objects_must_be_emptied() -> None:
    target = (disk(32, 32, (15, 15), 6) > 0).expand(50, -1, -1, -1)
    prompts = torch.zeros(50, 4, 32, 32)
    emptied = wrong_objects(target, prompts, torch.Generator().manual_seed(0), 0.3)
    gone = ~emptied.flatten(1).any(1)
    assert 5 < int(gone.sum()) < 25
    assert torch.equal(prompts[gone, 0], target[gone, 0].float())
    assert not prompts[~gone].any()
    assert torch.equal(emptied[~gone], target[~gone])
    assert torch.equal(wrong_objects(target, prompts, torch.Generator(), 0.0), target)


def test_every_mask_is_shifted_by_its_own_offset() -> None:
    masks = torch.rand(3, 1, 6, 9, generator=torch.Generator().manual_seed(0))
    offsets = torch.tensor([[2.0, -3.7], [0.0, 0.0], [-7.2, 12.0]])
    moved = shifted(masks, offsets)
    for i, (down, right) in enumerate([(2, -3), (0, 0), (-7, 12)]):
        assert torch.equal(moved[i, 0], masks[i, 0].roll((down, right), (0, 1)))


def test_boxes_are_loose_by_the_slack_asked_for() -> None:
    target = torch.zeros(3, 1, 40, 50, dtype=torch.bool)
    target[0, 0, 10:20, 20:40] = True
    target[1, 0, 0:25, 30:50] = True
    slack = torch.tensor([[0.0, 0.0, 0.0, 0.0], [1.0, 1.0, 1.0, 1.0], [1.0, 1.0, 1.0, 1.0]])
    boxes = loose_boxes(target, slack)
    assert torch.equal(boxes[0], target[0])
    wanted = torch.zeros(40, 50, dtype=torch.bool)
    wanted[0:28, 27:50] = True  # 12 % of 25 rows and 20 columns, cut to whole pixels and the slice
    assert torch.equal(boxes[1, 0], wanted)
    assert not boxes[2].any()


def test_poor_masks_are_a_side_a_shifted_object_or_a_side_and_another_object() -> None:
    target = (disk(48, 48, (24, 24), 12) > 0).expand(400, -1, -1, -1)
    foreign = (disk(48, 48, (10, 10), 5) > 0).expand(400, -1, -1, -1)
    poor = poor_masks(target, foreign, torch.Generator().manual_seed(0)) > 0
    area = target[0].sum()
    inside = (poor & target).flatten(1).sum(1) / area
    outside = (poor & ~target).flatten(1).any(1)
    sides = ~outside & (inside < 0.99)
    assert 0.25 < sides.float().mean() < 0.6
    assert 0.02 < inside[sides].min() < 0.2
    assert 0.5 < inside[sides].max() < 0.75
    same_area = poor.flatten(1).sum(1) == area
    assert 0.1 < same_area.float().mean() < 0.4  # only shifted
    assert not poor_masks(target[:0], foreign[:0], torch.Generator()).any()
    assert not poor_masks(target & False, foreign & False, torch.Generator()).any()
