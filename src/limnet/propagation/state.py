"""What a propagation network brings: the state of one pass. One protocol for all networks.

A network has `start`, which makes the state of one pass in one direction; sensory memory therefore restarts there. The
propagator knows nothing else of a network, so that a new one needs no change of ours (docs/adding-a-network.md).
"""

from __future__ import annotations

from collections.abc import Generator, Sequence
from typing import TYPE_CHECKING, Any, Protocol, runtime_checkable

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from limnet.settings import Settings

if TYPE_CHECKING:
    from limnet.image.slice_view import SliceView
    from limnet.interaction.features import WindowEncoder

Slice = NDArray[np.float32]
"""(H, W) float32 probabilities of one slice."""
Questions = Generator[tuple[Any, ...], Tensor, Slice]
"""A step that yields arguments of `network.segment` (batch of one), gets the logits, and returns its slice."""


class PropagationState(Protocol):
    """State of one pass."""

    def place(self, index: int, mask: Slice) -> None:
        """Set the state to a prompted slice."""
        ...

    def step(self, index: int, ahead: Sequence[int] = ()) -> Slice | Questions:
        """Predict slice `index`; the pass goes on from there, probably to those `ahead`.

        Returns:
            Its probabilities; or a generator of questions, so that passes side by side are one batch.
        """
        ...


@runtime_checkable
class PropagationNetwork(Protocol):
    """A network that propagates masks through a volume."""

    def start(
        self, encoder: WindowEncoder, view: SliceView, prompts: Sequence[tuple[int, Slice]], settings: Settings
    ) -> PropagationState:
        """State of a new pass.

        Args:
            encoder: Device, precision and feature cache of the case.
            view: Volume along the case's axis.
            prompts: Prompted slices with their masks of 0 and 1, nearest first; the first one is placed first.
            settings: Settings of the case.
        """
        ...


def together(passes: Sequence[Generator[tuple[Any, ...], Tensor, Any]], encoder: WindowEncoder) -> list[Any]:
    """What passes return that run side by side: the questions that they ask at a time are one batch."""
    results: dict[int, Any] = {}
    asked: dict[int, tuple[Any, ...]] = {}

    def go_on(number: int, answer: Tensor | None) -> None:
        try:
            asked[number] = passes[number].send(answer)  # type: ignore[arg-type]
        except StopIteration as end:
            asked.pop(number, None)
            results[number] = end.value

    for number in range(len(passes)):
        go_on(number, None)
    while asked:
        numbers = sorted(asked)
        with encoder.running():
            logits = encoder.network.segment(*_stacked([asked[number] for number in numbers]))  # type: ignore[operator]
        for number, answer in zip(numbers, logits.split(1), strict=True):
            go_on(number, answer)
    return [results[number] for number in range(len(passes))]


def _stacked(parts: Sequence[Any]) -> Any:
    """Tensors, or equal nestings of them, as one batch."""
    if isinstance(parts[0], Tensor):
        return torch.cat(list(parts)) if len(parts) > 1 else parts[0]
    nested = [_stacked(column) for column in zip(*parts, strict=True)]
    return type(parts[0])(*nested) if hasattr(parts[0], "_fields") else type(parts[0])(nested)
