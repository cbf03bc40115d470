from __future__ import annotations

import math
from dataclasses import replace

import numpy as np
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import Tensor

from limnet.propagation import memory as memory_module
from limnet.propagation.memory import (
    MemoryBank,
    MemoryConfig,
    Tokens,
    attend,
    readout,
    similarity,
    top_affinity,
)
from tests.helpers.golden import golden_arrays, max_difference


def rows(x: np.ndarray | Tensor) -> Tensor:
    """(1, C, ...) -> (N, C)."""
    return torch.as_tensor(x)[0].flatten(1).T


def frame(seed: int, objects: int = 1, size: tuple[int, int] = (2, 3), ck: int = 4, cv: int = 5) -> tuple[Tensor, ...]:
    """Key, shrinkage, selection, value of a made-up frame."""
    rng = torch.Generator().manual_seed(seed)
    key = torch.randn(1, ck, *size, generator=rng)
    shrinkage = 1 + torch.rand(1, 1, *size, generator=rng)
    selection = torch.rand(1, ck, *size, generator=rng)
    return key, shrinkage, selection, torch.randn(1, objects, cv, *size, generator=rng)


def tables(bank: MemoryBank) -> tuple[Tokens, Tokens]:
    """Working and long-term elements."""
    assert bank.tokens is not None
    return bank.tokens.take(slice(bank.long, None)), bank.tokens.take(slice(0, bank.long))


def working(bank: MemoryBank) -> int:
    return len(tables(bank)[0])


def slow_readout(
    key: Tensor, shrinkage: Tensor, value: Tensor, query: Tensor, selection: Tensor, top_k: int
) -> tuple[Tensor, Tensor]:
    """The formula of the paper, element by element, in float64."""
    key, shrinkage, value, query, selection = (x.double() for x in (key, shrinkage, value, query, selection))
    out, use = torch.zeros(len(query), value.shape[1], dtype=torch.float64), torch.zeros(len(key), dtype=torch.float64)
    for j in range(len(query)):
        scores = [
            -float(shrinkage[i]) * float((selection[j] * (key[i] - query[j]) ** 2).sum()) / math.sqrt(key.shape[1])
            for i in range(len(key))
        ]
        best = sorted(range(len(key)), key=lambda i: -scores[i])[:top_k]
        weights = [math.exp(scores[i] - scores[best[0]]) for i in best]
        for i, weight in zip(best, weights, strict=True):
            out[j] += weight / sum(weights) * value[i]
            use[i] += weight / sum(weights)
    return out, use


def test_plain_functions_golden() -> None:
    a, meta = golden_arrays("xmem_memory")
    key, shrinkage = rows(a["memory_key"][:, :, :3]), rows(a["memory_shrinkage"][:, :, :3])
    query, selection = rows(a["query_key"]), rows(a["query_selection"])
    scores = similarity(key, shrinkage, query, selection)
    assert max_difference(scores.T[None, :, ::4], a["similarity_every4"]) < 2e-4
    no_shrinkage = similarity(key, torch.ones_like(shrinkage), query, selection)
    assert max_difference(no_shrinkage.T[None, :, ::8], a["similarity_no_shrinkage_every8"]) < 2e-4

    weights, _ = top_affinity(scores, meta["top_k"])
    assert max_difference(weights.amax(1)[None], a["affinity_top30_max"]) < 2e-5
    assert (weights > 0).sum(1).tolist() == a["affinity_top30_count"][0].tolist()
    table = torch.from_numpy(a["memory_value"][0, :, :, :3]).flatten(2).permute(2, 0, 1)
    fresh = Tokens.new(key, shrinkage, key, table)
    out, after = fresh.read(query, selection, meta["top_k"])
    assert max_difference(out.permute(1, 2, 0).unflatten(2, (12, 16)), a["readout_top30"]) < 2e-5
    assert max_difference(after.use[None], a["usage_one_read"]) < 2e-5
    full = readout(table.flatten(1), scores).T.reshape(a["readout_full_softmax"].shape)
    assert max_difference(full, a["readout_full_softmax"]) < 2e-5


def test_manager_golden() -> None:
    a, meta = golden_arrays("xmem_memory")
    bank = MemoryBank(
        MemoryConfig(
            top_k=meta["top_k"],
            min_frames=meta["min_mid_term_frames"],
            max_frames=meta["max_mid_term_frames"],
            prototypes=meta["num_prototypes"],
        )
    )
    parts = [torch.from_numpy(a[f"memory_{name}"]) for name in ("key", "shrinkage", "selection", "value")]

    def add(i: int) -> None:
        bank.add(parts[0][:, :, i], parts[1][:, :, i], parts[2][:, :, i], parts[3][:, :, :, i])

    def read(i: int) -> Tensor:
        key, selection = (torch.from_numpy(a[f"query_{name}"][i : i + 1]) for name in ("key", "selection"))
        return bank.read(key, selection)[0]

    for i in range(3):
        add(i)
    assert max_difference(read(0), a["manager_read_0"]) < 2e-5
    assert max_difference(read(1), a["manager_read_1"]) < 2e-5
    assert max_difference(tables(bank)[0].usage, a["usage_before"]) < 2e-5
    add(3)
    work, long = tables(bank)
    assert working(bank) == a["work_size_after"]
    every = parts[0][0].flatten(1).T
    assert torch.equal(long.key, every[torch.from_numpy(a["prototype_index"])])
    assert max_difference(long.key.T[None], a["prototype_key"]) < 1e-6
    assert long.shrinkage is not None
    assert max_difference(long.shrinkage.T[None], a["prototype_shrinkage"]) < 2e-5
    assert max_difference(long.value.permute(1, 2, 0), a["prototype_value"]) < 2e-5
    assert max_difference(work.key.sum(1), a["work_key_after_sum"]) < 2e-5
    assert max_difference(read(2), a["manager_read_2"]) < 2e-5
    work, long = tables(bank)
    assert max_difference(long.usage, a["long_usage_after"]) < 2e-5
    assert max_difference(work.usage, a["work_usage_after"]) < 2e-5
    pruned = long.prune(meta["long_term_kept"])
    assert max_difference(pruned.key.T[None], a["long_key_after_pruning"]) < 1e-6
    assert max_difference(pruned.value.permute(1, 2, 0), a["long_value_after_pruning"]) < 2e-5


@settings(max_examples=40, deadline=None)
@given(
    elements=st.integers(1, 40),
    queries=st.integers(1, 12),
    top_k=st.integers(1, 50),
    objects=st.integers(1, 3),
    chunk=st.sampled_from([1, 64, 1 << 20]),
    seed=st.integers(0, 2**31),
)
def test_sparse_chunked_readout_equals_the_formula(
    elements: int, queries: int, top_k: int, objects: int, chunk: int, seed: int
) -> None:
    rng = torch.Generator().manual_seed(seed)
    key, query = torch.randn(elements, 6, generator=rng), torch.randn(queries, 6, generator=rng)
    shrinkage, selection = 1 + torch.rand(elements, 1, generator=rng), torch.rand(queries, 6, generator=rng)
    value = torch.randn(elements, objects, 4, generator=rng)
    expected, use = slow_readout(key, shrinkage, value.flatten(1), query, selection, top_k)
    before = memory_module.CHUNK_ELEMENTS
    memory_module.CHUNK_ELEMENTS = chunk
    try:
        out, after = Tokens.new(key, shrinkage, selection, value).read(query, selection, top_k)
    finally:
        memory_module.CHUNK_ELEMENTS = before
    assert max_difference(out.flatten(1), expected) < 1e-4
    assert max_difference(after.use, use) < 1e-4


def test_very_negative_similarities_give_no_nan() -> None:
    bank = MemoryBank()
    key, shrinkage, selection, value = frame(0)
    bank.add(key, shrinkage * 1e6, selection, value)
    out = bank.read(key + 1e3, selection)
    assert torch.isfinite(out).all()
    assert torch.isfinite(tables(bank)[0].usage).all()


def test_similarity_stays_float32_under_autocast() -> None:
    key, shrinkage, selection, _ = frame(0)
    arguments = (rows(key), rows(shrinkage), rows(key), rows(selection))
    exact = similarity(*arguments)
    with torch.autocast("cpu", dtype=torch.bfloat16):
        inside = similarity(*arguments)
    assert inside.dtype == torch.float32
    assert torch.equal(inside, exact)


def test_bounded_over_a_thousand_frames() -> None:
    config = MemoryConfig(top_k=8, min_frames=2, max_frames=4, prototypes=6, max_long_elements=40, max_permanent=3)
    bank = MemoryBank(config)
    for i in range(1000):
        key, shrinkage, selection, value = frame(i, objects=2)
        bank.add(key, shrinkage, selection, value, permanent=i % 100 == 0)
        bank.read(key, selection)
        assert bank.long <= config.max_long_elements
        assert working(bank) <= 6 * (config.max_permanent + config.max_frames - 1)
    assert bank.long == config.max_long_elements
    held = tables(bank)[0].key
    assert (held[:6] == rows(frame(0)[0])).all(), "the first frame is never given up"


def test_permanent_frames_are_never_compressed() -> None:
    bank = MemoryBank(MemoryConfig(min_frames=2, max_frames=3, prototypes=3))
    for i in range(12):
        key, shrinkage, selection, value = frame(i)
        bank.add(key, shrinkage, selection, value, permanent=i in (4, 7))
        bank.read(key, selection)
    work = tables(bank)[0].key
    for i in (0, 4, 7, 11):
        wanted = rows(frame(i)[0])
        assert any(torch.equal(work[j : j + 6], wanted) for j in range(0, len(work), 6)), i


def test_pruning_with_ties_keeps_exactly_the_limit_and_the_newest() -> None:
    key = torch.arange(10.0)[:, None]
    table = Tokens.new(key, torch.ones(10, 1), key, torch.zeros(10, 1, 2))
    assert table.prune(8).key[:, 0].tolist() == list(range(2, 10))
    assert len(table.prune(10)) == 10
    assert len(table.prune(11)) == 10
    assert len(table.prune(0)) == 0
    used = replace(table, use=torch.tensor([5.0, 0, 0, 1, 0, 9, 0, 0, 0, 0]), life=torch.ones(10))
    assert used.prune(4).key[:, 0].tolist() == [0, 3, 5, 9]


def test_fewer_candidates_than_prototypes() -> None:
    bank = MemoryBank(MemoryConfig(min_frames=2, max_frames=3, prototypes=128))
    for i in range(3):
        bank.add(*frame(i))
    assert bank.long == 6


def test_frames_may_differ_in_size() -> None:
    bank = MemoryBank(MemoryConfig(min_frames=2, max_frames=4, prototypes=4))
    for i in range(8):
        key, shrinkage, selection, value = frame(i, size=(2 + i % 2, 3 + i % 3))
        bank.add(key, shrinkage, selection, value)
        assert bank.read(key, selection).shape[-2:] == key.shape[-2:]


def test_batched_training_readout_equals_the_bank_and_has_gradients() -> None:
    pairs = [[frame(10 * b + t, objects=2) for t in range(3)] for b in range(2)]
    key, shrinkage, value = (
        torch.stack([torch.stack([f[i][0] for f in frames], -3) for frames in pairs]) for i in (0, 1, 3)
    )
    query, _, selection, _ = (torch.cat(x) for x in zip(frame(77), frame(78), strict=True))
    value.requires_grad_()
    key.requires_grad_()
    out = attend(key, shrinkage, value, query, selection)
    for b in range(2):
        bank = MemoryBank(MemoryConfig(top_k=99))
        for f in pairs[b]:
            bank.add(*f)
        assert max_difference(out[b], bank.read(query[b : b + 1], selection[b : b + 1])[0]) < 1e-5
    out.sum().backward()
    assert value.grad is not None
    assert key.grad is not None
