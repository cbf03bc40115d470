from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest
import torch

pytest.importorskip("lightning")

from limnet.data.loading import ClipLoader
from limnet.errors import InputError
from limnet.hub.folder import load_component
from limnet.simulation.click_batch import draw_clicks
from limnet.tasks.interaction import InteractionModule
from limnet.training.callbacks import ExportAverage
from tests.helpers.tiny_networks import ENCODER, disk, scramble
from tests.helpers.training import fit, same, snapshot, write_shard


def make(**options: Any) -> InteractionModule:
    torch.manual_seed(0)
    settings: dict[str, Any] = {"network_config": ENCODER, "max_steps": 10, "warmup_steps": 2, "seed": 3}
    return InteractionModule(**{**settings, **options})


def batch(count: int = 3, length: int = 1, size: int = 32) -> tuple[torch.Tensor, torch.Tensor]:
    generator = torch.Generator().manual_seed(1)
    image = torch.randint(0, 256, (count, length, size, size), generator=generator, dtype=torch.uint8)
    mask = disk(size, size, (15, 17), 8).to(torch.uint8).expand(count, length, -1, -1)
    return image, mask


@pytest.mark.parametrize("length", [1, 3])
def test_a_training_step(length: int) -> None:
    module = make()
    loss = module.training_step(batch(length=length), 0)
    assert loss.shape == ()
    assert bool(loss.isfinite())
    assert loss.requires_grad
    again = make().training_step(batch(length=length), 0)
    assert torch.equal(loss, again)
    assert not torch.equal(loss, make(seed=4).training_step(batch(length=length), 0))
    assert not torch.equal(loss, make().training_step(batch(length=length), 1))


def test_fewer_clicks_than_any_batch_draws() -> None:
    with pytest.raises(InputError, match="clicks is 1; each batch draws between 2 and this: give 2 or more"):
        make(clicks=1)
    assert bool(make(clicks=2).training_step(batch(), 0).isfinite())


def test_a_recorded_start_mask_is_what_the_first_click_corrects(monkeypatch: pytest.MonkeyPatch) -> None:
    import limnet.tasks.interaction as place

    seen: list[torch.Tensor] = []

    def watched(target: torch.Tensor, predicted: torch.Tensor, *rest: Any, first: bool) -> tuple[torch.Tensor, ...]:
        seen.append(predicted.clone())
        return draw_clicks(target, predicted, *rest, first=first)

    monkeypatch.setattr(place, "augment_clips", lambda image, mask, *_: (image.float() / 255, mask > 0))
    monkeypatch.setattr(place, "draw_clicks", watched)
    image, mask = batch(2)
    start = mask.roll(5, -1)
    start[1] = 0  # nothing recorded
    make(own=0.0, erase=0.0).training_step((image, mask, start), 0)
    assert torch.equal(seen[0][0], start[0] > 0)
    assert not torch.equal(seen[0][1], start[0] > 0)


def test_own_masks_as_start(monkeypatch: pytest.MonkeyPatch) -> None:
    module = make(own=1.0)
    scramble(module.network)
    image, mask = batch(6)
    target = mask > 0
    features = module.network.encode_image(image.float() / 255)
    prompts = torch.zeros(6, 4, 32, 32)
    prompts[:, 3] = 1
    module._start_from_own(features, target, prompts, torch.Generator().manual_seed(0))
    assert prompts[:, 0].amin() >= 0
    assert prompts[:, 0].amax() <= 1
    assert prompts[:, 0].std() > 0
    assert not prompts[:, 1:].any()  # no clicks are left, nor boxes
    untouched = torch.zeros(6, 4, 32, 32)
    make(own=0.0)._start_from_own(features, target, untouched, torch.Generator().manual_seed(0))
    assert not untouched.any()


def test_gradients_reach_every_weight() -> None:
    module = make()
    scramble(module.network)
    module.network.train()
    module.training_step(batch(4), 0).backward()
    silent = [n for n, p in module.network.named_parameters() if p.grad is None or not bool(p.grad.any())]
    assert silent == []
    assert all(p.grad is None for p in module.average.parameters())


@pytest.mark.filterwarnings("ignore::UserWarning")
def test_training_moves_network_and_average(tmp_path: Path) -> None:
    module = make(learning_rate=3e-3)
    start, average = snapshot(module.network), snapshot(module.average)
    assert same(start, average)
    curve = fit(module, write_shard(tmp_path), tmp_path, 5)
    assert sorted(curve.losses) == [1, 2, 3, 4, 5]
    moved, followed = snapshot(module.network), snapshot(module.average)
    key = "decoder.mix4.weight"
    assert not torch.equal(moved[key], start[key])
    gap = {"network": (moved[key] - start[key]).norm(), "average": (followed[key] - start[key]).norm()}
    assert 0 < float(gap["average"]) < float(gap["network"])  # behind, in the same direction
    assert not torch.equal(followed["encoder.stem.1.running_mean"], average["encoder.stem.1.running_mean"])


@pytest.mark.filterwarnings("ignore::UserWarning")
def test_resuming_gives_the_curve_of_an_unbroken_run(tmp_path: Path) -> None:
    data = write_shard(tmp_path)  # three batches an epoch: the run goes over its end
    (tmp_path / "whole").mkdir()
    whole = make()
    curve = fit(whole, data, tmp_path / "whole", 5)
    for step in (2, 4):
        resumed = make()
        rest = fit(resumed, data, tmp_path / f"rest{step}", 5, tmp_path / "whole" / f"step={step}.ckpt")
        assert rest.losses == {s: v for s, v in curve.losses.items() if s > step}
        assert same(snapshot(resumed.network), snapshot(whole.network))
        assert same(snapshot(resumed.average), snapshot(whole.average))


@pytest.mark.filterwarnings("ignore::UserWarning")
def test_frozen_image_half_stays(tmp_path: Path) -> None:
    module = make(freeze_encoder=True)
    encoder, decoder = snapshot(module.network.encoder), snapshot(module.network.decoder)
    fit(module, write_shard(tmp_path), tmp_path, 2)
    assert same(snapshot(module.network.encoder), encoder)
    assert not same(snapshot(module.network.decoder), decoder)


def test_settings_are_plain_json() -> None:
    module = make()
    assert json.loads(json.dumps(dict(module.hparams)))["seed"] == 3
    assert json.loads(json.dumps(module.network.config)) == module.network.config


def test_validation_runs_without_a_trainer_state(monkeypatch: pytest.MonkeyPatch) -> None:
    module = make()
    logged: dict[str, float] = {}
    monkeypatch.setattr(module, "log", lambda name, value, **_: logged.update({name: float(value)}))
    with torch.no_grad():
        module.validation_step(batch(2), 0)
    assert sorted(logged) == ["val/dice_1", "val/dice_2", "val/dice_3", "val/dice_6", "val/noc85"]
    assert 1 <= logged.pop("val/noc85") <= 6
    assert all(0 <= v <= 1 for v in logged.values())


@pytest.mark.filterwarnings("ignore::UserWarning")
def test_export_of_the_average(tmp_path: Path) -> None:
    from lightning.pytorch import Trainer

    module, data = make(), write_shard(tmp_path)
    quiet: dict[str, Any] = {"logger": False, "enable_progress_bar": False, "enable_model_summary": False}
    trainer = Trainer(
        max_steps=1,
        accelerator="cpu",
        devices=1,
        enable_checkpointing=False,
        limit_val_batches=0,
        callbacks=[ExportAverage(tmp_path / "interaction", every=100)],
        **quiet,
    )
    trainer.fit(module, ClipLoader(data, 3, len(data)))
    loaded = load_component(tmp_path / "interaction", "interaction")
    for name, value in module.average.state_dict().items():
        torch.testing.assert_close(loaded.state_dict()[name], value, rtol=1e-3, atol=1e-4)


def test_weights_of_the_losses() -> None:
    module = InteractionModule(loss_weights=(0, 2, 1))
    assert module.hparams["loss_weights"] == [0.0, 2.0, 1.0]
    for wrong in ((1.0, 1.0), (0.0, 0.0, 0.0), (1.0, -1.0, 1.0)):
        with pytest.raises(InputError, match="give three of at least 0"):
            InteractionModule(loss_weights=wrong)


def test_carried_masks_as_start() -> None:
    from limnet.propagation.networks.tiny import TinyPropagation
    from tests.helpers.tiny_networks import MEMORY

    torch.manual_seed(0)
    module = make(carried=1.0)
    assert module.training_step(batch(3, 2), 0).isfinite()  # without a carrier nothing is carried
    keys = set(module.state_dict())
    module.start_from(TinyPropagation(**ENCODER, **MEMORY))
    assert set(module.state_dict()) == keys
    image, mask = batch(4, 2)
    prompts = torch.zeros(4, 4, 32, 32)
    prompts[:, 3] = 1
    module._start_from_carried(image.float() / 255, mask > 0, prompts, torch.Generator().manual_seed(0))
    assert prompts[:, 0].std() > 0  # an untrained carrier hands on the other slice's mask
    assert bool((prompts[:, 0] > 0.5).flatten(1).any(1).all())
    assert not prompts[:, 1:].any()
    assert module.training_step(batch(3, 2), 0).isfinite()
