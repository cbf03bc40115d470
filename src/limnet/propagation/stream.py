"""Frame by frame propagation with XMem: the reference's inference loop on a stateless network and a memory bank."""

from __future__ import annotations

from collections.abc import Sequence

import torch
from torch import Tensor

from limnet.errors import InputError
from limnet.propagation.memory import MemoryBank, MemoryConfig
from limnet.propagation.networks.aggregate import aggregate, pad, unpad
from limnet.propagation.networks.xmem import ImageFeatures, XMem


class Stream:
    """One pass through a video or through the slices of a volume in one direction.

    With `permanent_prompts=False` it equals the reference (only the first frame is permanent); by default every frame
    that came with a mask stays in the memory.

    Args:
        network: An XMem; used in the mode it is in (call `eval()` first).
        mem_every: Steps between memory frames.
        memory: Limits of the memory; None takes the defaults.
        permanent_prompts: Keep every frame given with a mask uncompressed.

    Attributes:
        labels: Names of the objects, in the order of the output channels 1..O.
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
        self.labels: tuple[int, ...] = ()
        self.sensory: Tensor | None = None
        self._size: tuple[int, int] | None = None
        self._since_memory = 0
        self._ended = False

    @torch.no_grad()
    def step(
        self,
        image: Tensor,
        mask: Tensor | None = None,
        valid_labels: Sequence[int] | None = None,
        end: bool = False,
        features: ImageFeatures | None = None,
    ) -> Tensor:
        """Take the next frame.

        Args:
            image: (3, H, W) or (1, H, W), values in [0, 1].
            mask: (O, H, W) masks in [0, 1], one channel per object in the order of `labels`; needed for the first
                frame. More channels than there are labels add objects, named by the next integers.
            valid_labels: Objects that `mask` speaks about; the others keep their prediction outside the masks given.
                None: all of them.
            end: Last frame: nothing is remembered, and no step can follow.
            features: `network.encode_image(image[None])` if it is known already.

        Returns:
            Probabilities (O+1, H, W), background first, float32. A frame whose mask covers all objects gives the
            aggregated mask.

        Raises:
            InputError: First frame without a mask, a step after the end, or sizes and labels that do not fit.
        """
        size = self._check(image, mask, valid_labels)
        image = image[None]
        if features is None:
            features = self.network.encode_image(image)
        known = self.bank.objects
        if mask is not None:
            self._extend(mask.shape[0])
        partial = valid_labels is not None and set(valid_labels) != set(self.labels)
        remember = (self._since_memory >= self.mem_every or mask is not None) and not end

        prob = None
        if known and (mask is None or valid_labels is None or partial):
            readout = self.bank.read(features.key, features.selection, known)
            if mask is None or partial:
                prob = self._segment(features, readout, update=not remember and not end)
        if mask is not None:
            prob = self._merge(mask.to(features.key.device), prob, valid_labels if partial else None)
            self._grow_sensory(features)
        if prob is None or self.sensory is None:
            raise InputError("the first frame needs a mask; give step(image, mask) with one channel per object")
        if remember:
            value, self.sensory = self.network.encode_value(
                image, features, self.sensory, prob[None, 1:], deep_update=True
            )
            permanent = mask is not None and self.permanent_prompts
            self.bank.add(features.key, features.shrinkage, features.selection, value, self.labels, permanent)
            self._since_memory = 0
        self._since_memory += 1
        self._ended = end
        self._size = size
        return unpad(prob, *size, self.network.stride)

    def remove(self, labels: Sequence[int]) -> None:
        """Drop objects; later outputs and masks have channels for the others only, in the same order.

        Raises:
            InputError: Unknown label, or none would be left.
        """
        unknown = [label for label in labels if label not in self.labels]
        if unknown:
            raise InputError(f"labels {unknown} are unknown; this stream follows {self.labels}")
        left = [i for i, label in enumerate(self.labels) if label not in labels]
        if not left:
            raise InputError("no object would be left; start a new Stream instead")
        self.bank.remove([label for label in labels if label in self.bank.objects])
        self.sensory = None if self.sensory is None else self.sensory[:, left]
        self.labels = tuple(self.labels[i] for i in left)

    def _extend(self, objects: int) -> None:
        following = max(self.labels, default=0) + 1
        self.labels += tuple(range(following, following + objects - len(self.labels)))

    def _segment(self, features: ImageFeatures, readout: Tensor, update: bool) -> Tensor:
        if self.sensory is None:
            self.sensory = self.network.initial_sensory(features, readout.shape[1])
        state, _, prob = self.network.segment(features, readout, self.sensory, update)
        if update:
            self.sensory = state
        return prob[0]

    def _merge(self, mask: Tensor, prob: Tensor | None, valid_labels: Sequence[int] | None) -> Tensor:
        """Aggregated probabilities from the given masks and, for objects they do not speak about, the prediction."""
        mask = pad(mask.to(torch.float32), self.network.stride)
        if prob is not None and valid_labels is not None:
            given = [label in valid_labels for label in self.labels]
            free = mask[[i for i, here in enumerate(given) if here]].sum(0) <= 0.5
            channels = [
                mask[i] if here or i + 1 >= prob.shape[0] else prob[i + 1] * free for i, here in enumerate(given)
            ]
            mask = torch.stack(channels)
        return aggregate(mask, 0)[1]

    def _grow_sensory(self, features: ImageFeatures) -> None:
        have = 0 if self.sensory is None else self.sensory.shape[1]
        if have < len(self.labels):
            fresh = self.network.initial_sensory(features, len(self.labels) - have)
            self.sensory = fresh if self.sensory is None else torch.cat([self.sensory, fresh], 1)

    def _check(self, image: Tensor, mask: Tensor | None, valid_labels: Sequence[int] | None) -> tuple[int, int]:
        if self._ended:
            raise InputError("this stream has ended; start a new Stream for another pass")
        if image.ndim != 3 or image.shape[0] not in (1, 3):
            raise InputError(f"image has shape {tuple(image.shape)}; expected (3, H, W) or (1, H, W)")
        size = (int(image.shape[1]), int(image.shape[2]))
        if self._size not in (None, size):
            raise InputError(f"image is {size}, earlier frames were {self._size}; start a new Stream for another size")
        if mask is None:
            if not self.labels:
                raise InputError("the first frame needs a mask; give step(image, mask) with one channel per object")
            if valid_labels is not None:
                raise InputError("valid_labels speak about a mask; give one or leave them out")
            return size
        if mask.ndim != 3 or tuple(mask.shape[1:]) != size:
            raise InputError(f"mask has shape {tuple(mask.shape)}; expected (O, {size[0]}, {size[1]})")
        if mask.shape[0] < max(1, len(self.labels)):
            raise InputError(
                f"mask has {mask.shape[0]} channels; this stream follows {len(self.labels)} objects {self.labels}"
            )
        if valid_labels is not None:
            following = max(self.labels, default=0) + 1
            allowed = {*self.labels, *range(following, following + mask.shape[0] - len(self.labels))}
            if not set(valid_labels) <= allowed:
                raise InputError(f"valid_labels {list(valid_labels)} are not among the objects {sorted(allowed)}")
        return size
