"""SlicePredictor: prompts on one slice to its mask, in a window at the object's own scale.

The window is a second look, never an eraser: outside of it the mask so far stays.
"""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor, nn

from limnet.interaction.features import FeatureCache, WindowEncoder
from limnet.interaction.guidance import WindowTransform, guidance_maps
from limnet.interaction.window import Window, join, mask_box, window_around, window_of_side
from limnet.prompts import Prompt2D
from limnet.view import SliceView

FIRST_SCALES = (1.0, 0.5, 0.25)  # windows of a first click, as shares of the slice's longer side
_LOOKS = 3  # looks at a slice in one prediction, the first one included


class SlicePredictor:
    """The interaction network at work.

    Args:
        network: interaction network (`encode_image`, `decode`, `prompt_channels`, `click_radius`).
        device: where to compute.
        precision: "fp32", "bf16" or "auto".
        cache: features of the case; a private one when None.
        size: side of the network input in pixels; None for the network's own `window_size`, else 160.
    """

    def __init__(
        self,
        network: nn.Module,
        *,
        device: torch.device | str = "cpu",
        precision: str = "auto",
        cache: FeatureCache | None = None,
        size: int | None = None,
    ):
        self.network = network
        self.encoder = WindowEncoder(network, device, precision, FeatureCache() if cache is None else cache)
        self.size = int(size or getattr(network, "window_size", 160))

    def predict(
        self, view: SliceView, index: int, prompts: Sequence[Prompt2D], previous: NDArray[np.float32] | None
    ) -> NDArray[np.float32]:
        """Mask of one slice.

        Args:
            view: volume along the case's axis.
            index: slice.
            prompts: all prompts of this slice, oldest first.
            previous: (H, W) probabilities so far, None for none.

        Returns:
            (H, W) float32 probabilities.
        """
        shape, spacing = view.shape, view.spacing
        base = np.zeros(shape, np.float32) if previous is None else previous
        old = None if previous is None else mask_box(previous > 0.5)
        marked = _prompt_box(prompts, shape)
        boxed = any(p.kind in ("box", "lasso") and p.positive for p in prompts)
        if old is None and not boxed and marked is not None:
            window, logits = self._first_look(view, index, prompts, marked)
        else:
            focus = join(old, marked) or (0, shape[0], 0, shape[1])
            window = window_around(focus, shape, spacing, self.size)
            logits = self._look(view, index, window, prompts, base)
        result = window.paste(logits, base)
        for _ in range(_LOOKS - 1):
            focus = join(mask_box(result > 0.5), marked)
            if focus is None:
                break
            closer = window_around(focus, shape, spacing, self.size)
            if closer == window or _similar(closer, window, focus):
                break
            window = closer
            result = window.paste(self._look(view, index, window, prompts, result), result)
        return result

    def _look(
        self, view: SliceView, index: int, window: Window, prompts: Sequence[Prompt2D], previous: NDArray[np.float32]
    ) -> Tensor:
        """Logits (1, 1, size, size) of one window."""
        channels = self.network.prompt_channels
        transform = WindowTransform.of(window.bounds, (window.size, window.size))
        maps = guidance_maps(
            prompts,
            (window.size, window.size),
            channels,
            float(self.network.click_radius),
            transform,  # type: ignore[arg-type]
        )
        tensor = torch.from_numpy(maps)[None]
        tensor[:, list(channels).index("previous")] = window.crop(previous, edge=False)[:, 0]  # type: ignore[arg-type]
        features = self.encoder.features(view, index, window)
        with self.encoder.running():
            logits: Tensor = self.network.decode(features, tensor.to(self.encoder.device))["instances"]  # type: ignore[operator]
        return logits.float()

    def _first_look(
        self, view: SliceView, index: int, prompts: Sequence[Prompt2D], marked: tuple[int, int, int, int]
    ) -> tuple[Window, Tensor]:
        """Choose the scale of an object nothing is known of: the window whose answer is surest and fits it best."""
        shape, spacing = view.shape, view.spacing
        longest = max(shape[0] * spacing[0], shape[1] * spacing[1])
        centre = ((marked[0] + marked[1]) / 2, (marked[2] + marked[3]) / 2)
        nothing = np.zeros(shape, np.float32)
        best: tuple[float, Window, Tensor] | None = None
        seen = set()
        for scale in FIRST_SCALES:
            side = max(scale * longest, 2.0 * max(marked[1] - marked[0], marked[3] - marked[2]) * max(spacing))
            window = window_of_side(side, centre, shape, spacing, self.size)
            if window in seen:
                continue
            seen.add(window)
            logits = self._look(view, index, window, prompts, nothing)
            score = _trust(logits[0, 0])
            if best is None or score > best[0]:
                best = (score, window, logits)
        if best is None:  # unreachable: FIRST_SCALES is not empty
            raise RuntimeError("no window was tried")
        return best[1], best[2]


def _trust(logits: Tensor) -> float:
    """How far to trust a first look: sure inside, and neither tiny in its window nor cut off by it."""
    probability = torch.sigmoid(logits)
    inside = probability > 0.5
    area = float(inside.sum())
    if area < 4:
        return 0.0
    sure = float(((probability - 0.5).abs() * 2)[probability > 0.2].mean())
    rows, columns = inside.any(1).nonzero(), inside.any(0).nonzero()
    extent = max(float(rows[-1] - rows[0]), float(columns[-1] - columns[0])) / len(logits)
    border = torch.cat([inside[0], inside[-1], inside[:, 0], inside[:, -1]]).float().mean()
    return sure * min(1.0, extent / 0.15) * (1.0 - min(1.0, 2.0 * float(border)))


def _similar(closer: Window, window: Window, focus: tuple[int, int, int, int]) -> bool:
    return window.holds(focus, 0.08) and 0.7 < closer.height / window.height < 1.3


def _prompt_box(prompts: Sequence[Prompt2D], shape: tuple[int, int]) -> tuple[int, int, int, int] | None:
    """Pixel box around everything the user marked on the slice."""
    boxes = []
    for prompt in prompts:
        if prompt.mask is not None:
            boxes.append(mask_box(prompt.mask.array()))
        elif len(prompt.points):
            low, high = np.floor(np.min(prompt.points, 0)), np.ceil(np.max(prompt.points, 0))
            boxes.append((int(low[0]), int(high[0]) + 1, int(low[1]), int(high[1]) + 1))
    box = join(*boxes)
    if box is None:
        return None
    return max(box[0], 0), min(box[1], shape[0]), max(box[2], 0), min(box[3], shape[1])
