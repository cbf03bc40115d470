"""Propagation: prompt masks go slice by slice to both sides, eq. (5) and (6) of the paper.

Two scopes: "volume" propagates from the new prompt to both ends of the volume; "interval" only to the neighbouring
prompted slices, where the passes of both prompts are blended by distance. A network has `start`, which makes the state
of one pass in one direction; sensory memory therefore restarts there. Nothing else of a network is known here, so that
a new one needs no change of ours (docs/adding-a-network.md).
"""

from __future__ import annotations

from collections.abc import Callable, Generator, Mapping, Sequence
from typing import Any, Protocol, runtime_checkable

import numpy as np
import torch
from torch import Tensor

from limnet.errors import InputError
from limnet.image.slice_view import SliceView
from limnet.image.slices import Slice, SliceStore
from limnet.interaction.window import WindowEncoder
from limnet.settings import Settings, check_scope

Progress = Callable[[int, int], object]
"""Called with (done, total) slices; returning False cancels."""
Found = Callable[[int, Slice], None]
"""Called with a slice and its probabilities."""
Questions = Generator[tuple[Any, ...], Tensor, Slice]
"""A step that yields arguments of `network.segment` (batch of one), gets the logits, and returns its slice."""


class PropagationState(Protocol):
    """State of one pass."""

    def place(self, index: int, mask: Slice) -> None:
        """Set the state to a prompted slice."""
        ...

    def step(self, index: int, ahead: Sequence[int] = ()) -> Slice | Questions:
        """Predict slice `index`; the pass goes on from there, probably to those `ahead`.

        Gives its probabilities; or a generator of questions, so that passes side by side are one batch.
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


class Propagator:
    """The propagation network at work.

    Args:
        encoder: Runs a `PropagationNetwork`.
        settings: Settings of the case: when passes end, and what the network asks for. None for the defaults.

    Raises:
        InputError: If the network cannot propagate.
    """

    def __init__(self, encoder: WindowEncoder, settings: Settings | None = None):
        if not isinstance(encoder.network, PropagationNetwork):
            raise InputError(
                f"{type(encoder.network).__name__} cannot propagate: it needs start(encoder, view, prompts, settings), "
                "see docs/adding-a-network.md"
            )
        self.encoder, self.settings = encoder, settings or Settings()

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
        """Propagate the mask of the prompted slice `origin` to both sides.

        Args:
            view: Volume along the case's axis, D slices.
            prompts: Prompted slices with their (H, W) float32 probabilities; they stay as they are, and all of them
                are remembered, as masks: memory was trained on those.
            origin: The slice prompted last; a key of `prompts`.
            scope: "volume" or "interval".
            known: Current result of a slice; tells where the object ended so far (see `end_before_empty`).
            progress: Told how many slices are done; what it raises ends the propagation.
            found: Told every slice as soon as a pass is through it; where two passes meet, their blend is in the
                result only.

        Returns:
            Slice index to (H, W) float32 probabilities, to 1/65535; prompted slices and slices behind an early stop are
            left out.

        Raises:
            InputError: unknown scope or an origin that is not prompted.
        """
        check_scope(scope)
        if origin not in prompts:
            raise InputError(f"slice {origin} is not prompted; prompted are {sorted(prompts)}")
        prompts, depth = _hard(prompts), len(view)
        others = {
            -1: max((i for i in prompts if i < origin), default=None),
            1: min((i for i in prompts if i > origin), default=None),
        }
        passes: list[tuple[int, int, int]] = []  # start, end (excluded), direction
        for direction, other in others.items():
            if scope == "volume" or other is None:
                passes.append((origin, -1 if direction < 0 else depth, direction))
            else:
                passes += [(origin, other, direction), (other, origin, -direction)]
        count = _Count(progress, max(sum(abs(end - start) - 1 for start, end, _ in passes), 1))
        results = together([self._pass(view, prompts, *one, count, found) for one in passes], self.encoder)
        count.skip(count.total)
        merged = _merge(passes, results)
        if known is not None and scope == "interval":
            nothing = np.zeros(view.shape, np.float32)
            for other in others.values():
                merged.update(dict.fromkeys(_emptied(prompts, origin, other, known, depth), nothing))
        return merged

    def propagate_to(self, view: SliceView, prompts: Mapping[int, Slice], origin: int, target: int) -> Slice | None:
        """Slice `target`, (H, W) float32 probabilities, as a pass of `propagate` from the prompted slice `origin` would
        give it.

        None if the pass ends before. All `prompts` are remembered.

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
        """Slices strictly between `start` and `end`, going on from prompted slices in between.

        The pass ends behind an empty prompted slice, and after `stop_after_empty` empty slices (0: only at the end).
        """
        results, empty = SliceStore(), 0
        free = any(index not in prompts for index in range(start + direction, end, direction))
        if not free or not prompts[start].any():
            count.skip(abs(end - start) - 1)  # nothing to propagate, or nowhere to propagate it
            return results
        nearest = sorted(prompts.items(), key=lambda item: (abs(item[0] - start), item[0]))
        state = self.encoder.network.start(self.encoder, view, nearest, self.settings)  # type: ignore[operator]
        state.place(start, prompts[start])
        for index in range(start + direction, end, direction):
            if index in prompts:
                state.place(index, prompts[index])
                count.skip(1)
                empty = 0
                if not prompts[index].any():
                    break
                continue
            prompted_ahead = (i * direction for i in prompts if (i - index) * direction > 0)
            border = min([end * direction, *prompted_ahead]) * direction
            answer = state.step(index, range(index + direction, border, direction))
            result = (yield from answer) if isinstance(answer, Generator) else answer
            results[index] = result
            if found is not None:
                found(index, result)
            count.skip(1)
            empty = 0 if (result > 0.5).any() else empty + 1
            if 0 < self.settings.stop_after_empty <= empty:
                break
        count.skip(abs(end - index) - 1)
        return results


class _Count:
    """Tells the caller how many slices are done."""

    def __init__(self, progress: Progress | None, total: int):
        self.progress, self.total, self.done = progress, total, 0

    def skip(self, slices: int) -> None:
        done = min(self.done + slices, self.total)
        if done == self.done:
            return
        self.done = done
        if self.progress is not None:
            self.progress(done, self.total)


def _hard(prompts: Mapping[int, Slice]) -> dict[int, Slice]:
    return {index: (mask > 0.5).astype(np.float32) for index, mask in prompts.items()}


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


def _emptied(
    prompts: Mapping[int, Slice], origin: int, other: int | None, known: Callable[[int], Slice], depth: int
) -> range:
    """Slices between two prompted ones that the emptied one of the two leaves without object; `known` as below."""
    if other is None or prompts[origin].any() == prompts[other].any():
        return range(0)
    filled, empty = (origin, other) if prompts[origin].any() else (other, origin)
    step = 1 if empty > filled else -1
    return range(end_before_empty(known, filled, empty, depth) + step, empty, step)


def end_before_empty(known: Callable[[int], Slice], filled: int, empty: int, depth: int) -> int:
    """Last slice on which the object may lie between a prompted slice and one the user has emptied.

    A pass that leaked through the emptied slice once would leak again. People click in the middle of what is wrong: if
    the old mask reaches from the emptied slice on to slice F, the error began about as far on the near side; never more
    than half of the way to the filled slice is taken away. Where the slices behind are empty already (an earlier
    correction), the object keeps the end it has. `known` gives the (H, W) result so far of a slice.
    """
    step = 1 if empty > filled else -1
    far = empty
    while 0 <= far + step < depth and (known(far + step) > 0.5).any():
        far += step
    if far != empty:
        reach = min(abs(far - empty), abs(empty - filled) // 2)
        return empty - step * max(reach, 1)
    before = [i for i in range(filled + step, empty, step) if (known(i) > 0.5).any()]
    return before[-1] if before else empty - step
