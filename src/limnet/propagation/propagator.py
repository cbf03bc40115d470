"""Propagator: the prompt mask goes slice by slice to both sides, eq. (5) and (6) of the paper.

Two scopes: "volume" sweeps from the new prompt to both ends of the volume; "interval" only to the neighbouring prompted
slices, where the sweeps of both prompts are blended by distance.
"""

from __future__ import annotations

import copy
import math
from collections.abc import Callable, Generator, Mapping

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor, nn

from limnet.errors import Cancelled, InputError
from limnet.image.slice_view import SliceView
from limnet.image.slices import SliceStore
from limnet.interaction.features import FeatureCache, WindowEncoder
from limnet.propagation.carrier import make_carrier, nearest_prompts
from limnet.propagation.steps import Question, together
from limnet.propagation.stride import Stride, interpolate

SURE_BEYOND = 0.75  # mean probability of a mask from which on it counts where nobody expects the object
DOUBT = 0.15  # masks that are surer than needed by less than this are carried slice by slice

Slice = NDArray[np.float32]
Progress = Callable[[int, int], object]


class Propagator:
    """The propagation network at work.

    Args:
        network: `TinyPropagation` or `XMem`.
        device: where to compute.
        precision: "fp32", "bf16" or "auto".
        cache: features of the case; a private one when None.
        settings: has `stop_after_empty` (a sweep ends after so many empty slices; 3 by default, 0 turns it off),
            `least_sure` (an open sweep ends at a slice whose mask is less sure; 0, off, by default) and `most_growth`
            (or that is larger than the largest prompted one by more than this factor; 0, off, by default), `stride_mm`
            (at most so far apart slices are propagated, see `limnet.propagation.stride`; 0, every slice, by default),
            and what `make_carrier` asks for. None for the defaults.
    """

    def __init__(
        self,
        network: nn.Module,
        *,
        device: torch.device | str = "cpu",
        precision: str = "auto",
        cache: FeatureCache | None = None,
        settings: object | None = None,
    ):
        self.encoder = WindowEncoder(network, device, precision, FeatureCache() if cache is None else cache)
        self.network, self.settings = self.encoder.network, settings
        self.stop_after_empty = int(getattr(settings, "stop_after_empty", 3))
        self.least_sure = float(getattr(settings, "least_sure", 0.0))
        self.most_growth = float(getattr(settings, "most_growth", 0.0))
        self.stride_mm = float(getattr(settings, "stride_mm", 0.0))

    def propagate(
        self,
        view: SliceView,
        prompts: Mapping[int, Slice],
        origin: int,
        scope: str = "volume",
        known: Callable[[int], Slice] | None = None,
        progress: Progress | None = None,
        within: tuple[int, int] | None = None,
        found: Callable[[int, Slice], None] | None = None,
    ) -> Mapping[int, Slice]:
        """Carry the mask of the prompted slice `origin` to both sides.

        Args:
            view: volume along the case's axis, D slices.
            prompts: prompted slices with their (H, W) float32 probabilities; they stay as they are, and all of them
                are remembered.
            origin: the slice prompted last; a key of `prompts`.
            scope: "volume" or "interval".
            known: current result of a slice; tells where the object ended so far (see `end_before_empty`).
            progress: called with (done, total) slices; returning False cancels.
            within: first and last slice that the object is known to reach; with no prompt ahead, a sweep goes on
                beyond them only while it is very sure (`SURE_BEYOND`). None for no such knowledge.
            found: told every slice with its probabilities as soon as a sweep has passed it; where two sweeps meet,
                their blend is in the result only.

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
        prompts = _hard(prompts)
        depth = len(view)
        ends = {-1: -1, 1: depth}
        others = {
            -1: max((i for i in prompts if i < origin), default=None),
            1: min((i for i in prompts if i > origin), default=None),
        }
        sweeps: list[tuple[int, int, int]] = []  # start, end (excluded), direction
        for direction in (-1, 1):
            other = others[direction]
            if scope == "volume" or other is None:
                sweeps.append((origin, ends[direction], direction))
            else:
                sweeps.append((origin, other, direction))
                sweeps.append((other, origin, -direction))
        total = sum(abs(end - start) - 1 for start, end, _ in sweeps)
        count = _Count(progress, max(total, 1))
        results = together(
            [self._sweep(view, prompts, *sweep, count, within, found) for sweep in sweeps], self.network, self.encoder
        )
        count.finish()
        merged = _merge(sweeps, results)
        if known is not None and scope == "interval":
            nothing = np.zeros(view.shape, np.float32)
            for other in others.values():
                merged.update(dict.fromkeys(_emptied(prompts, origin, other, known, depth), nothing))
        return merged

    def carry(self, view: SliceView, prompts: Mapping[int, Slice], origin: int, target: int) -> Slice | None:
        """Carry the mask of one prompted slice to one other slice, as a sweep of `propagate` would pass it.

        Args:
            view: volume along the case's axis.
            prompts: prompted slices with their (H, W) float32 probabilities, all of them remembered; without `target`.
            origin: the slice to start from; a key of `prompts`.
            target: the slice to reach.

        Returns:
            (H, W) float32 probabilities; None if the sweep ends before.

        Raises:
            InputError: an origin that is not prompted, or a target that is or that lies outside the volume.
        """
        if origin not in prompts or target in prompts or not 0 <= target < len(view):
            raise InputError(
                f"from slice {origin} to slice {target} of {len(view)}: the first has to be a prompted one, the other "
                f"not; prompted are {sorted(prompts)}"
            )
        direction = 1 if target > origin else -1
        hard = _hard(prompts)
        sweep = self._sweep(view, hard, origin, target + direction, direction, _Count(None, 1), None)
        return together([sweep], self.network, self.encoder)[0].get(target)

    def _sweep(
        self,
        view: SliceView,
        prompts: Mapping[int, Slice],
        start: int,
        end: int,
        direction: int,
        count: _Count,
        within: tuple[int, int] | None,
        found: Callable[[int, Slice], None] | None = None,
    ) -> Generator[Question, Tensor, SliceStore]:
        """Slices strictly between `start` and `end`, up to the early stop; passes over prompted slices."""
        results = SliceStore()
        free = any(index not in prompts for index in range(start + direction, end, direction))
        if not free or not (prompts[start] > 0.5).any():
            count.skip(abs(end - start) - 1)  # nothing to carry, or nowhere to carry it
            return results
        carrier = make_carrier(self.network, self.encoder, view, nearest_prompts(prompts, start), self.settings)
        last = max(i * direction for i, mask in prompts.items() if (mask > 0.5).any()) * direction
        most = self.most_growth * max(_area(mask) for mask in prompts.values()) or math.inf
        stride = Stride(self.stride_mm, view)
        index, mask, empty = start, prompts[start], 0
        carrier.place(index, mask)
        stride.start(mask)
        while index + direction != end:
            if index + direction in prompts:
                index, empty = index + direction, 0
                mask = prompts[index]
                carrier.place(index, mask)
                stride.start(mask)
                count.skip(1)
                if not (mask > 0.5).any():  # the user said that the object ends here
                    break
                continue
            stop = min([end * direction, *(i * direction for i in prompts if (i - index) * direction > 0)]) * direction
            steps = min(stride.slices, abs(stop - index) - 1)
            target = index + steps * direction
            onward = copy.copy(carrier)
            result = yield from onward.step(target, range(target + steps * direction, stop, steps * direction))
            beyond = within is not None and not within[0] <= target <= within[1]
            least = max(self.least_sure, SURE_BEYOND) if beyond else self.least_sure
            is_open = (target - last) * direction > 0
            sureness = _sureness(result)
            ends = is_open and (sureness < least or _area(result) > most)
            doubtful = is_open and sureness < least + DOUBT  # the slices between may be those that end the sweep
            if not stride.accepts(mask, result, steps, ends or doubtful):
                continue
            if ends:
                break
            passed = range(index + direction, target + direction, direction)
            for i, one in zip(passed, [*interpolate(mask, result, steps - 1), result], strict=True):
                results[i] = one
                if found is not None:
                    found(i, one)
            carrier, index, mask = onward, target, result
            count.skip(steps)
            empty = 0 if (result > 0.5).any() else empty + steps
            if 0 < self.stop_after_empty <= empty:
                break
        count.skip(abs(end - index) - 1)
        return results


def _hard(prompts: Mapping[int, Slice]) -> dict[int, Slice]:
    """Masks, as in training: memory would carry the haze of a click network's answer as if it were object."""
    return {index: (mask > 0.5).astype(np.float32) for index, mask in prompts.items()}


def _area(mask: Slice) -> int:
    """Pixels of a mask (H, W)."""
    return int((mask > 0.5).sum())


def _sureness(mask: Slice) -> float:
    """Mean probability inside a mask (H, W); 1 for an empty one."""
    inside = mask[mask > 0.5]
    return float(inside.mean()) if len(inside) else 1.0


def _emptied(
    prompts: Mapping[int, Slice], origin: int, other: int | None, known: Callable[[int], Slice], depth: int
) -> range:
    """Slices between `origin` and `other` that an emptied one of the two leaves without object."""
    if other is None:
        return range(0)
    full = {i: bool((prompts[i] > 0.5).any()) for i in (origin, other)}
    if full[origin] == full[other]:
        return range(0)
    filled, empty = (origin, other) if full[origin] else (other, origin)
    step = 1 if empty > filled else -1
    return range(end_before_empty(known, filled, empty, depth) + step, empty, step)


def end_before_empty(known: Callable[[int], Slice], filled: int, empty: int, depth: int) -> int:
    """Last slice on which the object may lie between a prompted slice and one the user has emptied.

    A sweep that leaked through the emptied slice once would leak again. People click in the middle of what is wrong: if
    the old mask reaches from the emptied slice on to slice F, the error began about as far on the near side; never more
    than half of the way to the filled slice is taken away. Where the slices behind are empty already (an earlier
    correction), the object keeps the end it has.

    Args:
        known: gives the (H, W) result so far of a slice.
        filled: prompted slice with object.
        empty: prompted slice without.
        depth: number of slices of the volume.

    Returns:
        Index from `filled` (included) to the slice before `empty`.
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


def _merge(sweeps: list[tuple[int, int, int]], results: list[SliceStore]) -> SliceStore:
    """Blend sweeps that met in one interval; a slice nearer to a prompt trusts that prompt's sweep more."""
    merged = SliceStore()
    for number, ((start, end, _), result) in enumerate(zip(sweeps, results, strict=True)):
        partner = next((j for j, (a, b, _) in enumerate(sweeps) if j != number and a == end and b == start), None)
        if partner is None:
            merged.take(result)
            continue
        if partner < number:
            continue
        back = results[partner]
        if not result or not back:  # one of the two prompts is empty: the other one's sweep is all there is
            merged.take(result or back)
            continue
        for index in sorted(set(result) | set(back)):
            weight = abs(index - end) / abs(end - start)  # 1 at start, 0 at end
            zero = np.zeros_like(result.get(index, back.get(index)))
            blend = weight * result.get(index, zero) + (1 - weight) * back.get(index, zero)
            merged[index] = blend.astype(np.float32, copy=False)
    return merged
