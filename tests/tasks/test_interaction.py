from __future__ import annotations

from functools import partial
from pathlib import Path
from typing import Any

import pytest
import torch

pytest.importorskip("lightning")

from limnet.data.loading import ClipLoader
from limnet.errors import InputError
from limnet.hub.folder import load_component
from limnet.simulation.click_batch import draw_clicks
from limnet.training.callbacks import ExportAverage
from tests.helpers.small_modules import logged_by, noise_batch, small_module
from tests.helpers.tiny_networks import ENCODER, scramble
from tests.helpers.training import fit, same, snapshot, write_shard

make = partial(small_module, "interaction")


def batch(count: int = 3, length: int = 1) -> tuple[torch.Tensor, torch.Tensor]:
    return noise_batch(count, length)


def test_validation_runs_without_a_trainer_state(monkeypatch: pytest.MonkeyPatch) -> None:
    logged = logged_by(make(), batch(2), monkeypatch)
    assert sorted(logged) == ["val/dice_1", "val/dice_2", "val/dice_3", "val/dice_6", "val/noc85"]
    assert 1 <= logged.pop("val/noc85") <= 6
    assert all(0 <= v <= 1 for v in logged.values())


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


@pytest.mark.filterwarnings("ignore::UserWarning")
def test_frozen_image_half_stays(tmp_path: Path) -> None:
    module = make(freeze_encoder=True)
    encoder, decoder = snapshot(module.network.encoder), snapshot(module.network.decoder)
    fit(module, write_shard(tmp_path), tmp_path, 2)
    assert same(snapshot(module.network.encoder), encoder)
    assert not same(snapshot(module.network.decoder), decoder)


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
    trainer.fit(module, ClipLoader(data, 3))
    loaded = load_component(tmp_path / "interaction", "interaction")
    for name, value in module.average.state_dict().items():
        torch.testing.assert_close(loaded.state_dict()[name], value, rtol=1e-3, atol=1e-4)


@pytest.mark.parametrize("name", ["interaction", "propagation"])
def test_weights_of_the_losses(name: str) -> None:
    assert small_module(name, loss_weights=(0, 2, 1)).hparams["loss_weights"] == [0.0, 2.0, 1.0]
    with pytest.raises(InputError, match="give three of at least 0"):
        small_module(name, loss_weights=(1.0,))


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
