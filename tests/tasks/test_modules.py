"""What every training keeps: repeatable steps, gradients everywhere, plain settings, resuming without a trace."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest
import torch

pytest.importorskip("lightning")

from tests.helpers.small_modules import TRAININGS, small_batch, small_module
from tests.helpers.tiny_networks import scramble
from tests.helpers.training import fit, same, snapshot, write_shard

FREE = {"propagation": {"freeze_encoder": False}, "xmem": {"references": 2, "deep_update": 1.0}}
"""Settings under which every weight takes part."""


@pytest.mark.parametrize("name", TRAININGS)
def test_a_step_depends_on_seed_and_batch_number_alone(name: str) -> None:
    loss = small_module(name).training_step(small_batch(name), 0)
    assert loss.shape == ()
    assert bool(loss.isfinite())
    assert loss.requires_grad
    assert torch.equal(loss, small_module(name).training_step(small_batch(name), 0))
    assert not torch.equal(loss, small_module(name).training_step(small_batch(name), 1))
    assert not torch.equal(loss, small_module(name, seed=4).training_step(small_batch(name), 0))


@pytest.mark.parametrize("name", TRAININGS)
def test_gradients_reach_every_weight(name: str) -> None:
    module = small_module(name, **FREE.get(name, {}))
    if name in ("interaction", "propagation", "quality"):  # their blocks start as the identity
        scramble(module.network)
    module.network.train()
    module.training_step(small_batch(name), 0).backward()
    assert [n for n, p in module.network.named_parameters() if p.grad is None or not bool(p.grad.any())] == []
    assert all(p.grad is None for p in module.average.parameters())


@pytest.mark.parametrize("name", TRAININGS)
def test_settings_are_plain_json(name: str) -> None:
    settings = json.loads(json.dumps(dict(small_module(name).hparams)))
    assert (settings["seed"], settings["max_steps"]) == (3, 10)


@pytest.mark.filterwarnings("ignore::UserWarning")
@pytest.mark.parametrize(
    ("name", "options", "length"),
    [
        ("interaction", {"learning_rate": 3e-3}, 1),
        ("ritm", {"drops": (0.3,)}, 1),
        ("propagation", {}, 3),
        ("xmem", {"drops": (0.3,), "learning_rate": 1e-3, "bootstrap": (0.1, 0.4), "average_decay": 0.9}, 5),
    ],
)
def test_resuming_gives_the_curve_of_an_unbroken_run(
    name: str, options: dict[str, Any], length: int, tmp_path: Path
) -> None:
    data = write_shard(tmp_path, 5, length)  # three batches an epoch: the run goes over its end
    (tmp_path / "whole").mkdir()
    whole = small_module(name, **options)
    start = snapshot(whole.network)
    curve = fit(whole, data, tmp_path / "whole", 4, batch=2)
    resumed = small_module(name, **options)
    rest = fit(resumed, data, tmp_path / "rest", 4, tmp_path / "whole" / "step=2.ckpt", batch=2)
    assert sorted(curve.losses) == [1, 2, 3, 4]
    assert rest.losses == {s: v for s, v in curve.losses.items() if s > 2}
    ended, average = snapshot(whole.network), snapshot(whole.average)
    assert same(snapshot(resumed.network), ended)
    assert same(snapshot(resumed.average), average)
    assert not same(ended, start)
    assert same(average, ended) == (name == "ritm"), "without averaging both are the same"
    if name == "interaction":  # the average follows, in the same direction
        key = "decoder.mix4.weight"
        assert 0 < float((average[key] - start[key]).norm()) < float((ended[key] - start[key]).norm())
        assert not torch.equal(average["encoder.stem.1.running_mean"], start["encoder.stem.1.running_mean"])
    if name == "propagation":  # its image half is frozen, weights and statistics
        assert all(torch.equal(v, start[k]) for k, v in ended.items() if k.startswith("encoder."))
