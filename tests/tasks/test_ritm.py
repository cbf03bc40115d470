from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest
import torch

pytest.importorskip("lightning")

from torch import Tensor

from limnet.errors import InputError
from limnet.tasks.interaction import RITM, InteractionModule
from tests.helpers.tiny_networks import ENCODER, disk
from tests.helpers.training import fit, same, snapshot, write_shard

SMALL = {"width": 4, "ocr_width": 8, "small": True, "dropout": 0.0}


def make(**options: Any) -> InteractionModule:
    torch.manual_seed(0)
    settings: dict[str, Any] = {**RITM, "network_config": SMALL, "max_steps": 10, "seed": 3}
    return InteractionModule(**{**settings, **options})


def batch(count: int = 3, size: int = 48) -> tuple[Tensor, Tensor]:
    mask = disk(size, size, (22, 26), 11).expand(count, -1, -1, -1)
    return (60 + 120 * mask).to(torch.uint8), mask.to(torch.uint8)


@pytest.mark.parametrize("clicks", [1, 4])
def test_a_training_step(clicks: int) -> None:
    loss = make(clicks=clicks).training_step(batch(), 0)
    assert bool(loss.isfinite())
    assert loss.requires_grad
    assert torch.equal(loss, make(clicks=clicks).training_step(batch(), 0))
    assert not torch.equal(loss, make(clicks=clicks).training_step(batch(), 1))


def test_rounds_without_gradient_leave_statistics_alone() -> None:
    module = make(clicks=4, least_clicks=4)
    counts = {int(v) for k, v in module.network.named_buffers() if k.endswith("num_batches_tracked")}
    module.training_step(batch(), 0)
    after = {int(v) for k, v in module.network.named_buffers() if k.endswith("num_batches_tracked")}
    assert (counts, after) == ({0}, {1}), "one step in training mode, the rounds before in eval mode"


def test_gradients_reach_every_weight_through_both_outputs() -> None:
    module = make()
    module.training_step(batch(), 0).backward()
    assert [n for n, p in module.network.named_parameters() if p.grad is None or not bool(p.grad.any())] == []


def test_some_samples_start_from_defective_masks() -> None:
    target = (disk(48, 48, (22, 26), 11) > 0).expand(100, -1, -1, -1)
    prompts = make(started=0.4).first_prompts(target, torch.Generator().manual_seed(0))
    started = prompts[:, 0].flatten(1).any(1)
    assert 0.25 < float(started.float().mean()) < 0.55
    assert bool((prompts[started, 0] != target[started, 0]).flatten(1).any(1).all())
    assert bool(prompts[:, 1].flatten(1).any(1).all())
    assert not make(started=0.0).first_prompts(target, torch.Generator())[:, 0].any()


def test_backbone_learns_slower_and_rates_fall() -> None:
    module = make(learning_rate=1.0, drops=(0.1, 0.3))
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


@pytest.mark.filterwarnings("ignore::UserWarning")
def test_resuming_gives_the_curve_of_an_unbroken_run(tmp_path: Path) -> None:
    data = write_shard(tmp_path, 7)
    (tmp_path / "whole").mkdir()
    whole = make(drops=(0.3,))
    curve = fit(whole, data, tmp_path / "whole", 4, batch=2)
    resumed = make(drops=(0.3,))
    rest = fit(resumed, data, tmp_path / "rest", 4, tmp_path / "whole" / "step=2.ckpt", batch=2)
    assert rest.losses == {s: v for s, v in curve.losses.items() if s > 2}
    assert same(snapshot(resumed.network), snapshot(whole.network))
    assert same(snapshot(whole.average), snapshot(whole.network)), "without averaging both are the same"


def test_settings_are_plain_json_and_checked() -> None:
    settings = dict(make().hparams)
    assert json.loads(json.dumps(settings)) == settings
    with pytest.raises(InputError, match="validation_clicks"):
        make(validation_clicks=3)


def test_any_network_of_the_table_can_be_trained_either_way(monkeypatch: pytest.MonkeyPatch) -> None:
    ritm = make(network="TinyInteraction", network_config=ENCODER)
    assert len(ritm.configure_optimizers()["optimizer"].param_groups) == 1
    assert bool(ritm.training_step(batch(), 0).isfinite())
    torch.manual_seed(0)
    module = InteractionModule(SMALL, network="HRNetOCR", clicks=2, seed=1)
    module.training_step(batch(), 0).backward()
    assert [n for n, p in module.network.named_parameters() if p.grad is None or not bool(p.grad.any())] == []
    logged: dict[str, float] = {}
    monkeypatch.setattr(module, "log", lambda name, value, **_: logged.update({name: float(value)}))
    with torch.no_grad():
        pictures = module.validation_step(batch(2), 0)["pictures"]
    assert {"val/dice_1", "val/dice_6", "val/noc85"} <= set(logged)
    assert pictures.image.shape == pictures.mask.shape == (2, 48, 48)
    with pytest.raises(InputError, match="HRNetOCR has no image half"):
        InteractionModule(SMALL, network="HRNetOCR", freeze_encoder=True)
