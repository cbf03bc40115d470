"""StreamCarrier: XMem on whole slices at their own resolution, as in the paper; one direction per carrier."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from limnet.interaction.features import WindowEncoder
from limnet.propagation.stream import Stream
from limnet.propagation.xmem import ImageFeatures, XMem
from limnet.view import SliceView

Slice = NDArray[np.float32]


class StreamCarrier:
    """Carries a mask with XMem; all prompted slices are permanent memory.

    Args:
        network: `XMem`.
        encoder: device, precision and feature cache.
        view: volume along the case's axis.
        prompts: prompted slices, nearest first; the first one must be placed first.
    """

    def __init__(self, network: XMem, encoder: WindowEncoder, view: SliceView, prompts: Sequence[tuple[int, Slice]]):
        self.encoder, self.view = encoder, view
        self.stream = Stream(network)
        self.others = list(prompts[1:])

    def _image(self, index: int) -> Tensor:
        return torch.from_numpy(np.ascontiguousarray(self.view.image(index))).to(self.encoder.device)

    def _features(self, index: int) -> ImageFeatures:
        encoder, network = self.encoder, self.stream.network

        def compute() -> tuple[Tensor, ...]:
            with encoder.running():
                return tuple(network.encode_image(self._image(index)[None]))

        key = (encoder.key, encoder.bf16, self.view.axis, self.view.window, index, None)
        return ImageFeatures(*encoder.cache.get(key, compute))

    def _step(self, index: int, mask: Slice | None) -> Slice:
        given = None if mask is None else torch.tensor(mask)[None].to(self.encoder.device)
        with self.encoder.running():
            output = self.stream.step(self._image(index), given, features=self._features(index))
        return output[1].float().cpu().numpy()

    def place(self, index: int, mask: Slice) -> None:
        """Give XMem a prompted slice; the first time, tell its memory of the other prompted slices too."""
        self._step(index, mask)
        others, self.others = self.others, []
        for other, probability in others:
            features = self._features(other)
            network = self.stream.network
            with self.encoder.running():
                masks = torch.tensor(probability)[None, None].to(self.encoder.device)
                sensory = network.initial_sensory(features, 1)
                value, _ = network.encode_value(self._image(other)[None], features, sensory, masks, deep_update=False)
                self.stream.bank.add(
                    features.key, features.shrinkage, features.selection, value, self.stream.labels, True
                )

    def step(self, index: int) -> Slice:
        """Predict the neighbouring slice (H, W) float32."""
        return self._step(index, None)
