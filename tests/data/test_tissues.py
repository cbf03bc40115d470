from __future__ import annotations

import numpy as np
import pytest

from limnet.data.clips import Source
from limnet.errors import InputError
from tests.helpers.recipes import recipe

SHARDS = recipe("make_shards")
gray_classes, part_of, tissue_source = SHARDS.gray_classes, SHARDS.part_of, SHARDS.tissue_source


def brain(lit: float = 0.0) -> tuple[np.ndarray, np.ndarray, np.ndarray, np.ndarray]:
    """A ball of three shells in a bright skull, in noise and, if `lit`, uneven light; its tissues; ball and skull."""
    z, y, x = np.ogrid[:40, :48, :44]
    distance = np.sqrt((z - 20) ** 2 + (y - 24) ** 2 + (x - 22) ** 2.0)
    tissues = np.select([distance < 7, distance < 13, distance < 17], [1, 3, 2], 0)
    image = np.array([0.0, 100.0, 250.0, 400.0])[tissues] + 390.0 * ((distance > 19) & (distance < 21))
    image = image + np.random.default_rng(0).normal(0, 12, image.shape)
    return image * (1 + lit * (x - 22) / 44), tissues, distance < 17, distance > 19


@pytest.mark.parametrize("lit", [0.0, 0.25])
def test_tissues_of_an_atlas_are_found(lit: float) -> None:
    image, tissues, ball, skull = brain(lit)
    labels = np.where(ball & (tissues != 3), 1 + (np.indices(ball.shape)[1] > 24), 0)
    found = tissue_source(Source(labels, (1.0, 1.0, 1.0), image, name="atlas"))
    assert found.ids == (1, 2, 3)
    assert (found.labels == tissues)[ball].mean() > 0.9
    assert not found.labels[skull].any()


def test_where_labels_are_lesions_the_foreground_is_the_region() -> None:
    image, tissues, ball, _ = brain()
    labels = np.zeros(ball.shape, int)
    labels[18:20, 20:22, 20:22] = 1
    found = tissue_source(Source(labels, (1.0, 1.0, 1.0), np.where(ball, image, 0)))
    assert (found.labels == tissues)[ball].mean() > 0.9


def test_parts_of_a_tissue_are_small_and_of_it() -> None:
    _, tissues, _, _ = brain()
    target = tissues[20] == 3
    parts = [part_of(target, np.random.default_rng(seed)) for seed in range(40)]
    shares = [(part & target).sum() / target.sum() for part in parts]
    assert min(shares) > 0
    assert np.median(shares) < 0.6
    assert all((part & target).sum() > 0.5 * part.sum() for part in parts)
    assert np.array_equal(parts[3], part_of(target, np.random.default_rng(3)))


def test_what_is_refused() -> None:
    image = np.zeros((4, 5, 6), np.float32)
    with pytest.raises(InputError, match="no image"):
        tissue_source(Source(np.ones((4, 5, 6), int), (1.0, 1.0, 1.0), name="a map"))
    with pytest.raises(InputError, match="at least 2"):
        gray_classes(image, image == 0, 1)
    with pytest.raises(InputError, match="some voxels"):
        gray_classes(image, image > 0)
