from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np
import pytest
import torch
from torch import Tensor

from limnet.errors import InputError
from limnet.propagation.memory import MemoryConfig
from limnet.propagation.networks.xmem import XMem
from limnet.propagation.stream import Stream
from tests.helpers.golden import golden_arrays, golden_weights, max_difference

TOLERANCE = 1e-4


@pytest.fixture(scope="module")
def network() -> XMem:
    network = XMem()
    network.load_state_dict(golden_weights("xmem"))
    return network.eval()


@pytest.fixture(scope="module")
def small() -> XMem:
    torch.manual_seed(0)
    return XMem(8, 16, 8).eval()


def run(
    network: XMem, frames: np.ndarray, config: dict[str, Any], arguments: Callable[[int], dict[str, Any]]
) -> tuple[Stream, list[Tensor], list[list[int]]]:
    memory = MemoryConfig(
        top_k=config["top_k"],
        long_term=config["enable_long_term"],
        min_frames=config["min_mid_term_frames"],
        max_frames=config["max_mid_term_frames"],
        prototypes=config["num_prototypes"],
        max_long_elements=config["max_long_term_elements"],
    )
    stream = Stream(network, config["mem_every"], memory, permanent_prompts=False)
    probabilities, sizes = [], []
    for i, frame in enumerate(frames):
        image = torch.from_numpy(frame).float().permute(2, 0, 1) / 255
        probabilities.append(stream.step(image, **arguments(i)))
        assert stream.bank.tokens is not None
        sizes.append([len(stream.bank.tokens) - stream.bank.long, stream.bank.long])
    return stream, probabilities, sizes


def test_sequence_golden(network: XMem) -> None:
    a, meta = golden_arrays("xmem_sequence")
    mask = torch.from_numpy(a["first_mask"])[None]
    last = len(a["frames"]) - 1
    stream, prob, sizes = run(
        network, a["frames"], meta["config"], lambda i: {"mask": mask if i == 0 else None, "end": i == last}
    )
    assert sizes == a["memory_size"].tolist()
    assert max_difference(torch.stack([p[1] for p in prob]), a["prob"]) < TOLERANCE
    assert max_difference(torch.stack([p[0] for p in prob[::5]]), a["background_every5"]) < TOLERANCE
    assert stream.sensory is not None
    assert max_difference(stream.sensory, a["final_hidden"]) < 2e-4
    assert stream.bank.tokens is not None
    long = stream.bank.tokens.take(slice(0, stream.bank.long))
    expected = torch.from_numpy(a["final_long_key"])[0].T
    nearest = torch.cdist(expected, long.key).argmin(1)
    assert sorted(nearest.tolist()) == list(range(len(expected)))
    assert max_difference(long.key[nearest], expected) < 2e-4
    assert long.shrinkage is not None
    assert max_difference(long.shrinkage[nearest].T[None], a["final_long_shrinkage"]) < 2e-4


def test_two_objects_without_long_term_memory_golden(network: XMem) -> None:
    a, meta = golden_arrays("xmem_sequence_more")
    mask = both(a, 0)
    _, prob, sizes = run(network, a["frames"], meta["two"]["config"], lambda i: {"mask": mask if i == 0 else None})
    assert sizes == a["memory_size"].tolist()
    assert max_difference(torch.stack([p[1:] for p in prob]), a["prob"]) < TOLERANCE


def test_pruned_long_term_memory_golden(network: XMem) -> None:
    a, meta = golden_arrays("xmem_sequence_more")
    base, _ = golden_arrays("xmem_sequence")
    mask = torch.from_numpy(base["first_mask"])[None]
    _, prob, sizes = run(
        network, base["frames"][:9], meta["prune"]["config"], lambda i: {"mask": mask if i == 0 else None}
    )
    assert sizes == a["prune_memory_size"].tolist()
    assert max_difference(torch.stack([p[1, ::2, ::2] for p in prob]), a["prune_prob_every2"]) < TOLERANCE


def both(a: dict[str, np.ndarray], i: int) -> Tensor:
    labels = torch.from_numpy(a["masks"][i])
    return torch.stack([labels == 1, labels == 2])


def image(seed: int, height: int = 40, width: int = 50) -> Tensor:
    return torch.rand(3, height, width, generator=torch.Generator().manual_seed(seed))


def mask_of(objects: int, height: int = 40, width: int = 50) -> Tensor:
    mask = torch.zeros(objects, height, width)
    for i in range(objects):
        mask[i, 5 * i : 5 * i + 5, 10:30] = 1
    return mask


def test_given_features_change_nothing(small: XMem) -> None:
    plain, cached = Stream(small), Stream(small)
    for i in range(3):
        mask = mask_of(2) if i == 0 else None
        with torch.no_grad():
            features = small.encode_image(image(i)[None])
        assert torch.equal(plain.step(image(i), mask), cached.step(image(i), mask, features=features))


def test_probabilities_sum_to_one_and_prompts_come_back(small: XMem) -> None:
    stream = Stream(small, mem_every=2)
    mask = mask_of(3)
    first = stream.step(image(0), mask)
    assert torch.allclose(first[1:], mask, atol=1e-5)
    for i in range(1, 6):
        prob = stream.step(image(i), end=i == 5)
        assert prob.shape == (4, 40, 50)
        assert torch.allclose(prob.sum(0), torch.ones(40, 50), atol=1e-5)


def test_every_prompted_frame_is_permanent_by_default(small: XMem) -> None:
    limits = MemoryConfig(min_frames=2, max_frames=3, prototypes=4)
    keeping, reference = Stream(small, 1, limits), Stream(small, 1, limits, permanent_prompts=False)
    for stream in (keeping, reference):
        for i in range(8):
            stream.step(image(i), mask_of(1) if i in (0, 2, 3) else None)
    kept, passing = (len(s.bank.tokens) - s.bank.long for s in (keeping, reference))  # type: ignore[arg-type]
    assert kept == passing + 2 * 3 * 4


@pytest.mark.parametrize("dtype", [torch.bfloat16, torch.float64])
def test_other_dtypes(dtype: torch.dtype) -> None:
    torch.manual_seed(0)
    network = XMem(8, 16, 8).eval().to(dtype)
    stream = Stream(network, 2, MemoryConfig(min_frames=2, max_frames=3, prototypes=4))
    for i in range(8):
        prob = stream.step(image(i), mask_of(2) if i == 0 else None)
    assert torch.isfinite(prob).all()
    assert prob.dtype in (torch.float32, torch.float64)


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ({"image": image(1)[0]}, "image has shape"),
        ({"image": image(1, 32, 32)}, "new Stream"),
        ({"image": image(1), "mask": mask_of(1)}, "expected .2, 40, 50."),
        ({"image": image(1), "mask": mask_of(2, 32, 32)}, "mask has shape"),
    ],
)
def test_wrong_steps_are_refused_and_change_nothing(small: XMem, arguments: dict[str, Any], message: str) -> None:
    stream, twin = Stream(small), Stream(small)
    for s in (stream, twin):
        s.step(image(0), mask_of(2))
    with pytest.raises(InputError, match=message):
        stream.step(**arguments)
    assert torch.equal(stream.step(image(2)), twin.step(image(2)))


def test_the_first_frame_needs_a_mask(small: XMem) -> None:
    with pytest.raises(InputError, match="first frame"):
        Stream(small).step(image(0))
    ended = Stream(small)
    assert ended.step(image(0), mask_of(1), end=True).shape == (2, 40, 50)
    with pytest.raises(InputError, match="ended"):
        ended.step(image(1), mask_of(1))
    with pytest.raises(InputError, match="mem_every"):
        Stream(small, mem_every=0)
