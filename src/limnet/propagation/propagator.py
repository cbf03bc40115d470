"""Propagator: the prompt mask goes slice by slice to both sides, eq. (5) and (6) of the paper.

Two scopes: "volume" propagates from the new prompt to both ends of the volume; "interval" only to the neighbouring
prompted slices, where the passes of both prompts are blended by distance.
"""

from __future__ import annotations

from collections.abc import Callable, Generator, Mapping
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor, nn

from limnet.errors import Cancelled, InputError
from limnet.image.slice_view import SliceView
from limnet.image.slices import SliceStore
from limnet.interaction.features import FeatureCache, WindowEncoder
from limnet.propagation.state import PropagationNetwork, together
from limnet.propagation.stop_rule import StopRule, emptied
from limnet.settings import Settings

Slice = NDArray[np.float32]
Progress = Callable[[int, int], object]
Found = Callable[[int, Slice], None]


class Propagator:
    """The propagation network at work.

    Args:
        network: A `limnet.propagation.state.PropagationNetwork`.
        device: Where to compute.
        precision: "fp32", "bf16" or "auto".
        cache: Features of the case; a private one when None.
        settings: Settings of the case: when passes end (`limnet.propagation.stop_rule`), and what the
            network asks for. None for the defaults.

    Raises:
        InputError: If the network cannot propagate.
    """

    def __init__(
        self,
        network: nn.Module,
        *,
        device: torch.device | str = "cpu",
        precision: str = "auto",
        cache: FeatureCache | None = None,
        settings: Settings | None = None,
    ):
        if not isinstance(network, PropagationNetwork):
            raise InputError(
                f"{type(network).__name__} cannot propagate: it needs start(encoder, view, prompts, settings), see "
                "docs/adding-a-network.md"
            )
        self.settings = settings or Settings()
        self.encoder = WindowEncoder(network, device, precision, FeatureCache() if cache is None else cache)
        self.network = self.encoder.network

    def propagate(
        self,
        view: SliceView,
        prompts: Mapping[int, Slice],
        origin: int,
        scope: str = "volume",
        known: Callable[[int], Slice] | None = None,
        progress: Progress | None = None,
        found: Found | None = None,
    ) -> Mapping[int, Slice]:
        """Carry the mask of the prompted slice `origin` to both sides.

        Args:
            view: Volume along the case's axis, D slices.
            prompts: Prompted slices with their (H, W) float32 probabilities; they stay as they are, and all of them
                are remembered, as masks: memory was trained on those.
            origin: The slice prompted last; a key of `prompts`.
            scope: "volume" or "interval".
            known: Current result of a slice; tells where the object ended so far (see `end_before_empty`).
            progress: Called with (done, total) slices; returning False cancels.
            found: Told every slice with its probabilities as soon as a pass is through it; where two passes meet, their
                blend is in the result only.

        Returns:
            Slice index to (H, W) float32 probabilities, to 1/65535; prompted slices and slices behind an early stop are
            left out.

        Raises:
            InputError: unknown scope or an origin that is not prompted.
            Cancelled: `progress` returned False.
        """
        if scope not in ("volume", "interval"):
            raise InputError(f"scope is {scope!r}; allowed are 'volume' and 'interval'")
        if origin not in prompts:
            raise InputError(f"slice {origin} is not prompted; prompted are {sorted(prompts)}")
        prompts, depth = _hard(prompts), len(view)
        ends = {-1: -1, 1: depth}
        others = {
            -1: max((i for i in prompts if i < origin), default=None),
            1: min((i for i in prompts if i > origin), default=None),
        }
        passes: list[tuple[int, int, int]] = []  # start, end (excluded), direction
        for direction, other in others.items():
            if scope == "volume" or other is None:
                passes.append((origin, ends[direction], direction))
            else:
                passes += [(origin, other, direction), (other, origin, -direction)]
        count = _Count(progress, max(sum(abs(end - start) - 1 for start, end, _ in passes), 1))
        results = together([self._pass(view, prompts, *one, count, found) for one in passes], self.encoder)
        count.finish()
        merged = _merge(passes, results)
        if known is not None and scope == "interval":
            nothing = np.zeros(view.shape, np.float32)
            for other in others.values():
                merged.update(dict.fromkeys(emptied(prompts, origin, other, known, depth), nothing))
        return merged

    def carry(self, view: SliceView, prompts: Mapping[int, Slice], origin: int, target: int) -> Slice | None:
        """Carry the mask of one prompted slice to one other slice, as a pass of `propagate` would.

        Args:
            view: volume along the case's axis.
            prompts: prompted slices with their (H, W) float32 probabilities, all of them remembered; without `target`.
            origin: the slice to start from; a key of `prompts`.
            target: the slice to reach.

        Returns:
            (H, W) float32 probabilities; None if the pass ends before.

        Raises:
            InputError: an origin that is not prompted, or a target that is or that lies outside the volume.
        """
        if origin not in prompts or target in prompts or not 0 <= target < len(view):
            raise InputError(
                f"from slice {origin} to slice {target} of {len(view)}: the first has to be a prompted one, the other "
                f"not; prompted are {sorted(prompts)}"
            )
        direction = 1 if target > origin else -1
        one = self._pass(view, _hard(prompts), origin, target + direction, direction, _Count(None, 1))
        return together([one], self.encoder)[0].get(target)

    def _pass(
        self,
        view: SliceView,
        prompts: Mapping[int, Slice],
        start: int,
        end: int,
        direction: int,
        count: _Count,
        found: Found | None = None,
    ) -> Generator[tuple[Any, ...], Tensor, SliceStore]:
        """Slices strictly between `start` and `end`, up to the stop; goes on from prompted slices in between."""
        results = SliceStore()
        free = any(index not in prompts for index in range(start + direction, end, direction))
        if not free or not prompts[start].any():
            count.skip(abs(end - start) - 1)  # nothing to propagate, or nowhere to propagate it
            return results
        nearest = sorted(prompts.items(), key=lambda item: (abs(item[0] - start), item[0]))
        state = self.network.start(self.encoder, view, nearest, self.settings)  # type: ignore[operator]
        stop = StopRule(self.settings.stop_after_empty)
        state.place(start, prompts[start])
        for index in range(start + direction, end, direction):
            if index in prompts:
                state.place(index, prompts[index])
                count.skip(1)
                if stop.at_prompt(prompts[index]):
                    break
                continue
            border = (
                min([end * direction, *(i * direction for i in prompts if (i - index) * direction > 0)]) * direction
            )
            answer = state.step(index, range(index + direction, border, direction))
            result = (yield from answer) if isinstance(answer, Generator) else answer
            results[index] = result
            if found is not None:
                found(index, result)
            count.skip(1)
            if stop.after(result):
                break
        count.skip(abs(end - index) - 1)
        return results


def _hard(prompts: Mapping[int, Slice]) -> dict[int, Slice]:
    return {index: (mask > 0.5).astype(np.float32) for index, mask in prompts.items()}


class _Count:
    """Tells the caller how many slices are done."""

    def __init__(self, progress: Progress | None, total: int):
        self.progress, self.total, self.done = progress, total, 0

    def skip(self, slices: int) -> None:
        if slices:
            self.done = min(self.done + slices, self.total)
            self._tell()

    def finish(self) -> None:
        if self.done < self.total:
            self.done = self.total
            self._tell()

    def _tell(self) -> None:
        if self.progress is not None and self.progress(self.done, self.total) is False:
            raise Cancelled("cancelled by the progress callback; nothing was changed")


def _merge(passes: list[tuple[int, int, int]], results: list[SliceStore]) -> SliceStore:
    """Blend passes that met in one interval; a slice nearer to a prompt trusts that prompt's pass more."""
    merged = SliceStore()
    for number, ((start, end, _), result) in enumerate(zip(passes, results, strict=True)):
        partner = next((j for j, (a, b, _) in enumerate(passes) if j != number and a == end and b == start), None)
        if partner is None:
            merged.take(result)
            continue
        if partner < number:
            continue
        back = results[partner]
        if not result or not back:  # one of the two prompts is empty: the other one's pass is all there is
            merged.take(result or back)
            continue
        for index in sorted(set(result) | set(back)):
            weight = abs(index - end) / abs(end - start)  # 1 at start, 0 at end
            zero = np.zeros_like(result.get(index, back.get(index)))
            blend = weight * result.get(index, zero) + (1 - weight) * back.get(index, zero)
            merged[index] = blend.astype(np.float32, copy=False)
    return merged
