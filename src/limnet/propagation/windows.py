"""TinyPropagation on windows: the state of one pass, in a window at the object's scale that follows it."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np

from limnet.image.slice_view import SliceView
from limnet.interaction.features import WindowEncoder
from limnet.interaction.window import Window, join, mask_box, window_around
from limnet.propagation.networks.tiny import Look, Remembered, TinyPropagation, summed
from limnet.propagation.state import Questions, Slice

PROMPTS_IN_MEMORY = 4  # nearest prompted slices that a pass remembers
EMPTY_IN_MEMORY = 2  # nearest empty prompted slices: what does not belong to the object
RECENT_IN_MEMORY = 4  # predicted slices it remembers besides
MEMORY_EVERY = 3  # slices between two remembered predicted slices
TOP_K = 30  # memory places a query listens to
ENCODED_TOGETHER = 4  # slices whose image half is computed in one batch; more are hardly faster, and may be in vain
_MARGIN = 0.14  # the window moves on when the object comes closer to its border


class WindowState:
    """State of one pass with `TinyPropagation`, in a window that follows the object; see `limnet.propagation.state`.

    Args:
        network: `TinyPropagation`.
        encoder: its image half with the cache of the case.
        view: volume along the case's axis.
        prompts: prompted slices that stay in memory, nearest first.
        size: side of the network input in pixels.
        follow: let the window follow the object; otherwise it shows the whole slice.
    """

    def __init__(
        self,
        network: TinyPropagation,
        encoder: WindowEncoder,
        view: SliceView,
        prompts: Sequence[tuple[int, Slice]],
        size: int,
        follow: bool = True,
    ):
        self.network, self.encoder, self.view, self.size, self.follow = network, encoder, view, size, follow
        self.window: Window | None = None
        self.index, self.mask = -1, np.zeros(view.shape, np.float32)
        self.permanent: list[Remembered] = []
        self.recent: list[Remembered] = []
        self.steps = 0
        self._due = False  # whether memory is to have the slice just done
        self._seen: dict[Window, Look] = {}  # the slice just done, seen through windows: its look
        first: Window | None = None
        for index, mask in prompts:
            box = mask_box(mask > 0.5)
            if box is not None and len(self.permanent) < PROMPTS_IN_MEMORY:
                self.permanent.append(self._remember(index, mask, self._window(box)))
                first = first or self._window(box)
        empty = [(i, m) for i, m in prompts if not (m > 0.5).any()][:EMPTY_IN_MEMORY]
        self.refused = [self._remember(i, m, first) for i, m in empty] if first is not None else []
        self.looks = [summed(self.permanent)] if self.permanent else []

    def _window(self, box: tuple[int, int, int, int]) -> Window:
        shape = self.view.shape
        if not self.follow:
            box = (0, shape[0], 0, shape[1])
        return window_around(box, shape, self.view.spacing, self.size, share=0.38 if self.follow else 1.0)

    def _remember(self, index: int, mask: Slice, window: Window) -> Remembered:
        """What memory makes of a slice in a window."""
        features = self.encoder.in_turn(self.view, index, window)
        with self.encoder.running():
            return self.network.remember(features, window.crop(mask, edge=False).to(self.encoder.device))

    def place(self, index: int, mask: Slice) -> None:
        """Set the state to a prompted slice."""
        self.index, self.mask, self.steps, self._due, self._seen = index, mask, 0, False, {}
        box = mask_box(mask > 0.5)
        if box is not None:
            self.window = self._window(box)

    def step(self, index: int, ahead: Sequence[int] = ()) -> Questions:
        """Predict slice `index`."""
        if self.window is None or not self.permanent:
            return np.zeros(self.view.shape, np.float32)
        if self._due:
            memory = [*self.recent, self._remember(self.index, self.mask, self.window)]
            self.recent, self._due = memory[-RECENT_IN_MEMORY:], False
        result = yield from self._predict(index, self.window, ahead)
        box = mask_box(result > 0.5)
        if box is not None and self.follow and not self._fits(join(box, mask_box(self.mask > 0.5)) or box):
            # the object has outgrown the window or left its middle: predict again in a better one
            self.window = self._window(join(box, mask_box(self.mask > 0.5)) or box)
            result = yield from self._predict(index, self.window, ahead)
            box = mask_box(result > 0.5)
        before, self.steps = self.steps, self.steps + abs(index - self.index)
        self._due = box is not None and self.steps // MEMORY_EVERY > before // MEMORY_EVERY
        self.index, self.mask, self._seen = index, result, {}
        return result

    def _fits(self, box: tuple[int, int, int, int]) -> bool:
        window = self.window
        if window is None:
            return False
        whole = window.height >= self.view.shape[0] and window.width >= self.view.shape[1]
        share = max((box[1] - box[0]) / window.height, (box[3] - box[2]) / window.width)
        inside = window.holds(_kept_on_slice(box, self.view.shape, window), _MARGIN)
        return (inside or whole) and (share > 0.2 or window == self._window(box))

    def _predict(self, index: int, window: Window, ahead: Sequence[int]) -> Questions:
        view, encoder, network = self.view, self.encoder, self.network
        features = encoder.in_turn(view, index, window, ahead[: ENCODED_TOGETHER - 1])
        seen = encoder.in_turn(view, self.index, window)
        mask = window.crop(self.mask, edge=False).to(encoder.device)
        with encoder.running():
            if window not in self._seen:
                self._seen[window] = network.look(seen, mask)
            readout = network.read(features, [*self.permanent, *self.refused, *self.recent], TOP_K)
        logits = yield features, readout, self.looks, self._seen[window], seen[0], mask
        return window.paste(logits, np.zeros(view.shape, np.float32))


def _kept_on_slice(box: tuple[int, int, int, int], shape: tuple[int, int], window: Window) -> tuple[int, int, int, int]:
    """A box whose sides at the slice's border do not count as close to the window's border."""
    middle = (window.top + window.height // 2, window.left + window.width // 2)
    row0 = middle[0] if window.top <= 0 else box[0]
    row1 = middle[0] if window.top + window.height >= shape[0] else box[1]
    column0 = middle[1] if window.left <= 0 else box[2]
    column1 = middle[1] if window.left + window.width >= shape[1] else box[3]
    return min(row0, box[1]), max(row1, box[0]), min(column0, box[3]), max(column1, box[2])
