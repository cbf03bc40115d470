"""Muon for convolutions: the update of a weight matrix is its momentum made orthogonal (K. Jordan et al., 2024).

Networks that are short of steps learn faster with it: every direction of a layer moves by the same amount. Kernels
(O, I, k, k) count as matrices (O, I * k * k); everything else (biases, norms, the last layer) is left to Adam.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import torch
from torch import Tensor, nn

_COEFFICIENTS = (3.4445, -4.7750, 2.0315)  # quintic Newton-Schulz iteration of the source
_ITERATIONS = 5


def orthogonalized(matrices: Tensor) -> Tensor:
    """Nearest half-orthogonal matrices (..., M, N), roughly: all singular values between about 0.7 and 1.2.

    float32; computed in bfloat16.
    """
    a, b, c = _COEFFICIENTS
    x = matrices.bfloat16()
    tall = x.shape[-2] > x.shape[-1]
    x = x.mT if tall else x
    x = x / x.norm(dim=(-2, -1), keepdim=True).clamp_min(1e-7)
    shape = x.shape
    x = x.reshape(-1, *shape[-2:])
    for _ in range(_ITERATIONS):
        gram = torch.bmm(x, x.mT)
        x = torch.baddbmm(x, torch.baddbmm(gram, gram, gram, beta=b, alpha=c), x, beta=a)
    x = x.reshape(shape)
    return (x.mT if tall else x).float()


class MuonAdam(torch.optim.Optimizer):
    """Muon for weight matrices and kernels, Adam for the rest, one learning rate for both.

    The update of a matrix is scaled to the size that Adam's would have (0.2 times the root of its longer side).

    Args:
        network: its parameters that need gradients; the last layer (named "head") is left to Adam.
        lr: learning rate.
        weight_decay: decoupled, for matrices only.
        momentum: of Muon, with Nesterov's step.
        betas: of Adam.
    """

    def __init__(
        self,
        network: nn.Module,
        lr: float = 1e-3,
        weight_decay: float = 0.0,
        momentum: float = 0.95,
        betas: tuple[float, float] = (0.9, 0.99),
    ):
        named = [(name, p) for name, p in network.named_parameters() if p.requires_grad]
        matrices = {name for name, p in named if p.ndim >= 2 and len(p) > 1 and "head" not in name.split(".")}
        groups: list[dict[str, Any]] = [
            {"params": [p for name, p in named if name in matrices], "matrices": True},
            {"params": [p for name, p in named if name not in matrices], "matrices": False},
        ]
        defaults = {"lr": lr, "weight_decay": weight_decay, "momentum": momentum, "betas": betas}
        super().__init__([group for group in groups if group["params"]], defaults)

    @torch.no_grad()
    def step(self, closure: Callable[[], Any] | None = None) -> Any:  # type: ignore[override]
        """One update of all parameters that have a gradient."""
        loss = None
        if closure is not None:
            with torch.enable_grad():
                loss = closure()
        for group in self.param_groups:
            moved = [p for p in group["params"] if p.grad is not None]
            if moved:
                update = self._muon if group["matrices"] else self._adam
                update(moved, [p.grad for p in moved if p.grad is not None], group)
        return loss

    def _muon(self, parameters: list[Tensor], gradients: list[Tensor], group: dict[str, Any]) -> None:
        """Matrices of one shape take the iteration together: on a GPU that is many small kernels fewer."""
        means = self._state("momentum", parameters)
        torch._foreach_lerp_(means, gradients, 1 - group["momentum"])
        ahead = torch._foreach_lerp(gradients, means, group["momentum"])
        alike: dict[tuple[int, int], list[int]] = {}
        for number, p in enumerate(parameters):
            alike.setdefault((len(p), p[0].numel()), []).append(number)
        torch._foreach_mul_(parameters, 1 - group["lr"] * group["weight_decay"])
        for shape, members in alike.items():
            turned = orthogonalized(torch.stack([ahead[i].reshape(shape) for i in members]))
            turned = turned * (group["lr"] * 0.2 * max(shape) ** 0.5)
            moved = [parameters[i] for i in members]
            torch._foreach_sub_(moved, [part.reshape(p.shape) for part, p in zip(turned, moved, strict=True)])

    def _adam(self, parameters: list[Tensor], gradients: list[Tensor], group: dict[str, Any]) -> None:
        first, second = group["betas"]
        means, squares = self._state("mean", parameters), self._state("square", parameters)
        steps = [self.state[p].get("step", 0) + 1 for p in parameters]
        for p, step in zip(parameters, steps, strict=True):
            self.state[p]["step"] = step
        torch._foreach_lerp_(means, gradients, 1 - first)
        torch._foreach_lerp_(squares, torch._foreach_mul(gradients, gradients), 1 - second)
        roots = torch._foreach_sqrt(torch._foreach_div(squares, [1 - second**step for step in steps]))
        torch._foreach_add_(roots, 1e-8)
        rates = [-group["lr"] / (1 - first**step) for step in steps]
        torch._foreach_addcdiv_(parameters, means, roots, rates)

    def _state(self, name: str, parameters: list[Tensor]) -> list[Tensor]:
        """One tensor of the state of every parameter, zero at first."""
        for p in parameters:
            if name not in self.state[p]:
                self.state[p][name] = torch.zeros_like(p)
        return [self.state[p][name] for p in parameters]
