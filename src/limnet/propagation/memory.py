"""The memory of propagation: what a query reads of it, and which frames and prototypes stay in it.

Readout is that of XMem, section 3.2: with memory key k, shrinkage s, query key q and selection e,
S = -s * sum_c e_c (k_c - q_c)^2 / sqrt(Ck). Queries are rows, memory elements columns. The bank is that of section 3.3
with two differences: any number of frames may be permanent (every prompted slice), and pruning keeps exactly as many
elements as allowed. Networks without shrinkage or selection give ones. Sensory memory is a tensor kept by the caller.
"""

from __future__ import annotations

import math
from dataclasses import dataclass, replace

import torch
import torch.nn.functional as F
from torch import Tensor

CHUNK_ELEMENTS = 1 << 22
"""Largest similarity matrix held at once, in numbers (16 MiB of float32)."""

_NEW_LIFE = 1e-7  # XMem's, so that the usage of an element nobody has read is 0 and not NaN


def rows(x: Tensor) -> Tensor:
    """(B, C, ...) to (B, N, C): places become rows."""
    return x.flatten(2).transpose(1, 2)


def similarity(key: Tensor, shrinkage: Tensor, query: Tensor, selection: Tensor) -> Tensor:
    """Anisotropic negative squared distance (..., M, N) of every query to every memory element.

    Keys (..., N, Ck) with shrinkage (..., N, 1), queries (..., M, Ck) with selection (..., M, Ck). One matrix product
    of depth 2 Ck + 1, in float32 at least, under autocast too.
    """
    wide = torch.promote_types(key.dtype, torch.float32)
    key, shrinkage, query, selection = (x.to(wide) for x in (key, shrinkage, query, selection))
    weighted = query * selection
    asked = torch.cat([-selection, weighted, -(weighted * query).sum(-1, keepdim=True)], -1)
    memory = torch.cat([key * key, 2 * key, torch.ones_like(key[..., :1])], -1)
    with torch.autocast(key.device.type, enabled=False):
        return asked @ (memory * (shrinkage / math.sqrt(key.shape[-1]))).transpose(-1, -2)


def top_affinity(scores: Tensor, top_k: int) -> tuple[Tensor, Tensor]:
    """Softmax over the k most similar elements, all if there are fewer; the maximum is subtracted.

    Scores (..., M, N) -> weights (..., M, k) that sum to 1 and indices (..., M, k) into the N elements.
    """
    best, index = scores.topk(min(top_k, scores.shape[-1]), dim=-1)
    return torch.softmax(best, -1), index


def sparse_readout(value: Tensor, weights: Tensor, index: Tensor) -> Tensor:
    """Weighted sum of k gathered rows per query: value (N, D), weights and index (M, k) -> (M, D)."""
    return F.embedding_bag(index, value, per_sample_weights=weights.to(value.dtype), mode="sum")


def readout(value: Tensor, scores: Tensor, top_k: int | None = None) -> Tensor:
    """Values (B, N, D) under the softmax of scores (B, M, N), of all or of the k best elements -> (B, M, D)."""
    if top_k is None:
        return torch.softmax(scores, -1).to(value.dtype) @ value
    return torch.stack([sparse_readout(v, *top_affinity(s, top_k)) for v, s in zip(value, scores, strict=True)])


def attend(key: Tensor, shrinkage: Tensor, value: Tensor, query: Tensor, selection: Tensor) -> Tensor:
    """Differentiable readout (B, O, Cv, h, w) of a whole batch, for training: each query reads all elements.

    Keys (B, Ck, T, h, w) of T memory frames with shrinkage (B, 1, T, h, w) and values (B, O, Cv, T, h, w); query and
    selection (B, Ck, h, w).
    """
    scores = similarity(rows(key), rows(shrinkage), rows(query), rows(selection))
    out = readout(value.flatten(1, 2).flatten(2).transpose(1, 2), scores)
    return out.transpose(1, 2).reshape(*value.shape[:3], *query.shape[-2:])


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


class MemoryBank:
    """Key-value memory of one sequence (batch of one): long-term elements first, then the frames in order.

    Works for every network that gives keys and values of fixed sizes Ck and Cv. Frames may differ in h and w.

    Attributes:
        tokens: All elements; None before the first frame.
        long: Number of long-term elements among them.
    """

    def __init__(self, config: MemoryConfig | None = None) -> None:
        self.config = config or MemoryConfig()
        self.tokens: Tokens | None = None
        self.long = 0
        self._frames: list[tuple[int, bool]] = []  # elements of each frame, and whether it is permanent

    def add(self, key: Tensor, shrinkage: Tensor, selection: Tensor, value: Tensor, permanent: bool = False) -> None:
        """Insert a frame; the first one, and others that are `permanent` (prompted slices), are never compressed.

        Key and selection (1, Ck, h, w), shrinkage (1, 1, h, w), value (1, O, Cv, h, w), as those of the frames before.
        """
        own = [rows(part)[0].contiguous() for part in (key, shrinkage, selection)]
        fresh = Tokens.new(own[0], own[1], own[2], value[0].flatten(2).permute(2, 0, 1).contiguous())
        self.tokens = fresh if self.tokens is None else self.tokens.join(fresh)
        self._frames.append((len(fresh), permanent or not self._frames))
        steady = [i for i, (_, kept) in enumerate(self._frames) if kept]
        if len(steady) > max(self.config.max_permanent, 1):
            self._frames[steady[1]] = (self._frames[steady[1]][0], False)
        if self.config.long_term:
            self._consolidate(self.tokens)

    def read(self, key: Tensor, selection: Tensor) -> Tensor:
        """Ask the memory with key and selection (1, Ck, h, w) of a frame; advances the usage counters.

        (1, O, Cv, h, w) in the dtype of the values.
        """
        assert self.tokens is not None  # a pass begins with a prompted slice
        out, self.tokens = self.tokens.read(
            rows(key)[0].contiguous(), rows(selection)[0].contiguous(), self.config.top_k
        )
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


@dataclass(frozen=True)
class Tokens:
    """N memory elements; never changed in place, so that copies may share it.

    Attributes:
        key: (N, Ck) float32.
        shrinkage: (N, 1) float32.
        selection: (N, Ck) float32; used by consolidation only.
        value: (N, O, Cv).
        use: (N,) sum of the affinities received.
        life: (N,) reads since the element was added (plus 1e-7).
    """

    key: Tensor
    shrinkage: Tensor
    selection: Tensor
    value: Tensor
    use: Tensor
    life: Tensor

    @classmethod
    def new(cls, key: Tensor, shrinkage: Tensor, selection: Tensor, value: Tensor) -> Tokens:
        """Elements that nobody has read yet."""
        wide = torch.promote_types(key.dtype, torch.float32)
        zero = torch.zeros(len(key), dtype=wide, device=key.device)
        return cls(key.to(wide), shrinkage.to(wide), selection.to(wide), value, zero, zero + _NEW_LIFE)

    def __len__(self) -> int:
        return len(self.key)

    @property
    def usage(self) -> Tensor:
        """(N,) affinity received per read."""
        return self.use / self.life

    def take(self, index: Tensor | slice) -> Tokens:
        """Some of the elements, in the order given."""
        return Tokens(*(part[index] for part in vars(self).values()))

    def join(self, other: Tokens) -> Tokens:
        """These elements followed by the others."""
        return Tokens(*map(torch.cat, zip(vars(self).values(), vars(other).values(), strict=True)))

    def read(self, query: Tensor, selection: Tensor, top_k: int) -> tuple[Tensor, Tokens]:
        """Top-k readout (M, O, Cv) for query and selection (M, Ck), and the table with its counters advanced.

        In chunks of queries, so that memory stays bounded.
        """
        table, parts, use = self.value.flatten(1), [], self.use
        step = max(1, CHUNK_ELEMENTS // max(len(self), 1))
        for asked, selected in zip(query.split(step), selection.split(step), strict=True):
            weights, index = top_affinity(similarity(self.key, self.shrinkage, asked, selected), top_k)
            parts.append(sparse_readout(table, weights, index))
            use = use.index_add(0, index.flatten(), weights.flatten())
        return torch.cat(parts).unflatten(1, self.value.shape[1:]), replace(self, use=use, life=self.life + 1)

    def prototypes(self, count: int) -> Tokens:
        """Consolidate: the most used elements as keys; values and shrinkage of all, by their affinity to each.

        Ties go to the element added first. Fewer elements than `count` give fewer prototypes.
        """
        chosen = self.take(self.usage.sort(descending=True, stable=True).indices[:count])
        scores = similarity(self.key, self.shrinkage, chosen.key, chosen.selection)
        value = readout(self.value.flatten(1), scores).unflatten(1, self.value.shape[1:])
        return Tokens.new(chosen.key, readout(self.shrinkage, scores), chosen.selection, value)

    def prune(self, limit: int) -> Tokens:
        """Drop the least used elements until `limit` are left, in their order; among equals the oldest goes first."""
        excess = len(self) - limit
        if excess <= 0:
            return self
        kept = self.usage.sort(stable=True).indices[excess:]
        return self.take(kept.sort().values)
