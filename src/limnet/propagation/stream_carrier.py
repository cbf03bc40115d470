"""StreamCarrier: XMem on whole slices, as in the paper; one direction per carrier."""

from __future__ import annotations

import copy
from collections.abc import Sequence

import numpy as np
import torch
import torch.nn.functional as functional
from numpy.typing import NDArray
from torch import Tensor

from limnet.image.slice_view import SliceView
from limnet.interaction.features import WindowEncoder
from limnet.propagation.memory import MemoryConfig
from limnet.propagation.networks.xmem import ImageFeatures, XMem
from limnet.propagation.steps import Step
from limnet.propagation.stream import Stream

Slice = NDArray[np.float32]


class StreamCarrier:
    """Carries a mask with XMem; all prompted slices are permanent memory.

    Args:
        network: `XMem`.
        encoder: device, precision and feature cache.
        view: volume along the case's axis.
        prompts: prompted slices, nearest first; the first one must be placed first.
        short_side: XMem sees slices with a shorter side of so many pixels, resized as in its own evaluation: images
            bilinear without smoothing, masks by the nearest pixel, probabilities bilinear; 0 leaves slices as they are.
        memory: limits of the memory; None takes the defaults.
    """

    def __init__(
        self,
        network: XMem,
        encoder: WindowEncoder,
        view: SliceView,
        prompts: Sequence[tuple[int, Slice]],
        short_side: int = 0,
        memory: MemoryConfig | None = None,
    ):
        self.encoder, self.view = encoder, view
        shortest = min(view.shape)
        self.size = tuple(side * short_side // shortest for side in view.shape) if short_side else view.shape
        self.stream = Stream(network, memory=memory)
        self.others = list(prompts[1:])

    def _image(self, index: int) -> Tensor:
        image = torch.from_numpy(np.ascontiguousarray(self.view.image(index))).to(self.encoder.device)
        return self._resized(image, self.size, "bilinear")

    def _mask(self, mask: Slice) -> Tensor:
        return self._resized(torch.tensor(mask)[None].to(self.encoder.device), self.size, "nearest")

    @staticmethod
    def _resized(array: Tensor, size: tuple[int, ...], mode: str) -> Tensor:
        """(C, H, W) at another size."""
        if tuple(array.shape[-2:]) == size:
            return array
        corners = None if mode == "nearest" else False
        return functional.interpolate(array[None], size, mode=mode, align_corners=corners)[0]

    def _features(self, index: int) -> ImageFeatures:
        encoder, network = self.encoder, self.stream.network

        def compute() -> tuple[Tensor, ...]:
            with encoder.running():
                return tuple(network.encode_image(self._image(index)[None]))

        key = (encoder.key, encoder.bf16, self.view.axis, self.view.window, index, self.size)
        return ImageFeatures(*encoder.cache.get(key, compute))

    def _step(self, index: int, mask: Slice | None) -> Slice:
        given = None if mask is None else self._mask(mask)
        with self.encoder.running():
            output = self.stream.step(self._image(index), given, features=self._features(index))
        return self._resized(output[1:2].float(), self.view.shape, "bilinear")[0].cpu().numpy()

    def place(self, index: int, mask: Slice) -> None:
        """Give XMem a prompted slice; the first time, tell its memory of the other prompted slices too."""
        self._step(index, mask)
        others, self.others = self.others, []
        for other, probability in others:
            features = self._features(other)
            network = self.stream.network
            with self.encoder.running():
                masks = self._mask(probability)[None]
                sensory = network.initial_sensory(features, 1)
                value, _ = network.encode_value(self._image(other)[None], features, sensory, masks, deep_update=False)
                self.stream.bank.add(
                    features.key, features.shrinkage, features.selection, value, self.stream.labels, True
                )

    def step(self, index: int, ahead: Sequence[int] = ()) -> Step:
        """Predict slice `index`; see `Carrier`. Whole slices fill a processor one by one, so nothing is asked."""
        return self._step(index, None)
        yield

    def __copy__(self) -> StreamCarrier:
        twin = type(self).__new__(type(self))
        twin.__dict__.update(self.__dict__, stream=copy.copy(self.stream))
        twin.stream.bank = self.stream.bank.clone()
        return twin
