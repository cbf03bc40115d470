from __future__ import annotations

import json
from typing import Any

import pytest
import torch

pytest.importorskip("lightning")

from torch import Tensor

from limnet.errors import InputError
from limnet.tasks.quality import QualityModule
from tests.helpers.tiny_networks import disk, scramble


def make(**options: Any) -> QualityModule:
    torch.manual_seed(0)
    settings: dict[str, Any] = {"network_config": {"widths": (16, 16, 16)}, "max_steps": 10, "seed": 3}
    return QualityModule(**{**settings, **options})


def batch(count: int = 4) -> tuple[Tensor, Tensor, Tensor, Tensor]:
    """Pictures of a disk, a good and a bad mask in turns, and their Dice."""
    true = disk(32, 32, (16, 16), 8)[0]
    bad = disk(32, 32, (12, 12), 5)[0]
    first = (torch.arange(count) % 2 == 0)[:, None, None]
    image = (true * 120 + 60).to(torch.uint8).expand(count, -1, -1)
    previous, current = torch.where(first, true, bad), torch.where(first, bad, true)
    dice = torch.where(first[:, :, 0], torch.tensor([1.0, 0.4]), torch.tensor([0.4, 1.0]))
    return image, previous.to(torch.uint8), current.to(torch.uint8), dice


def test_a_training_step_is_reproducible() -> None:
    loss = make().training_step(batch(), 0)
    assert bool(loss.isfinite())
    assert torch.equal(loss, make().training_step(batch(), 0))
    assert not torch.equal(loss, make().training_step(batch(), 1))


def test_gradients_reach_every_weight() -> None:
    module = make()
    scramble(module.network)
    module.network.train()
    module.training_step(batch(), 0).backward()
    silent = [n for n, p in module.network.named_parameters() if p.grad is None or not bool(p.grad.any())]
    assert silent == []
    # the comparison is a difference of two scores, so its own bias cancels
    assert float(module.network.head[2].bias.grad[0].abs()) < 1e-6  # type: ignore[index, union-attr]


def test_ties_cost_the_comparison_nothing() -> None:
    module = make()
    image, previous, current, dice = batch()
    tied = module._losses(
        module.network,
        image[:, None].float() / 255,
        previous[:, None].float(),
        current[:, None].float(),
        dice=dice * 0 + 0.7,
    )
    assert tied[0].item() == 0
    assert tied[1].item() > 0


def test_a_few_steps_learn_the_better_mask() -> None:
    module = make()
    optimizer = torch.optim.Adam(module.network.parameters(), 3e-3)
    for step in range(30):
        optimizer.zero_grad()
        module.training_step(batch(), step).backward()
        optimizer.step()
    image, previous, current, dice = batch()
    keep = module.network(image[:, None] / 255, previous[:, None].float(), current[:, None].float()) > 0
    assert keep.tolist() == (dice[:, 0] > dice[:, 1]).tolist()


def test_settings_are_plain_json_and_validation_logs(monkeypatch: pytest.MonkeyPatch) -> None:
    module = make()
    assert json.loads(json.dumps(dict(module.hparams)))["seed"] == 3
    logged: dict[str, float] = {}
    monkeypatch.setattr(module, "log", lambda name, value, **_: logged.update({name: float(value)}))
    with torch.no_grad():
        module.on_validation_epoch_start()
        module.validation_step(batch(), 0)
        module.on_validation_epoch_end()
    assert 0 <= logged["val/accuracy"] <= 1
    assert logged["val/oracle_gain"] == pytest.approx(0.3)
    assert logged["val/gain"] <= logged["val/oracle_gain"] + 1e-6
    assert set(logged) == {"val/accuracy", "val/gain", "val/oracle_gain", "val/quality_error"}


def test_accuracy_is_left_out_where_all_pairs_are_ties(monkeypatch: pytest.MonkeyPatch) -> None:
    module = make()
    logged: dict[str, float] = {}
    monkeypatch.setattr(module, "log", lambda name, value, **_: logged.update({name: float(value)}))
    *seen, dice = batch()
    for dices, known in ((dice, True), (dice * 0 + 0.7, False)):
        logged.clear()
        module.on_validation_epoch_start()
        with torch.no_grad():
            module.validation_step((*seen, dices), 0)
        module.on_validation_epoch_end()
        assert ("val/accuracy" in logged) == known
        assert all(value == value for value in logged.values()), "no figure is nan"


def test_prompted_slices_reach_the_network() -> None:
    module = make(network_config={"widths": (16, 16, 16), "references": True})
    scramble(module.network)
    with pytest.raises(InputError, match="collect it again"):
        module.training_step(batch(), 0)
    seen = torch.randint(0, 256, (4, 7, 32, 32), dtype=torch.uint8, generator=torch.Generator().manual_seed(0))
    loss = module.training_step((*batch(), seen), 0)
    loss.backward()
    assert module.network.cues[0].weight.grad.any()
    assert torch.equal(loss, module.training_step((*batch(), seen), 0)), "dropout depends on the step alone"
    assert not torch.equal(loss, module.training_step((*batch(), seen * 0), 0))


def test_augmentation_changes_images_and_leaves_masks(monkeypatch: pytest.MonkeyPatch) -> None:
    module = make(network_config={"widths": (16, 16, 16), "references": True})
    image = torch.full((4, 32, 32), 100, dtype=torch.uint8)
    seen = torch.full((4, 7, 32, 32), 100, dtype=torch.uint8)
    found: list[Tensor] = []

    def spy(network: Any, *given: Tensor, dice: Tensor) -> tuple[Tensor, Tensor]:
        found.extend(given)
        return torch.zeros(()), torch.zeros(())

    monkeypatch.setattr(module, "_losses", spy)
    module.training_step((image, *batch()[1:], seen), 0)
    changed = found[0][0, 0, 0, 0]
    assert changed != 100 / 255
    for channel in range(7):
        wanted = changed if channel in (0, 3) else torch.tensor(100 / 255)
        assert torch.equal(found[3][:, channel], wanted.expand(4, 32, 32))
