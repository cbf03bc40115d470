import copy

import pytest
import torch
from torch import nn

from limnet.errors import InputError
from limnet.learning.muon import MuonAdam, orthogonalized
from limnet.tasks.interaction import InteractionModule


@pytest.mark.parametrize("shape", [(8, 20), (20, 8), (16, 16)])
def test_singular_values_come_close_to_one(shape: tuple[int, int]) -> None:
    matrix = torch.randn(shape, generator=torch.Generator().manual_seed(0))
    values = torch.linalg.svdvals(orthogonalized(matrix))
    assert values.min() > 0.5
    assert values.max() < 1.35
    assert torch.linalg.svdvals(matrix).max() / torch.linalg.svdvals(matrix).min() > 2


def test_matrices_move_as_with_torch() -> None:
    torch.manual_seed(0)
    ours = nn.Sequential(nn.Linear(12, 6, bias=False), nn.Linear(6, 20, bias=False))
    theirs, before = copy.deepcopy(ours), copy.deepcopy(ours)
    mine = MuonAdam(ours, lr=0.02, weight_decay=0.1)
    reference = torch.optim.Muon(
        theirs.parameters(), lr=0.02, weight_decay=0.1, momentum=0.95, nesterov=True, adjust_lr_fn="match_rms_adamw"
    )
    for step in range(4):
        x = torch.randn(5, 12, generator=torch.Generator().manual_seed(step))
        for network, optimizer in ((ours, mine), (theirs, reference)):
            optimizer.zero_grad()
            network(x).square().mean().backward()
            optimizer.step()
    for a, b, start in zip(ours.parameters(), theirs.parameters(), before.parameters(), strict=True):
        moved, wanted = (a - start).flatten(), (b - start).flatten()  # equal but for the rounding of bfloat16
        assert torch.nn.functional.cosine_similarity(moved, wanted, dim=0) > 0.998
        assert 0.98 < moved.norm() / wanted.norm() < 1.02


def test_the_rest_moves_as_with_adam() -> None:
    torch.manual_seed(0)
    ours = nn.Sequential(nn.BatchNorm1d(6))
    theirs = copy.deepcopy(ours)
    mine = MuonAdam(ours, lr=0.01, weight_decay=0.3)
    reference = torch.optim.Adam(theirs.parameters(), lr=0.01, betas=(0.9, 0.99))
    for step in range(3):
        x = torch.randn(5, 6, generator=torch.Generator().manual_seed(step)) * 3
        for network, optimizer in ((ours, mine), (theirs, reference)):
            optimizer.zero_grad()
            (network(x) - 1).square().mean().backward()
            optimizer.step()
    for a, b in zip(ours.parameters(), theirs.parameters(), strict=True):
        torch.testing.assert_close(a, b)


def test_kernels_count_as_matrices_and_heads_do_not() -> None:
    network = nn.ModuleDict({"conv": nn.Conv2d(3, 8, 3), "head": nn.Conv2d(8, 4, 1)})
    groups = MuonAdam(network).param_groups
    assert [p.shape for p in groups[0]["params"]] == [(8, 3, 3, 3)]
    assert len(groups[1]["params"]) == 3


def test_unknown_optimizer_is_named() -> None:
    small = {"widths": [16, 16, 24, 32], "depths": [1, 1, 1, 1], "embedding": 8}
    with pytest.raises(InputError, match="'sgd'; allowed are 'adamw', 'adam' and 'muon'"):
        InteractionModule(network_config=small, optimizer="sgd").configure_optimizers()
