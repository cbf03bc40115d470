from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest

from limnet.data.clips import Source
from limnet.data.drawing import ClipDrawer
from limnet.errors import InputError


def ball(depth: int = 10, image: bool = True) -> Source:
    z, y, x = np.ogrid[:depth, :40, :40]
    labels = ((z - depth // 2) ** 2 + (y - 20) ** 2 + (x - 18) ** 2 < 100).astype(np.uint8)
    noise = np.random.default_rng(0).integers(-40, 40, labels.shape)
    return Source(labels, (1.0, 1.0, 1.0), (labels * 150 + noise).astype(np.int16) if image else None).with_ids()


def drawer(**options: object) -> ClipDrawer:
    return ClipDrawer([ball()], **{"length": 2, "size": 32, "synthetic": 0.0, **options})  # type: ignore[arg-type]


def test_the_same_seed_draws_the_same_clips() -> None:
    mixed = {"pasted": 0.3, "synthetic": 0.2, "defects": 0.5}
    a, b = (drawer(**mixed) for _ in range(2))
    one, two = (np.random.default_rng(7) for _ in range(2))
    for _ in range(12):
        for first, second in zip(a.draw(one), b.draw(two), strict=True):
            assert np.array_equal(first, second)
            assert first.shape == (2, 32, 32)


def test_defective_start_masks_come_as_often_as_asked_for() -> None:
    rng = np.random.default_rng(0)
    clips = [drawer(defects=0.5).draw(rng) for _ in range(60)]
    started = [start.any() for _, _, start in clips]
    assert 0.25 < np.mean(started) < 0.75
    assert all((start != mask).any() for _, mask, start in clips if start.any())
    assert not any(start.any() for _, _, start in (drawer().draw(rng) for _ in range(20)))


def test_pictures_stand_still() -> None:
    image, mask, _ = ClipDrawer([ball(1)], length=3, size=32, synthetic=0.0).draw(np.random.default_rng(0))
    assert image.shape == (3, 32, 32)
    assert np.array_equal(image[0], image[2])
    assert np.array_equal(mask[0], mask[1])
    moving = ClipDrawer([replace(ball(1), axes=(0,))], length=3, size=32, synthetic=0.0, stills=False)
    with pytest.raises(InputError, match="too few slices"):
        moving.draw(np.random.default_rng(0))


def test_synthetic_volumes_alone() -> None:
    alone = ClipDrawer([], length=1, size=32, synthetic=1.0)
    _, mask, _ = alone.draw(np.random.default_rng(0))
    assert mask.any()


@pytest.mark.parametrize(
    ("sources", "options", "message"),
    [
        ([], {}, "no volumes to draw from"),
        ([ball()], {"paint": 1.5}, "each is a share"),
        ([ball()], {"synthetic": 0.7, "pasted": 0.5}, "each is a share"),
        ([ball(image=False)], {"pasted": 0.1}, "no volume has an image"),
    ],
)
def test_bad_arguments(sources: list[Source], options: dict[str, float], message: str) -> None:
    with pytest.raises(InputError, match=message):
        ClipDrawer(sources, **options)


def test_nothing_that_could_be_drawn() -> None:
    empty = Source(np.zeros((4, 20, 20), np.uint8), (1.0, 1.0, 1.0)).with_ids()
    with pytest.raises(InputError, match="no clip of 2 slices"):
        ClipDrawer([empty], length=2, size=32, synthetic=0.0).draw(np.random.default_rng(0))
