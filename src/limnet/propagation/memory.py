"""The memory of propagation: working frames, permanent frames and long-term prototypes, for any key and value sizes.

XMem section 3.3 with two differences: any number of frames may be permanent (every prompted slice), and pruning keeps
exactly as many elements as allowed. The sensory memory is a plain tensor kept by the caller.
"""

from __future__ import annotations

from dataclasses import dataclass, replace

import torch
from torch import Tensor

from limnet.errors import InputError
from limnet.propagation.networks.attention import dense_readout, similarity, sparse_readout, top_affinity

CHUNK_ELEMENTS = 1 << 22
"""Largest similarity matrix held at once, in numbers (16 MiB of float32)."""

NEW_LIFE = 1e-7


@dataclass(frozen=True)
class MemoryConfig:
    """Limits of a `MemoryBank`; the defaults are those of the XMem evaluation.

    Attributes:
        top_k: Elements each query reads.
        long_term: Compress old frames to prototypes; False keeps every frame as it is, without any limit.
        min_frames: Working frames left after a consolidation, the first permanent one included.
        max_frames: Working frames at which consolidation starts, the first permanent one included.
        prototypes: Elements that one consolidation leaves in the long-term memory.
        max_long_elements: Upper limit of the long-term memory; the least used elements are dropped.
        max_permanent: Permanent frames kept; beyond that the oldest but the first becomes ordinary.
    """

    top_k: int = 30
    long_term: bool = True
    min_frames: int = 5
    max_frames: int = 10
    prototypes: int = 128
    max_long_elements: int = 10000
    max_permanent: int = 64

    def __post_init__(self) -> None:
        for name in ("top_k", "min_frames", "prototypes", "max_permanent"):
            if getattr(self, name) < 1:
                raise InputError(f"{name} is {getattr(self, name)}; it must be at least 1")
        if self.max_frames <= self.min_frames:
            raise InputError(f"max_frames ({self.max_frames}) must be larger than min_frames ({self.min_frames})")
        if self.max_long_elements < self.prototypes:
            raise InputError(
                f"max_long_elements ({self.max_long_elements}) must be at least prototypes ({self.prototypes})"
            )


class MemoryBank:
    """Key-value memory of one sequence (batch of one): long-term elements first, then the frames in order.

    Works for every network that gives keys and values of fixed sizes Ck and Cv, with or without shrinkage and
    selection. Frames may differ in h and w.

    Args:
        config: Limits; None takes the defaults.

    Attributes:
        tokens: All elements; None before the first frame.
        long: Number of long-term elements among them.
    """

    def __init__(self, config: MemoryConfig | None = None) -> None:
        self.config = config or MemoryConfig()
        self.tokens: Tokens | None = None
        self.long = 0
        self._frames: list[tuple[int, bool]] = []  # elements of each frame, and whether it is permanent

    def add(
        self,
        key: Tensor,
        shrinkage: Tensor | None,
        selection: Tensor | None,
        value: Tensor,
        permanent: bool = False,
    ) -> None:
        """Insert a frame; the first one is always permanent.

        Args:
            key: (1, Ck, h, w).
            shrinkage: (1, 1, h, w) or None.
            selection: (1, Ck, h, w) or None.
            value: (1, O, Cv, h, w).
            permanent: Never compress this frame (a prompted slice).

        Raises:
            InputError: Shapes do not fit each other or the frames before.
        """
        self._check_frame(key, shrinkage, selection, value)
        fresh = Tokens.new(
            _rows(key),
            None if shrinkage is None else _rows(shrinkage),
            None if selection is None else _rows(selection),
            value[0].flatten(2).permute(2, 0, 1).contiguous(),
        )
        self.tokens = fresh if self.tokens is None else self.tokens.join(fresh)
        self._frames.append((len(fresh), permanent or not self._frames))
        steady = [i for i, (_, kept) in enumerate(self._frames) if kept]
        if len(steady) > max(self.config.max_permanent, 1):
            self._frames[steady[1]] = (self._frames[steady[1]][0], False)
        if self.config.long_term:
            self._consolidate(self.tokens)

    def read(self, key: Tensor, selection: Tensor | None) -> Tensor:
        """Ask the memory; advances the usage counters.

        Args:
            key: (1, Ck, h, w) key of the frame to segment.
            selection: (1, Ck, h, w) or None.

        Returns:
            (1, O, Cv, h, w) in the dtype of the values.

        Raises:
            InputError: The memory is empty.
        """
        if self.tokens is None:
            raise InputError("the memory is empty; add a frame with its mask before reading")
        if key.ndim != 4 or key.shape[0] != 1:
            raise InputError(f"key has shape {tuple(key.shape)}; expected (1, Ck, h, w)")
        select = None if selection is None else _rows(selection)
        out, self.tokens = self.tokens.read(_rows(key), select, self.config.top_k)
        return out.permute(1, 2, 0).unflatten(2, key.shape[-2:])[None]

    def _consolidate(self, tokens: Tokens) -> None:
        config = self.config
        passing = [i for i, (_, permanent) in enumerate(self._frames) if not permanent]
        if len(passing) < config.max_frames - 1:
            return
        old = set(passing[: len(passing) - (config.min_frames - 1)])
        rows = torch.arange(self.long, len(tokens)).split([size for size, _ in self._frames])
        device = tokens.key.device
        gone = torch.cat([rows[i] for i in sorted(old)]).to(device)
        left = torch.cat([rows[i] for i in range(len(self._frames)) if i not in old]).to(device)
        long = tokens.take(slice(0, self.long)).prune(config.max_long_elements - config.prototypes)
        long = long.join(tokens.take(gone).prototypes(config.prototypes))
        self.tokens, self.long = long.join(tokens.take(left)), len(long)
        self._frames = [frame for i, frame in enumerate(self._frames) if i not in old]

    def _check_frame(self, key: Tensor, shrinkage: Tensor | None, selection: Tensor | None, value: Tensor) -> None:
        if key.ndim != 4 or key.shape[0] != 1:
            raise InputError(f"key has shape {tuple(key.shape)}; expected (1, Ck, h, w)")
        size = tuple(key.shape[-2:])
        if value.ndim != 5 or value.shape[0] != 1 or tuple(value.shape[-2:]) != size:
            raise InputError(f"value has shape {tuple(value.shape)}; expected (1, O, Cv, {size[0]}, {size[1]})")
        held = self.tokens
        if held is not None and (key.shape[1], *value.shape[1:3]) != (held.key.shape[1], *held.value.shape[1:]):
            raise InputError(
                f"key and value are for {(key.shape[1], *value.shape[1:3])} (Ck, O, Cv); the memory holds "
                f"{(held.key.shape[1], *held.value.shape[1:])}; use a new MemoryBank"
            )
        for name, part, channels in (("shrinkage", shrinkage, 1), ("selection", selection, key.shape[1])):
            if part is not None and tuple(part.shape) != (1, channels, *size):
                raise InputError(f"{name} has shape {tuple(part.shape)}; expected {(1, channels, *size)}")
            if held is not None and (part is None) != (getattr(held, name) is None):
                raise InputError(f"{name} must be given with every frame of a memory or with none")


def _rows(x: Tensor) -> Tensor:
    return x[0].flatten(1).T.contiguous()


@dataclass(frozen=True)
class Tokens:
    """N memory elements; never changed in place, so that copies may share it.

    Attributes:
        key: (N, Ck) float32.
        shrinkage: (N, 1) float32 or None.
        selection: (N, Ck) float32 or None; used by consolidation only.
        value: (N, O, Cv).
        use: (N,) sum of the affinities received.
        life: (N,) reads since the element was added (plus 1e-7).
    """

    key: Tensor
    shrinkage: Tensor | None
    selection: Tensor | None
    value: Tensor
    use: Tensor
    life: Tensor

    @classmethod
    def new(cls, key: Tensor, shrinkage: Tensor | None, selection: Tensor | None, value: Tensor) -> Tokens:
        """Elements that nobody has read yet."""
        wide = torch.promote_types(key.dtype, torch.float32)
        key = key.to(wide)
        zero = key.new_zeros(key.shape[0])
        cast = [None if part is None else part.to(wide) for part in (shrinkage, selection)]
        return cls(key, cast[0], cast[1], value, zero, zero + NEW_LIFE)

    def __len__(self) -> int:
        return int(self.key.shape[0])

    @property
    def usage(self) -> Tensor:
        """(N,) affinity received per read."""
        return self.use / self.life

    def take(self, index: Tensor | slice) -> Tokens:
        """Some of the elements, in the order given."""
        shrinkage = None if self.shrinkage is None else self.shrinkage[index]
        selection = None if self.selection is None else self.selection[index]
        return Tokens(self.key[index], shrinkage, selection, self.value[index], self.use[index], self.life[index])

    def join(self, other: Tokens) -> Tokens:
        """These elements followed by the others."""
        return Tokens(
            torch.cat([self.key, other.key]),
            _join(self.shrinkage, other.shrinkage),
            _join(self.selection, other.selection),
            torch.cat([self.value, other.value]),
            torch.cat([self.use, other.use]),
            torch.cat([self.life, other.life]),
        )

    def read(self, query: Tensor, selection: Tensor | None, top_k: int) -> tuple[Tensor, Tokens]:
        """Top-k readout, in chunks of queries so that memory stays bounded.

        Args:
            query: (M, Ck).
            selection: (M, Ck) or None.
            top_k: Elements each query reads.

        Returns:
            (M, O, Cv) and the table with its counters advanced.
        """
        table = self.value.flatten(1)
        step = max(1, CHUNK_ELEMENTS // max(len(self), 1))
        parts = []
        use = self.use
        for start in range(0, query.shape[0], step):
            rows = slice(start, start + step)
            scores = similarity(self.key, self.shrinkage, query[rows], None if selection is None else selection[rows])
            weights, index = top_affinity(scores, top_k)
            parts.append(sparse_readout(table, weights, index))
            use = use.index_add(0, index.flatten(), weights.flatten())
        return torch.cat(parts).unflatten(1, self.value.shape[1:]), replace(self, use=use, life=self.life + 1)

    def prototypes(self, count: int) -> Tokens:
        """Consolidate: the most used elements as keys, values and shrinkage gathered from all by their affinity to
        each.

        Ties go to the element added first. Fewer elements than `count` give fewer prototypes.
        """
        best = self.usage.sort(descending=True, stable=True).indices[:count]
        chosen = self.take(best)
        scores = similarity(self.key, self.shrinkage, chosen.key, chosen.selection)
        value = dense_readout(self.value.flatten(1), scores).unflatten(1, self.value.shape[1:])
        shrinkage = None if self.shrinkage is None else dense_readout(self.shrinkage, scores)
        return Tokens.new(chosen.key, shrinkage, chosen.selection, value)

    def prune(self, limit: int) -> Tokens:
        """Drop the least used elements until `limit` are left, in their order; among equals the oldest goes first."""
        excess = len(self) - limit
        if excess <= 0:
            return self
        kept = self.usage.sort(stable=True).indices[excess:]
        return self.take(kept.sort().values)


def _join(first: Tensor | None, second: Tensor | None) -> Tensor | None:
    return None if first is None or second is None else torch.cat([first, second])
