"""A table of memory elements: keys, values and how often each was used."""

from __future__ import annotations

from dataclasses import dataclass, replace

import torch
from torch import Tensor

from limnet.propagation.networks.attention import dense_readout, similarity, sparse_readout, top_affinity

CHUNK_ELEMENTS = 1 << 22
"""Largest similarity matrix held at once, in numbers (16 MiB of float32)."""

NEW_LIFE = 1e-7


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

    def keep_objects(self, index: list[int]) -> Tokens:
        """The same elements with some of the objects only."""
        return replace(self, value=self.value[:, index].contiguous())

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
