from __future__ import annotations

import copy

import pytest
import torch
from torch import nn

from limnet.tasks.base import follow, warmup_cosine


def network() -> nn.Module:
    return nn.Sequential(nn.Linear(3, 4), nn.BatchNorm1d(4))


def test_average_moves_by_its_decay() -> None:
    model = network()
    average = copy.deepcopy(model)
    with torch.no_grad():
        for parameter in model.parameters():
            parameter += 1.0
        model[1].num_batches_tracked.fill_(7)  # type: ignore[operator, union-attr]
        model[1].running_mean.fill_(2.0)  # type: ignore[operator, union-attr]
    start = copy.deepcopy(average.state_dict())
    follow(average, model, 0.9, 10**6)
    for name, value in average.state_dict().items():
        if name.endswith("num_batches_tracked"):
            assert int(value) == 7
        elif name.endswith("running_mean"):
            torch.testing.assert_close(value, torch.full((4,), 0.2))
        elif not name.endswith("running_var"):
            torch.testing.assert_close(value, start[name] + 0.1)


def test_first_steps_move_faster() -> None:
    model = nn.Linear(1, 1, bias=False)
    average = copy.deepcopy(model)
    with torch.no_grad():
        model.weight.fill_(1.0)
        average.weight.fill_(0.0)
    follow(average, model, 0.999, 0)
    assert average.weight.item() == pytest.approx(0.9)


def test_schedule_warms_up_and_cools_down() -> None:
    optimizer = torch.optim.SGD([nn.Parameter(torch.zeros(1))], lr=2.0)
    schedule = warmup_cosine(optimizer, 4, 20)
    rates = []
    for _ in range(24):
        rates.append(optimizer.param_groups[0]["lr"])
        optimizer.step()
        schedule.step()
    assert rates[:5] == pytest.approx([0.5, 1.0, 1.5, 2.0, 2.0])
    assert rates[4:] == sorted(rates[4:], reverse=True)
    assert rates[20:] == pytest.approx([0.02] * 4)
    assert rates[12] == pytest.approx(2 * (0.01 + 0.99 * 0.5))
    assert warmup_cosine(optimizer, 0, 0).get_last_lr()  # nothing is divided by zero
