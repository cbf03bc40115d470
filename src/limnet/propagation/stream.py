"""XMem on whole slices, as in the paper: the reference's inference loop, and the state of one pass with it."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
import torch
import torch.nn.functional as functional
from torch import Tensor

from limnet.errors import InputError
from limnet.image.slice_view import SliceView
from limnet.image.slices import Slice
from limnet.interaction.window import WindowEncoder
from limnet.propagation.memory import MemoryBank, MemoryConfig
from limnet.propagation.networks.xmem import ImageFeatures, XMem, aggregate, pad, unpad


class Stream:
    """One pass through a video or through the slices of a volume in one direction.

    With `permanent_prompts=False` it equals the reference (only the first frame is permanent); by default every frame
    that came with a mask stays in the memory, uncompressed.

    Args:
        network: An XMem; used in the mode it is in (call `eval()` first).
        mem_every: Steps between memory frames.
        memory: Limits of the memory; None takes the defaults.
        permanent_prompts: See above.

    Raises:
        InputError: `mem_every` below 1.

    Attributes:
        bank: The memory.
        sensory: Sensory state (1, O, Ch, h, w), or None before the first mask.
    """

    def __init__(
        self, network: XMem, mem_every: int = 5, memory: MemoryConfig | None = None, permanent_prompts: bool = True
    ) -> None:
        if mem_every < 1:
            raise InputError(f"mem_every is {mem_every}; it must be at least 1")
        self.network = network
        self.mem_every = mem_every
        self.permanent_prompts = permanent_prompts
        self.bank = MemoryBank(memory)
        self.sensory: Tensor | None = None
        self._size: tuple[int, int] | None = None
        self._since_memory = 0
        self._ended = False

    @torch.no_grad()
    def step(
        self,
        image: Tensor,
        mask: Tensor | None = None,
        end: bool = False,
        features: ImageFeatures | None = None,
    ) -> Tensor:
        """Take the next frame.

        Args:
            image: (3, H, W) or (1, H, W), values in [0, 1].
            mask: (O, H, W) masks in [0, 1], one channel per object; needed for the first frame.
            end: Last frame: nothing is remembered, and no step can follow.
            features: `network.encode_image(image[None])` if it is known already.

        Returns:
            Probabilities (O+1, H, W), background first, float32. A frame with a mask gives the aggregated mask.

        Raises:
            InputError: First frame without a mask, a step after the end, or sizes that do not fit.
        """
        size = self._check(image, mask)
        image, network = image[None], self.network
        if features is None:
            features = network.encode_image(image)
        remember = (self._since_memory >= self.mem_every or mask is not None) and not end
        if mask is None:
            readout = self.bank.read(features.key, features.selection)
            update = not remember and not end
            state, _, prob = network.segment(features, readout, self.sensory, update)  # type: ignore[arg-type]
            prob, self.sensory = prob[0], state if update else self.sensory
        else:
            prob = aggregate(pad(mask.to(features.key.device, torch.float32), network.stride), 0)[1]
            if self.sensory is None:
                self.sensory = network.initial_sensory(features, len(mask))
        if remember:
            value, self.sensory = network.encode_value(
                image,
                features,
                self.sensory,  # type: ignore[arg-type]
                prob[None, 1:],
                deep_update=True,
            )
            permanent = mask is not None and self.permanent_prompts
            self.bank.add(features.key, features.shrinkage, features.selection, value, permanent)
            self._since_memory = 0
        self._since_memory += 1
        self._ended = end
        self._size = size
        return unpad(prob, *size, network.stride)

    def _check(self, image: Tensor, mask: Tensor | None) -> tuple[int, int]:
        if self._ended:
            raise InputError("this stream has ended; start a new Stream for another pass")
        if image.ndim != 3 or image.shape[0] not in (1, 3):
            raise InputError(f"image has shape {tuple(image.shape)}; expected (3, H, W) or (1, H, W)")
        size = (int(image.shape[1]), int(image.shape[2]))
        if self._size not in (None, size):
            raise InputError(f"image is {size}, earlier frames were {self._size}; start a new Stream for another size")
        held = None if self.sensory is None else self.sensory.shape[1]
        if mask is None:
            if held is None:
                raise InputError("the first frame needs a mask; give step(image, mask) with one channel per object")
        elif mask.ndim != 3 or tuple(mask.shape[1:]) != size or len(mask) != (held or max(len(mask), 1)):
            raise InputError(
                f"mask has shape {tuple(mask.shape)}; expected ({held or 'O'}, {size[0]}, {size[1]}), one channel for "
                "each object of the first mask"
            )
        return size


class StreamState:
    """State of one pass with XMem; all prompted slices are permanent memory. See `PropagationState`.

    XMem sees slices with a shorter side of `short_side` pixels, resized as in its own evaluation: images bilinear
    without smoothing, masks by the nearest pixel, probabilities bilinear; 0 leaves slices as they are.
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
                self.stream.bank.add(features.key, features.shrinkage, features.selection, value, permanent=True)

    def step(self, index: int, ahead: Sequence[int] = ()) -> Slice:
        """Predict slice `index`. Whole slices fill a processor one by one, so nothing is asked together."""
        return self._step(index, None)
