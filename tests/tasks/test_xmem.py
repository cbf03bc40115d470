from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest
import torch

pytest.importorskip("lightning")

from torch import Tensor

from limnet.errors import InputError
from limnet.hub.registry import TABLE
from limnet.tasks.propagation import XMEM, PropagationModule
from tests.helpers.small_xmem import PLACE
from tests.helpers.tiny_networks import disk
from tests.helpers.training import fit, same, snapshot, write_shard


@pytest.fixture
def known(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(TABLE["propagation"], "SmallXMem", PLACE)


def make(**options: Any) -> PropagationModule:
    torch.manual_seed(0)
    settings: dict[str, Any] = {"network": "SmallXMem", "schedule": "xmem", "frames": 4, "max_steps": 10, "seed": 3}
    return PropagationModule(**{**settings, **options})


def batch(count: int = 2, length: int = 6, size: int = 64) -> tuple[Tensor, Tensor]:
    """Two moving disks of different grey."""
    first = torch.cat([disk(size, size, (22 + t, 20), 9)[0] for t in range(length)])
    second = torch.cat([disk(size, size, (42, 44 - t), 8)[0] for t in range(length)])
    image = (60 + 100 * first + 50 * second).to(torch.uint8)
    labels = (first + 2 * second * (1 - first)).to(torch.uint8)
    return image.expand(count, -1, -1, -1).contiguous(), labels.expand(count, -1, -1, -1).contiguous()


@pytest.mark.usefixtures("known")
def test_a_training_step() -> None:
    loss = make().training_step(batch(), 0)
    assert bool(loss.isfinite())
    assert torch.equal(loss, make().training_step(batch(), 0))
    assert not torch.equal(loss, make().training_step(batch(), 1))


@pytest.mark.usefixtures("known")
def test_gradients_reach_every_weight_and_statistics_stay() -> None:
    module = make(references=2, deep_update=1.0)
    module.network.train()
    before = {k: v.clone() for k, v in module.network.named_buffers()}
    module.training_step(batch(), 0).backward()
    assert [n for n, p in module.network.named_parameters() if p.grad is None or not bool(p.grad.any())] == []
    assert all(torch.equal(v, before[k]) for k, v in module.network.named_buffers())


@pytest.mark.usefixtures("known")
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


@pytest.mark.usefixtures("known")
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


@pytest.mark.usefixtures("known")
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


@pytest.mark.usefixtures("known")
def test_clips_without_objects_and_short_clips_pass() -> None:
    image, labels = batch(2, 2)
    assert bool(make().training_step((image, labels), 0).isfinite())
    loss = make().training_step((image, labels * 0), 0)
    assert bool(loss.isfinite())
    loss.backward()


@pytest.mark.usefixtures("known")
@pytest.mark.filterwarnings("ignore::UserWarning")
def test_resuming_gives_the_curve_of_an_unbroken_run(tmp_path: Path) -> None:
    data = write_shard(tmp_path, 7, 5)
    (tmp_path / "whole").mkdir()
    options: dict[str, Any] = {"drops": (0.3,), "learning_rate": 1e-3, "bootstrap": (0.1, 0.4), "average_decay": 0.9}
    whole = make(**options)
    curve = fit(whole, data, tmp_path / "whole", 4, batch=2)
    resumed = make(**options)
    rest = fit(resumed, data, tmp_path / "rest", 4, tmp_path / "whole" / "step=2.ckpt", batch=2)
    assert rest.losses == {s: v for s, v in curve.losses.items() if s > 2}
    assert same(snapshot(resumed.network), snapshot(whole.network))
    assert same(snapshot(resumed.average), snapshot(whole.average))


@pytest.mark.usefixtures("known")
def test_learning_rate_falls_at_its_steps() -> None:
    module = make(drops=(0.2, 0.4), learning_rate=1.0)
    config: Any = module.configure_optimizers()
    rates = []
    for _ in range(6):
        rates.append(config["optimizer"].param_groups[0]["lr"])
        config["optimizer"].step()
        config["lr_scheduler"]["scheduler"].step()
    assert rates == pytest.approx([1, 1, 0.1, 0.1, 0.01, 0.01])
    assert config["optimizer"].param_groups[0]["weight_decay"] == 0.05


@pytest.mark.usefixtures("known")
def test_validation_logs_like_the_small_network(monkeypatch: pytest.MonkeyPatch) -> None:
    module = make()
    logged: dict[str, float] = {}
    monkeypatch.setattr(module, "log", lambda name, value, **_: logged.update({name: float(value)}))
    image, labels = batch(2, 4)
    labels[1] = 0
    pictures = module.validation_step((image, labels), 0)["pictures"]
    assert pictures.mask.shape == pictures.truth.shape == (4, 64, 64)
    assert torch.equal(pictures.mask[0], labels[0, 0] == 1), "the prompt itself, of the first object"
    assert sorted(logged) == ["val/dice_carried", "val/dice_copied", "val/dice_copied_each_step", "val/dice_per_slice"]
    assert logged["val/dice_copied"] < logged["val/dice_copied_each_step"] < 1


@pytest.mark.usefixtures("known")
def test_settings_are_plain_json() -> None:
    settings = dict(make().hparams)
    assert json.loads(json.dumps(settings)) == settings


@pytest.mark.usefixtures("known")
def test_bad_settings() -> None:
    with pytest.raises(InputError, match="frames=2"):
        make(frames=2)


def test_one_step_of_xmem_itself_lowers_its_loss() -> None:
    """The paper's network, all 62 million weights, on a clip of 64 x 64 pixels."""
    torch.manual_seed(0)
    module = PropagationModule(**XMEM, frames=3, objects=2, learning_rate=1e-4)
    del module.average
    config: Any = module.configure_optimizers()
    losses = []
    for _ in range(2):
        config["optimizer"].zero_grad()
        loss = module.training_step(batch(1, 3), 0)
        loss.backward()
        config["optimizer"].step()
        losses.append(loss.item())
    assert losses[1] < losses[0]
