"""What the page gets of a volume: exact values, and planes that lie as in radiology."""

from __future__ import annotations

import itertools

import nibabel
import numpy as np
import pytest

from limnet.errors import InputError
from limnet.image.volume import Volume
from limnet.server import display
from limnet.server.display import DisplayVolume, is_oriented, planes

SIGNS = list(itertools.product((1, -1), repeat=3))


def shown(volume: Volume) -> np.ndarray:
    """Values as the page computes them."""
    made = DisplayVolume(volume)
    data = b"".join(made.pieces())
    assert len(data) == made.bytes_total
    scale, offset = made.scaling
    return np.frombuffer(data, "<i2").reshape(volume.shape) * scale + offset


@pytest.mark.parametrize("order", list(itertools.permutations(range(3))))
@pytest.mark.parametrize("signs", SIGNS)
def test_planes_agree_with_nibabel(order, signs):
    """Each letter names the side on which nibabel says the index of that axis starts or ends."""
    affine = np.zeros((4, 4))
    affine[3, 3] = 1
    for file_axis, (world, sign) in enumerate(zip(order, signs, strict=True)):
        affine[world, file_axis] = sign * (1.0 + file_axis)
    affine[:3, :3] += 0.05  # a little oblique
    codes = nibabel.aff2axcodes(affine)[::-1]  # array order: the direction in which an index rises
    volume = Volume.from_array(np.zeros((4, 5, 6), np.int16), affine=affine, convention="RAS")
    found = planes(volume)
    assert [p["name"] for p in found] == ["axial", "sagittal", "coronal"]
    assert [p["letters"] for p in found] == [["R", "L", "A", "P"], ["A", "P", "S", "I"], ["R", "L", "S", "I"]]
    for plane in found:
        assert {plane["axis"], plane["across"], plane["down"]} == {0, 1, 2}
        _, right, _, bottom = plane["letters"]
        for axis, flip, end in (
            (plane["across"], plane["flip_across"], right),
            (plane["down"], plane["flip_down"], bottom),
        ):
            assert (codes[axis] == end) != flip
            assert codes[axis] in (end, display._OPPOSITE[end])


@pytest.mark.parametrize(
    "array",
    [
        np.array([[[-1024, 0, 3071]]], np.int16),
        np.array([[[0, 40000, 65535]]], np.uint16),
        np.array([[[0, 255]]], np.uint8),
        np.array([[[-1024.0, 12.0, 3000.0]]], np.float32),
        np.array([[[100000, 100100, 160000]]], np.int32),
    ],
)
def test_whole_numbers_stay_exact(array):
    np.testing.assert_array_equal(shown(Volume.from_array(array)), array)


def test_fractions_stay_within_a_16_bit_step():
    array = np.random.default_rng(0).normal(0, 1, (5, 20, 30))
    found = shown(Volume.from_array(array))
    assert np.abs(found - array).max() <= np.ptp(array) / 65535


def test_outliers_do_not_eat_the_contrast_and_nan_is_darkest():
    array = np.random.default_rng(0).normal(0, 1, (5, 30, 30)).astype(np.float32)
    array[0, 0, :3] = np.nan, 1e9, -1e9
    found = shown(Volume.from_array(array))
    np.testing.assert_allclose(found[1:], array[1:], atol=0.01)
    assert found[0, 0, 0] == found.min()
    assert found[0, 0, 1] == found.max()


def test_strided_and_large_volumes_come_in_pieces(monkeypatch):
    monkeypatch.setattr(display, "_CHUNK", 100)
    array = np.arange(7 * 8 * 9, dtype=np.int16).reshape(9, 8, 7).transpose(2, 1, 0)
    np.testing.assert_array_equal(shown(Volume.from_array(array)), array)


def test_colour_is_three_planes_of_bytes():
    array = np.random.default_rng(0).integers(0, 256, (3, 4, 5, 3), dtype=np.uint8)
    made = DisplayVolume(Volume.from_array(array))
    found = np.frombuffer(b"".join(made.pieces()), np.uint8).reshape(3, 3, 4, 5)
    np.testing.assert_array_equal(np.moveaxis(found, 0, -1), array)
    about = made.describe(0)
    assert (about["color"], about["oriented"]) == (True, False)
    axial = about["planes"][0]
    assert (axial["axis"], axial["across"], axial["down"]) == (0, 2, 1)
    assert (axial["flip_across"], axial["flip_down"]) == (False, False)


def test_orientation_is_told_only_where_the_source_knows_it():
    array = np.zeros((2, 3, 4), np.int16)
    assert not is_oriented(Volume.from_array(array, spacing=(3.0, 1.0, 1.0)))
    assert is_oriented(Volume.from_array(array, affine=np.diag([-1.0, -1.0, 3.0, 1.0])))


def test_too_large_for_a_browser_is_refused(monkeypatch):
    monkeypatch.setattr(display, "MAX_VOXELS", 10)
    with pytest.raises(InputError, match="24 voxels"):
        DisplayVolume(Volume.from_array(np.zeros((2, 3, 4), np.int16)))
