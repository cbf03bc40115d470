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


def orthogonalized(matrix: Tensor) -> Tensor:
    """Nearest half-orthogonal matrix, roughly: all singular values between about 0.7 and 1.2.

    Args:
        matrix: (M, N).

    Returns:
        (M, N) float32; computed in bfloat16.
    """
    a, b, c = _COEFFICIENTS
    x = matrix.bfloat16()
    tall = x.shape[0] > x.shape[1]
    x = x.T if tall else x
    x = x / x.norm().clamp_min(1e-7)
    for _ in range(_ITERATIONS):
        gram = x @ x.T
        x = a * x + (b * gram + c * (gram @ gram)) @ x
    return (x.T if tall else x).float()


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
            update = self._muon if group["matrices"] else self._adam
            for p in group["params"]:
                if p.grad is not None:
                    update(p, p.grad, group)
        return loss

    def _muon(self, p: Tensor, grad: Tensor, group: dict[str, Any]) -> None:
        state = self.state[p]
        if not state:
            state["momentum"] = torch.zeros_like(p)
        mean = state["momentum"].lerp_(grad, 1 - group["momentum"])
        ahead = grad.lerp(mean, group["momentum"]).reshape(len(p), -1)
        size = 0.2 * max(ahead.shape) ** 0.5
        p.mul_(1 - group["lr"] * group["weight_decay"])
        p.add_(orthogonalized(ahead).reshape(p.shape), alpha=-group["lr"] * size)

    def _adam(self, p: Tensor, grad: Tensor, group: dict[str, Any]) -> None:
        state = self.state[p]
        if not state:
            state["mean"], state["square"], state["step"] = torch.zeros_like(p), torch.zeros_like(p), 0
        first, second = group["betas"]
        state["step"] += 1
        mean = state["mean"].lerp_(grad, 1 - first) / (1 - first ** state["step"])
        square = state["square"].lerp_(grad.square(), 1 - second) / (1 - second ** state["step"])
        p.addcdiv_(mean, square.sqrt() + 1e-8, value=-group["lr"])
