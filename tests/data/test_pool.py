from __future__ import annotations

from collections.abc import Iterator

import numpy as np
import pytest
import torch

from limnet.data.pool import ClipPool, DrawnBlocks
from limnet.errors import InputError


class Counter:
    """Draws clips whose pixels, masks and start masks are the number of the clip."""

    def __init__(self, fails_at: int = 10**9):
        self.number, self.fails_at = 0, fails_at

    def draw(self, rng: np.random.Generator) -> tuple[np.ndarray, ...]:
        self.number += 1
        if self.number > self.fails_at:
            raise InputError("nothing left to draw")
        return tuple(np.full((1, 2, 2), self.number % 251, np.uint8) for _ in range(3))


def pool(fails_at: int = 10**9, **options: int) -> ClipPool:
    settings = {"batch_size": 4, "capacity": 20, "first": 8, "workers": 1, **options}
    return ClipPool(DrawnBlocks(Counter(fails_at), block=5), **settings)  # type: ignore[arg-type]


def some(made: ClipPool, count: int) -> list[tuple[torch.Tensor, ...]]:
    batches: Iterator[tuple[torch.Tensor, ...]] = iter(made)
    found = [next(batches) for _ in range(count)]
    batches.close()  # type: ignore[attr-defined]
    return found


def test_batches_hold_whole_clips_of_those_drawn() -> None:
    made = pool()
    for image, mask, start in some(made, 30):
        assert image.shape == (4, 1, 2, 2)
        assert torch.equal(image, mask)  # never half of one clip and half of another
        assert torch.equal(image, start)
        assert bool((image > 0).all())
        assert len({int(i) for i in image[:, 0, 0, 0]} & {0}) == 0
    assert made.drawn >= made.first


def test_newer_clips_take_the_places_of_older_ones() -> None:
    made = pool(capacity=7, first=7)
    some(made, 1)
    while made.drawn < 40:
        made._take(tuple(torch.full((5, 1, 2, 2), made.drawn, dtype=torch.uint8) for _ in range(3)))
    kept = sorted(int(v) for v in made._kept[0][:, 0, 0, 0])
    assert kept[0] >= made.drawn - 10
    assert len(kept) == 7


def test_a_failing_drawer_ends_the_training_with_its_message() -> None:
    with pytest.raises(InputError, match="nothing left to draw"):
        some(pool(fails_at=12, first=15), 1)


@pytest.mark.parametrize("wrong", [{"batch_size": 0}, {"workers": 0}, {"capacity": 3}, {"first": 21}])
def test_sizes_that_cannot_be(wrong: dict[str, int]) -> None:
    with pytest.raises(InputError, match="give at least 1"):
        pool(**wrong)
