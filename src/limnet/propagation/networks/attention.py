"""Similarity between queries and memory elements, top-k affinity and readout.

XMem section 3.2: with memory key k, shrinkage s, query key q and selection e,
S = -s * sum_c e_c (k_c - q_c)^2 / sqrt(Ck). All functions put queries in rows and memory elements in columns.
"""

from __future__ import annotations

import math

import torch
import torch.nn.functional as F
from torch import Tensor


def similarity(key: Tensor, shrinkage: Tensor | None, query: Tensor, selection: Tensor | None) -> Tensor:
    """Anisotropic negative squared distance of every query to every memory element.

    One matrix product of depth 2 Ck + 1, in float32 at least, under autocast too. Without a selection the term that
    depends on the query alone is left out, as in the reference.

    Args:
        key: (..., N, Ck) memory keys.
        shrinkage: (..., N, 1) or None for 1.
        query: (..., M, Ck) query keys.
        selection: (..., M, Ck) or None for 1.

    Returns:
        (..., M, N) similarities.
    """
    wide = torch.promote_types(key.dtype, torch.float32)
    key, query = key.to(wide), query.to(wide)
    memory = [key * key, 2 * key]
    if selection is None:
        asked = [-torch.ones_like(query), query]
    else:
        selection = selection.to(wide)
        weighted = query * selection
        asked = [-selection, weighted, -(weighted * query).sum(-1, keepdim=True)]
        memory.append(torch.ones_like(key[..., :1]))
    weight = 1 / math.sqrt(key.shape[-1]) if shrinkage is None else shrinkage.to(wide) / math.sqrt(key.shape[-1])
    with torch.autocast(key.device.type, enabled=False):
        return torch.cat(asked, -1) @ (torch.cat(memory, -1) * weight).transpose(-1, -2)


def top_affinity(scores: Tensor, top_k: int) -> tuple[Tensor, Tensor]:
    """Softmax over the k most similar elements; the maximum is subtracted, and k is cut to the number of elements.

    Args:
        scores: (..., M, N).
        top_k: Elements each query reads.

    Returns:
        Weights (..., M, k) that sum to 1 and indices (..., M, k) into the N elements.
    """
    best, index = scores.topk(min(top_k, scores.shape[-1]), dim=-1)
    return torch.softmax(best, -1), index


def sparse_readout(value: Tensor, weights: Tensor, index: Tensor) -> Tensor:
    """Weighted sum of k gathered rows per query.

    Args:
        value: (N, D).
        weights: (M, k).
        index: (M, k) row numbers.

    Returns:
        (M, D) in the dtype of `value`.
    """
    return F.embedding_bag(index, value, per_sample_weights=weights.to(value.dtype), mode="sum")


def dense_readout(value: Tensor, scores: Tensor) -> Tensor:
    """Readout with a full softmax: value (..., N, D), scores (..., M, N) -> (..., M, D)."""
    return torch.softmax(scores, -1).to(value.dtype) @ value


def attend(
    key: Tensor,
    shrinkage: Tensor | None,
    value: Tensor,
    query: Tensor,
    selection: Tensor | None,
    top_k: int | None = None,
) -> Tensor:
    """Differentiable readout of a whole batch, for training.

    Args:
        key: (B, Ck, T, h, w) keys of T memory frames.
        shrinkage: (B, 1, T, h, w) or None.
        value: (B, O, Cv, T, h, w).
        query: (B, Ck, h, w).
        selection: (B, Ck, h, w) or None.
        top_k: Elements each query reads; None reads all (as the reference trains).

    Returns:
        (B, O, Cv, h, w).
    """
    batch, objects, channels = value.shape[:3]
    height, width = query.shape[-2:]
    scores = similarity(
        _rows(key),
        None if shrinkage is None else _rows(shrinkage),
        _rows(query),
        None if selection is None else _rows(selection),
    )
    table = value.reshape(batch, objects * channels, -1).transpose(1, 2)
    if top_k is None:
        out = dense_readout(table, scores)
    else:
        weights, index = top_affinity(scores, top_k)
        out = torch.stack([sparse_readout(*parts) for parts in zip(table, weights, index, strict=True)])
    return out.transpose(1, 2).reshape(batch, objects, channels, height, width)


def _rows(x: Tensor) -> Tensor:
    return x.flatten(2).transpose(1, 2)
