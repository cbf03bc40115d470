from __future__ import annotations

from pathlib import Path

import numpy as np

from limnet.datasets.static_sets import moved_labels, moved_picture, movement
from tests.helpers.fake_pictures import disc, write_picture


def test_labels_move_with_the_picture(tmp_path: Path):
    inside = disc(20, 26, 11)
    image = write_picture(tmp_path / "a.png", np.where(inside[..., None], 200, 20).repeat(3, -1).astype(np.uint8))
    mask = write_picture(tmp_path / "mask.png", (inside * 255).astype(np.uint8))
    film, labels = moved_picture(image, 6).array, moved_labels(image, mask, 6)
    assert film.shape == (*labels.shape, 3) == (6, 40, 56, 3)
    np.testing.assert_array_equal(film[0, ..., 0] > 110, inside)
    np.testing.assert_array_equal(labels[0], inside)
    assert (labels[5] != labels[0]).any()
    for frame, found in zip(film[..., 0] > 110, labels > 0, strict=True):
        assert (frame & found).sum() / (frame | found).sum() > 0.95
    np.testing.assert_array_equal(moved_picture(image, 6).array, film)
    assert moved_picture(write_picture(tmp_path / "gray.png", (inside * 9).astype(np.uint8)), 3).array.shape == (
        3,
        40,
        56,
    )


def test_pictures_move_apart_and_steadily():
    first, second = movement("a.jpg", 5, (40, 56)), movement("b.jpg", 5, (40, 56))
    np.testing.assert_allclose(first[0], np.eye(3))
    assert not np.allclose(first[4], second[4])
    away = [np.linalg.norm(matrix - np.eye(3)) for matrix in first]
    assert away == sorted(away)
    assert len(movement("a.jpg", 1, (40, 56))) == 1
