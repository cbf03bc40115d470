from __future__ import annotations

import re
from collections.abc import Callable

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from limnet.errors import InputError, InputTypeError
from limnet.image.volume import Volume, checked_labels


def test_from_array_keeps_the_array_and_its_dtype() -> None:
    array = np.arange(24, dtype=np.int16).reshape(2, 3, 4)
    volume = Volume.from_array(array, spacing=(5, 0.5, 0.25))
    assert np.shares_memory(volume.array, array)
    assert array.flags.writeable
    assert not volume.array.flags.writeable
    assert volume.array.dtype == np.int16
    assert volume.spacing == (5.0, 0.5, 0.25)
    assert volume.shape == (2, 3, 4)
    assert volume.convention == "LPS"
    np.testing.assert_array_equal(volume.affine, np.diag([0.25, 0.5, 5, 1]))
    assert "array" not in repr(volume).split("(", 1)[1].split("=")[0]


@pytest.mark.parametrize(
    ("values", "doubt"),
    [
        (lambda rng, at: rng.normal(100, 8, at.shape).astype(np.int16), None),
        (lambda rng, at: (at // 100 % 30).astype(np.float32), "only 30 different values"),
        (lambda rng, at: at % 2 * np.uint8(255), "only 2 different values"),
        (lambda rng, at: at % 30 / 29, None),
        (lambda rng, at: (at % 40).astype(np.uint8), None),
        (lambda rng, at: (at % 30).astype(np.uint8)[:3], None),  # too small to say
        (lambda rng, at: np.full(at.shape, -1024, np.int16), r"same value everywhere \(-1024\)"),
        (lambda rng, at: np.full(at.shape, np.nan), "no finite value"),
        (lambda rng, at: np.where(at < 40, at, 0), None),  # nearly empty
        (lambda rng, at: np.where(at == 7, 2000, 0), "only 2 different values"),
    ],
)
def test_what_looks_like_no_image_is_doubted(values: Callable[..., np.ndarray], doubt: str | None) -> None:
    array = values(np.random.default_rng(0), np.arange(8 * 32 * 40).reshape(8, 32, 40))
    found = Volume.from_array(array).intensity.doubt
    assert found is None if doubt is None else found is not None and re.search(doubt, found)


def test_color_and_foreign_byte_order() -> None:
    video = Volume.from_array(np.zeros((5, 6, 7, 3), np.uint8))
    assert video.is_color
    assert video.modality == "RGB"
    assert video.shape == (5, 6, 7)
    swapped = Volume.from_array(np.arange(8, dtype=">i2").reshape(2, 2, 2))
    assert swapped.array.dtype.isnative
    assert swapped.array.max() == 7


def test_nan_is_allowed() -> None:
    array = np.full((2, 3, 4), np.nan, np.float32)
    assert np.isnan(Volume.from_array(array).array).all()


@pytest.mark.parametrize(
    ("array", "error", "text"),
    [
        (np.zeros((4, 5)), InputError, r"2-D array \(4, 5\).*array\[None\]"),
        (np.zeros((1, 2, 3, 4, 5)), InputError, "5-D array"),
        (np.zeros((2, 3, 4, 4)), InputError, "4-D array"),
        (np.zeros(3), InputError, "1-D array"),
        (np.zeros((0, 3, 3)), InputError, "without voxels"),
        (np.zeros((2, 2, 2), object), InputTypeError, "dtype object"),
        (np.zeros((2, 2, 2), bool), InputTypeError, "mask"),
        (np.zeros((2, 2, 2), complex), InputTypeError, "complex128"),
        ("volume", InputTypeError, "dtype"),
        (None, InputTypeError, "NoneType"),
        ([[[1], [2, 3]]], InputTypeError, "no numeric array"),
    ],
)
def test_bad_arrays(array: object, error: type[Exception], text: str) -> None:
    with pytest.raises(error, match=text):
        Volume.from_array(array)  # type: ignore[arg-type]


@pytest.mark.parametrize(
    "spacing",
    [(1, 1), (1, 1, 1, 1), (0, 1, 1), (1, -1, 1), (1, 1, float("nan")), (1, 1, float("inf")), 1.0, ("a", 1, 1), "abc"],
)
def test_bad_spacing(spacing: object) -> None:
    with pytest.raises(InputError, match="three positive numbers"):
        Volume.from_array(np.zeros((2, 2, 2)), spacing=spacing)  # type: ignore[arg-type]


@pytest.mark.parametrize(
    "affine", [np.eye(3), np.zeros((4, 4)), np.diag([1, 1, 0, 1]), np.full((4, 4), np.nan), "x", np.diag([1, 1, 1, 2])]
)
def test_bad_affine(affine: object) -> None:
    with pytest.raises(InputError, match="matrix"):
        Volume.from_array(np.zeros((2, 2, 2)), affine=affine)  # type: ignore[arg-type]


def test_affine_gives_the_spacing_and_must_agree() -> None:
    affine = np.diag([-2.0, 3.0, 4.0, 1.0])
    assert Volume.from_array(np.zeros((2, 2, 2)), affine=affine).spacing == (4.0, 3.0, 2.0)
    with pytest.raises(InputError, match="disagree"):
        Volume.from_array(np.zeros((2, 2, 2)), spacing=(2, 3, 4), affine=affine)
    with pytest.raises(InputError, match="convention"):
        Volume.from_array(np.zeros((2, 2, 2)), affine=affine, convention="XYZ")  # type: ignore[arg-type]


def _rotation(angles: tuple[float, float, float]) -> np.ndarray:
    matrix = np.eye(3)
    for axis, angle in enumerate(angles):
        turn = np.eye(3)
        a, b = [i for i in range(3) if i != axis]
        turn[a, a] = turn[b, b] = np.cos(angle)
        turn[a, b], turn[b, a] = -np.sin(angle), np.sin(angle)
        matrix = matrix @ turn
    return matrix


@settings(max_examples=60, deadline=None)
@given(
    angles=st.tuples(*[st.floats(-3.2, 3.2)] * 3),
    steps=st.tuples(*[st.floats(0.1, 10)] * 3),
    flips=st.tuples(*[st.sampled_from([-1.0, 1.0])] * 3),
    order=st.permutations(range(3)),
    origin=st.tuples(*[st.floats(-500, 500)] * 3),
    point=st.tuples(*[st.floats(-50, 600)] * 3),
)
def test_world_and_index_are_inverse(
    angles: tuple[float, float, float],
    steps: tuple[float, float, float],
    flips: tuple[float, float, float],
    order: list[int],
    origin: tuple[float, float, float],
    point: tuple[float, float, float],
) -> None:
    affine = np.eye(4)
    affine[:3, :3] = (_rotation(angles) @ np.diag(flips))[:, order] * steps
    affine[:3, 3] = origin
    volume = Volume.from_array(np.zeros((2, 3, 4), np.uint8), affine=affine, convention="RAS")
    np.testing.assert_allclose(volume.spacing, steps[::-1], rtol=1e-9)
    world = volume.to_world(point)
    np.testing.assert_allclose(world, (affine @ [*point[::-1], 1.0])[:3], atol=1e-9)
    np.testing.assert_allclose(volume.to_index(world), point, atol=1e-6)
    np.testing.assert_allclose(volume.affine_in("LPS")[:2], -affine[:2])
    np.testing.assert_array_equal(volume.affine_in("RAS"), affine)


def test_world_takes_many_points() -> None:
    volume = Volume.from_array(np.zeros((2, 3, 4), np.uint8), spacing=(3, 2, 1))
    points = np.arange(30).reshape(2, 5, 3)
    assert volume.to_world(points).shape == (2, 5, 3)
    np.testing.assert_allclose(volume.to_index(volume.to_world(points)), points)
    np.testing.assert_allclose(volume.to_world((1, 2, 3)), (3, 4, 3))


@pytest.mark.parametrize("point", [(1, 2), 5, (1, 2, float("nan")), "abc", (1, 2, 3, 4)])
def test_bad_points(point: object) -> None:
    volume = Volume.from_array(np.zeros((2, 3, 4), np.uint8))
    for method in (volume.to_world, volume.to_index):
        with pytest.raises(InputError, match="expected"):
            method(point)  # type: ignore[arg-type]


def test_labels() -> None:
    shape = (2, 2, 2)
    assert checked_labels(np.ones(shape, bool), shape).dtype == np.uint8
    assert checked_labels(np.full(shape, 255), shape).dtype == np.uint8
    assert checked_labels(np.full(shape, 256), shape).dtype == np.uint16
    assert checked_labels(np.ones(shape, np.uint16), shape).dtype == np.uint16
    with pytest.raises(InputError, match=r"shape \(2, 2\)"):
        checked_labels(np.ones((2, 2), bool), shape)
    with pytest.raises(InputTypeError, match="float64"):
        checked_labels(np.ones(shape), shape)
    for bad in (-1, 70000):
        with pytest.raises(InputError, match=r"0\.\.65535"):
            checked_labels(np.full(shape, bad), shape)
