from __future__ import annotations

import itertools
from functools import partial
from typing import Any

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

pytest.importorskip("lightning")

from limnet.tasks.propagation import XMEM, PropagationModule
from limnet.tasks.xmem import draw_frames, draw_references, largest_skip, split_objects
from tests.helpers.small_modules import label_batch, logged_by, small_module

make, batch = partial(small_module, "xmem"), label_batch


def test_statistics_stay() -> None:
    module = make()
    module.network.train()
    before = {k: v.clone() for k, v in module.network.named_buffers()}
    module.training_step(batch(), 0).backward()
    assert all(torch.equal(v, before[k]) for k, v in module.network.named_buffers())


def test_gradients_run_through_the_predictions_of_earlier_slices() -> None:
    module = make(references=3)
    image, labels = batch(1)
    outputs, present = module.clips.carry(
        module.network,
        image[:, :4].float() / 255,
        torch.stack([labels[:, 0] == 1, labels[:, 0] == 2], 1),
        torch.Generator().manual_seed(0),
    )
    assert present.tolist() == [[True, True]]
    assert [o[1].shape for o in outputs] == [(1, 3, 64, 64)] * 3
    torch.testing.assert_close(outputs[0][1].sum(1), torch.ones(1, 64, 64))
    outputs[0][1].retain_grad()
    outputs[2][1][:, 1].sum().backward()
    assert outputs[0][1].grad is not None
    assert bool(outputs[0][1].grad.any())


def test_first_step_equals_the_stream() -> None:
    """The rules of training and of use agree where they must: slice 1, read from slice 0 alone."""
    from limnet.propagation.stream import Stream

    module = make()
    module.network.eval()
    image, labels = batch(1)
    prompt = torch.stack([labels[0, 0] == 1, labels[0, 0] == 2])
    stream = Stream(module.network, mem_every=5)
    stream.step(image[0, :1].float() / 255, prompt.float())
    expected = stream.step(image[0, 1:2].float() / 255)
    with torch.no_grad():
        outputs, _ = module.clips.carry(
            module.network, image[:, :3].float() / 255, prompt[None], torch.Generator().manual_seed(0)
        )
        # the stream reads the 30 best elements, training reads all 16
    torch.testing.assert_close(outputs[0][1][0], expected, atol=1e-5, rtol=1e-4)


def test_objects_that_are_not_there_stay_empty() -> None:
    module = make()
    image, labels = batch(2)
    prompt = torch.stack([labels[:, 0] == 1, labels[:, 0] == 2], 1)
    prompt[1, 1] = False
    outputs, present = module.clips.carry(module.network, image.float() / 255, prompt, torch.Generator().manual_seed(0))
    assert present.tolist() == [[True, True], [True, False]]
    assert all(bool((p[1, 2] < 1e-5).all()) for _, p in outputs)
    assert bool((outputs[0][1][0, 2] > 1e-3).any())
    alone, _ = module.clips.carry(
        module.network, image[1:].float() / 255, prompt[1:, :1], torch.Generator().manual_seed(0)
    )
    torch.testing.assert_close(alone[0][1][0, 1], outputs[0][1][1, 1], atol=1e-5, rtol=1e-4)


def test_clips_without_objects_and_short_clips_pass() -> None:
    image, labels = batch(2, 2)
    assert bool(make().training_step((image, labels), 0).isfinite())
    loss = make().training_step((image, labels * 0), 0)
    assert bool(loss.isfinite())
    loss.backward()


def test_validation_logs_like_the_small_network(monkeypatch: pytest.MonkeyPatch) -> None:
    module = make()
    image, labels = batch(2, 4)
    labels[1] = 0
    logged = logged_by(module, (image, labels), monkeypatch)
    pictures = module.validation_step((image, labels), 0)["pictures"]
    assert pictures.mask.shape == pictures.truth.shape == (4, 64, 64)
    assert torch.equal(pictures.mask[0], labels[0, 0] == 1), "the prompt itself, of the first object"
    assert sorted(logged) == ["val/dice_carried", "val/dice_copied", "val/dice_copied_each_step", "val/dice_per_slice"]
    assert logged["val/dice_copied"] < logged["val/dice_copied_each_step"] < 1


def test_one_step_of_xmem_itself_lowers_its_loss() -> None:
    """The paper's network, all 62 million weights, on a clip of 64 x 64 pixels."""
    torch.manual_seed(0)
    module = PropagationModule(**XMEM, frames=3, objects=2, learning_rate=1e-4)
    del module.average
    config: Any = module.configure_optimizers()
    before = module.training_step(batch(1, 3), 0)
    before.backward()
    config["optimizer"].step()
    with torch.no_grad():
        assert module.training_step(batch(1, 3), 0) < before


def generator(seed: int = 0) -> torch.Generator:
    return torch.Generator().manual_seed(seed)


def test_curriculum_of_skips() -> None:
    assert [largest_skip(p) for p in (0, 0.09, 0.1, 0.3, 0.79, 0.8, 1.0)] == [5, 5, 10, 15, 15, 5, 5]


@settings(max_examples=80, deadline=None)
@given(st.integers(1, 60), st.integers(3, 8), st.integers(1, 15), st.integers(0, 10**6))
def test_frames_lie_in_the_clip_and_near_each_other(length: int, frames: int, skip: int, seed: int) -> None:
    picks = draw_frames(length, frames, skip, generator(seed))
    gaps = [b - a for a, b in itertools.pairwise(picks)]
    assert len(picks) == min(length, frames)
    assert 0 <= min(picks) <= max(picks) < length
    assert all(1 <= g <= skip for g in gaps) or all(-skip <= g <= -1 for g in gaps)


def test_both_directions_and_many_gaps_occur() -> None:
    draws = [draw_frames(40, 4, 5, generator(s)) for s in range(60)]
    assert 15 < sum(p[0] < p[-1] for p in draws) < 45
    assert {abs(b - a) for p in draws for a, b in itertools.pairwise(p)} == {1, 2, 3, 4, 5}


def test_objects_are_those_of_the_first_slice() -> None:
    labels = torch.zeros(2, 3, 6, 6, dtype=torch.uint8)
    labels[0, :, 0], labels[0, :2, 2], labels[0, 1:, 4] = 3, 7, 9  # 7 ends, 9 begins later
    masks = split_objects(labels, 3)
    assert masks.shape == (2, 3, 2, 6, 6)
    assert torch.equal(masks[0, :, 0], labels[0] == 3)
    assert torch.equal(masks[0, :, 1], labels[0] == 7)
    assert not masks[1].any()
    assert split_objects(labels, 1).shape[2] == 1
    picked = {int(split_objects(labels, 1, generator(s))[0, 0].nonzero()[0, 1]) for s in range(20)}
    assert picked == {0, 2}


def test_references_always_hold_the_first_slice() -> None:
    assert draw_references(1, 3, 2, generator()).tolist() == [[0], [0]]
    assert draw_references(3, 3, 2, generator()).tolist() == [[0, 1, 2]] * 2
    many = draw_references(7, 3, 200, generator())
    assert many.shape == (200, 3)
    assert many[:, 0].eq(0).all()
    assert set(many[:, 1:].flatten().tolist()) == {1, 2, 3, 4, 5, 6}
    assert bool((many[:, 1] != many[:, 2]).all())
    assert draw_references(5, 1, 3, generator()).tolist() == [[0]] * 3
