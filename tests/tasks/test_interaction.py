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
from limnet.tasks.interaction import InteractionModule
from limnet.training.callbacks import ExportAverage
from tests.helpers.small_modules import HRNET, disk_batch, logged_by, noise_batch, small_module
from tests.helpers.tiny_networks import ENCODER, disk, scramble
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


# the paper's way


ritm = partial(small_module, "ritm")


def test_rounds_without_gradient_leave_statistics_alone() -> None:
    module = ritm(clicks=4, least_clicks=4)
    counts = {int(v) for k, v in module.network.named_buffers() if k.endswith("num_batches_tracked")}
    module.training_step(disk_batch(), 0)
    after = {int(v) for k, v in module.network.named_buffers() if k.endswith("num_batches_tracked")}
    assert (counts, after) == ({0}, {1}), "one step in training mode, the rounds before in eval mode"


def test_some_samples_start_from_defective_masks() -> None:
    target = (disk(48, 48, (22, 26), 11) > 0).expand(100, -1, -1, -1)
    prompts = ritm(started=0.4).first_prompts(target, torch.Generator().manual_seed(0))
    started = prompts[:, 0].flatten(1).any(1)
    assert 0.25 < float(started.float().mean()) < 0.55
    assert bool((prompts[started, 0] != target[started, 0]).flatten(1).any(1).all())
    assert bool(prompts[:, 1].flatten(1).any(1).all())
    assert not ritm(started=0.0).first_prompts(target, torch.Generator())[:, 0].any()


def test_backbone_learns_slower_and_rates_fall() -> None:
    module = ritm(learning_rate=1.0, drops=(0.1, 0.3))
    config: Any = module.configure_optimizers()
    head, rest = config["optimizer"].param_groups
    ids = {id(p) for p in rest["params"]}
    assert id(module.network.feature_extractor.cls_head.weight) in ids
    assert id(module.network.maps_transform[0].weight) not in ids
    assert len(head["params"]) + len(rest["params"]) == len(list(module.network.parameters()))
    rates = []
    for _ in range(4):
        rates.append((head["lr"], rest["lr"]))
        config["optimizer"].step()
        config["lr_scheduler"]["scheduler"].step()
    assert [r for pair in rates for r in pair] == pytest.approx([1, 0.1, 0.1, 0.01, 0.1, 0.01, 0.01, 0.001])


def test_any_network_of_the_table_can_be_trained_either_way(monkeypatch: pytest.MonkeyPatch) -> None:
    tiny = ritm(network="TinyInteraction", network_config=ENCODER)
    assert len(tiny.configure_optimizers()["optimizer"].param_groups) == 1
    assert bool(tiny.training_step(disk_batch(), 0).isfinite())
    torch.manual_seed(0)
    module = InteractionModule(HRNET, network="HRNetOCR", clicks=2, seed=1)
    module.training_step(disk_batch(), 0).backward()
    assert [n for n, p in module.network.named_parameters() if p.grad is None or not bool(p.grad.any())] == []
    assert {"val/dice_1", "val/dice_6", "val/noc85"} <= set(logged_by(module, disk_batch(2), monkeypatch))
    with torch.no_grad():
        pictures = module.validation_step(disk_batch(2), 0)["pictures"]
    assert pictures.image.shape == pictures.mask.shape == (2, 48, 48)
    assert bool(ritm(clicks=1).training_step(disk_batch(), 0).isfinite())
    with pytest.raises(InputError, match="validation_clicks"):
        ritm(validation_clicks=3)
    with pytest.raises(InputError, match="HRNetOCR has no image half"):
        InteractionModule(HRNET, network="HRNetOCR", freeze_encoder=True)
