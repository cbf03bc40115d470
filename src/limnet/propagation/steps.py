"""Steps of sweeps that run side by side: what they ask the network at a time is one batch."""

from __future__ import annotations

from collections.abc import Generator, Sequence
from typing import Any, NamedTuple

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor, nn

from limnet.interaction.features import WindowEncoder
from limnet.propagation.networks.tiny import Look


class Question(NamedTuple):
    """What `TinyPropagation.segment` is asked for one slice; its arguments in their order."""

    features: tuple[Tensor, ...]
    readout: Tensor
    looks: list[Look]
    last: Look
    last_image: Tensor
    last_mask: Tensor


Step = Generator[Question, Tensor, NDArray[np.float32]]
"""A step asks for logits (1, 1, size, size) and returns its slice's (H, W) float32 probabilities."""


def together(
    sweeps: Sequence[Generator[Question, Tensor, Any]], network: nn.Module, encoder: WindowEncoder
) -> list[Any]:
    """What sweeps return that run side by side: the questions that they ask at a time are one batch."""
    results: dict[int, Any] = {}
    asked: dict[int, Question] = {}

    def go_on(number: int, answer: Tensor | None) -> None:
        try:
            asked[number] = sweeps[number].send(answer)  # type: ignore[arg-type]
        except StopIteration as end:
            asked.pop(number, None)
            results[number] = end.value

    for number in range(len(sweeps)):
        go_on(number, None)
    while asked:
        numbers = sorted(asked)
        with encoder.running():
            logits = network.segment(*_stacked([asked[number] for number in numbers]))  # type: ignore[operator]
        for number, answer in zip(numbers, logits.split(1), strict=True):
            go_on(number, answer)
    return [results[number] for number in range(len(sweeps))]


def _stacked(parts: Sequence[Any]) -> Any:
    """Tensors, or equal nestings of them, as one batch."""
    if isinstance(parts[0], Tensor):
        return torch.cat(list(parts)) if len(parts) > 1 else parts[0]
    nested = [_stacked(column) for column in zip(*parts, strict=True)]
    return type(parts[0])(*nested) if hasattr(parts[0], "_fields") else type(parts[0])(nested)
