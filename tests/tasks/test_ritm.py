from __future__ import annotations

from functools import partial
from typing import Any

import pytest
import torch

pytest.importorskip("lightning")

from limnet.errors import InputError
from limnet.tasks.interaction import InteractionModule
from tests.helpers.small_modules import HRNET, disk_batch, logged_by, small_module
from tests.helpers.tiny_networks import ENCODER, disk

make, batch = partial(small_module, "ritm"), disk_batch


def test_rounds_without_gradient_leave_statistics_alone() -> None:
    module = make(clicks=4, least_clicks=4)
    counts = {int(v) for k, v in module.network.named_buffers() if k.endswith("num_batches_tracked")}
    module.training_step(batch(), 0)
    after = {int(v) for k, v in module.network.named_buffers() if k.endswith("num_batches_tracked")}
    assert (counts, after) == ({0}, {1}), "one step in training mode, the rounds before in eval mode"


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


def test_any_network_of_the_table_can_be_trained_either_way(monkeypatch: pytest.MonkeyPatch) -> None:
    ritm = make(network="TinyInteraction", network_config=ENCODER)
    assert len(ritm.configure_optimizers()["optimizer"].param_groups) == 1
    assert bool(ritm.training_step(batch(), 0).isfinite())
    torch.manual_seed(0)
    module = InteractionModule(HRNET, network="HRNetOCR", clicks=2, seed=1)
    module.training_step(batch(), 0).backward()
    assert [n for n, p in module.network.named_parameters() if p.grad is None or not bool(p.grad.any())] == []
    assert {"val/dice_1", "val/dice_6", "val/noc85"} <= set(logged_by(module, batch(2), monkeypatch))
    with torch.no_grad():
        pictures = module.validation_step(batch(2), 0)["pictures"]
    assert pictures.image.shape == pictures.mask.shape == (2, 48, 48)
    assert bool(make(clicks=1).training_step(batch(), 0).isfinite())
    with pytest.raises(InputError, match="validation_clicks"):
        make(validation_clicks=3)
    with pytest.raises(InputError, match="HRNetOCR has no image half"):
        InteractionModule(HRNET, network="HRNetOCR", freeze_encoder=True)
