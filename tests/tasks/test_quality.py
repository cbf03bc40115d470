from __future__ import annotations

from functools import partial
from typing import Any

import pytest
import torch

pytest.importorskip("lightning")

from torch import Tensor

from limnet.errors import InputError
from tests.helpers.small_modules import logged_by, pair_batch, small_module
from tests.helpers.tiny_networks import scramble

make, batch = partial(small_module, "quality"), pair_batch


def test_the_bias_of_the_comparison_cancels() -> None:
    module = make()
    scramble(module.network)
    module.training_step(batch(), 0).backward()
    assert float(module.network.head[2].bias.grad[0].abs()) < 1e-6  # it is a difference of two scores


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


def test_validation_logs(monkeypatch: pytest.MonkeyPatch) -> None:
    logged = logged_by(make(), batch(), monkeypatch)
    assert 0 <= logged["val/accuracy"] <= 1
    assert logged["val/oracle_gain"] == pytest.approx(0.3)
    assert logged["val/gain"] <= logged["val/oracle_gain"] + 1e-6
    assert set(logged) == {"val/accuracy", "val/gain", "val/oracle_gain", "val/quality_error"}


def test_accuracy_is_left_out_where_all_pairs_are_ties(monkeypatch: pytest.MonkeyPatch) -> None:
    module = make()
    *seen, dice = batch()
    for dices, known in ((dice, True), (dice * 0 + 0.7, False)):
        logged = logged_by(module, (*seen, dices), monkeypatch)
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
