"""Memory of the speed suite: what grows is found, what does not is not."""

from __future__ import annotations

import gc
import math
import mmap
import sys
import tracemalloc
from collections.abc import Iterator

import numpy as np
import pytest
import torch

from benchmarks.timing.holding import held
from benchmarks.timing.memory import growth, memory_now, peak_memory, resident, tensor_bytes
from benchmarks.timing.scene import Scene, scene
from benchmarks.timing.summary import memory_of
from limnet.errors import InputError

LEAK = 50_000  # bytes a slice


class Leaking:
    """Keeps an array and a tensor for every slice, another tensor for good, and lets go of the rest."""

    def stages(self, where: Scene) -> Iterator[str]:
        yield "open"
        constant = torch.zeros(300_000, dtype=torch.uint8)
        kept = [np.ones(LEAK, np.uint8) for _ in where.truth]
        tensors = [torch.ones(2 * LEAK, dtype=torch.uint8) for _ in where.truth]
        np.ones(4_000_000, np.uint8)
        yield "later round"
        assert len(kept) == len(tensors) > 0 < len(constant)


def test_a_planted_leak_is_found():
    rows = []
    for slices in (10, 60):
        gc.collect()
        rows.append({"method": "leaking", "size": 16, "slices": slices, **held(Leaking(), scene(16, slices))})
    assert not tracemalloc.is_tracing()
    found = memory_of([{"kind": "memory", **row} for row in rows])[0]
    late, early = found["stages"]["later round"], found["stages"]["open"]
    assert late["python"]["per_100"] == pytest.approx(100 * LEAK, rel=0.05)
    assert late["tensors"]["per_100"] == 200 * LEAK
    assert late["tensors"]["points"][0] == (10, 300_000 + 20 * LEAK)
    assert late["tensors"]["times"] == pytest.approx((300_000 + 120 * LEAK) / (300_000 + 20 * LEAK))
    assert late["tensors"]["slices"] == 6
    assert early["tensors"]["per_100"] == 0
    assert abs(early["python"]["per_100"]) < 10 * LEAK, "what the interpreter itself takes"
    assert found["image"] == [(10, 5120), (60, 30720)]


@pytest.mark.skipif(sys.platform != "linux", reason="only Linux tells what is resident now")
def test_resident_memory_and_its_peak():
    before = resident()
    block = np.frombuffer(mmap.mmap(-1, 60_000_000), np.uint8)  # from the system: an allocator may hold freed pages
    block[:] = 1
    assert resident() - before > 50_000_000
    del block
    assert resident() - before < 30_000_000
    assert peak_memory() - before > 50_000_000


def test_tensors_are_counted_once():
    start = memory_now()
    whole = torch.zeros(1000, dtype=torch.float32)
    view = whole[10:20]
    assert tensor_bytes() - start.tensors == 4000
    assert memory_now().since(start)["tensors"] == 4000
    del whole
    assert tensor_bytes() - start.tensors == 4000, "the view still holds it"
    del view
    assert tensor_bytes() == start.tensors


def test_growth_of_points():
    bounded = growth([(1000, 900.0), (50, 450.0), (150, 850.0), (50, 470.0), (50, 100.0)])
    assert bounded.first_100 == pytest.approx(400), "the median of one number of slices"
    assert bounded.last_100 == pytest.approx(100 * 50 / 850)
    assert bounded.times == 2
    assert bounded.slices == 20
    assert growth([(10, 5.0), (20, 25.0), (30, 45.0)]).per_100 == pytest.approx(200)
    assert math.isnan(growth([(1, 0.0), (2, 0.0)]).times)
    with pytest.raises(InputError, match=r"at least two numbers of slices; got \[3\]"):
        growth([(3, 1.0), (3, 2.0)])


def test_the_scene_has_its_object_on_every_slice():
    volume, truth = scene(48, 9)
    assert volume.array.dtype == np.int16
    assert truth.shape == volume.array.shape == (9, 48, 48)
    assert truth.any((1, 2)).all()
    assert 0.15 < truth[4].any(0).mean() < 0.3
    assert np.array_equal(truth, truth[::-1])
    inside, outside = volume.array[truth].mean(), volume.array[4, 20, 30:40].mean()
    assert inside == pytest.approx(100, abs=2)
    assert outside < 0
