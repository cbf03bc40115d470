from __future__ import annotations

import time

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from limnet.errors import InputError, OutsideError
from limnet.image.slice_view import SliceView
from limnet.image.volume import BONE, LUNG, SOFT_TISSUE, Volume


def _ct() -> np.ndarray:
    rng = np.random.default_rng(0)
    array = np.full((6, 40, 60), -1000.0)
    array[:, 5:35, 5:55] = 40
    array[:, 10:30, 10:25] = -800
    array[:, 10:30, 40:52] = 700
    return (array + rng.normal(0, 10, array.shape)).round().astype(np.int16)


@pytest.mark.parametrize("axis", [0, 1, 2])
def test_view_is_a_transposed_volume(axis: int) -> None:
    array = np.random.default_rng(1).integers(0, 1000, (4, 5, 6)).astype(np.int16)
    volume = Volume.from_array(array, spacing=(3, 2, 1))
    view = SliceView(volume, axis)
    assert len(view) == array.shape[axis]
    assert view.shape == tuple(n for a, n in enumerate(array.shape) if a != axis)
    assert view.gap == volume.spacing[axis]
    assert view.spacing == tuple(s for a, s in enumerate(volume.spacing) if a != axis)
    assert np.shares_memory(view.to_view(array), array)
    for i in range(len(view)):
        np.testing.assert_array_equal(view.raw(i), array.take(i, axis))
        assert view.raw(i).dtype == np.float32
        assert view.image(i).shape == (1, *view.shape)
        assert view.image(i).flags.c_contiguous


@settings(max_examples=50, deadline=None)
@given(axis=st.integers(0, 2), shape=st.tuples(*[st.integers(1, 6)] * 3), data=st.data())
def test_orders_are_inverse(axis: int, shape: tuple[int, int, int], data: st.DataObject) -> None:
    array = np.arange(np.prod(shape)).reshape(shape)
    view = SliceView(Volume.from_array(array), axis)
    assert view.to_view(array).shape == (len(view), *view.shape)
    point = data.draw(st.tuples(*[st.integers(0, n - 1) for n in shape]))
    i, y, x = view.points_to_view(point)
    assert view.to_view(array)[i, y, x] == array[point]
    np.testing.assert_array_equal(view.points_from_view((i, y, x)), point)
    many = np.array([point, point])
    np.testing.assert_array_equal(view.points_from_view(view.points_to_view(many)), many)


def test_window_scales_and_clips() -> None:
    array = np.array([[[-1000, -160, 40, 240, 3000]]], np.int16)
    view = SliceView(Volume.from_array(array, modality="ct"))
    assert view.window == SOFT_TISSUE
    np.testing.assert_allclose(view.image(0)[0, 0], [0, 0, 0.5, 1, 1])
    wide = view.with_window((-1000, 3000))
    assert wide.window == (-1000.0, 3000.0)
    np.testing.assert_allclose(wide.image(0)[0, 0], (array[0, 0] + 1000) / 4000)
    assert view.window == SOFT_TISSUE
    assert wide.with_window(None).window == SOFT_TISSUE


@pytest.mark.parametrize(
    "window", [(1, 1), (2, 1), (0, float("nan")), (float("-inf"), 0), (1,), (1, 2, 3), 5, ("a", "b"), "12"]
)
def test_bad_window(window: object) -> None:
    with pytest.raises(InputError, match="lo < hi"):
        SliceView(Volume.from_array(np.zeros((2, 2, 2))), 0, window)  # type: ignore[arg-type]


@pytest.mark.parametrize("axis", [3, -1, None, "z", True])
def test_bad_axis(axis: object) -> None:
    with pytest.raises(InputError, match="axis"):
        SliceView(Volume.from_array(np.zeros((2, 2, 2))), axis)  # type: ignore[arg-type]


def test_bad_slice_and_point() -> None:
    view = SliceView(Volume.from_array(_ct()))
    for index in (-1, 6):
        with pytest.raises(OutsideError, match=r"0\.\.5"):
            view.image(index)
    with pytest.raises(InputError, match="whole number"):
        view.raw(1.5)  # type: ignore[arg-type]
    for point in ((-1, 0), (40, 0), (0, 60)):
        with pytest.raises(OutsideError, match="outside the slice"):
            view.auto_window(0, point)
    with pytest.raises(InputError, match="two finite numbers"):
        view.auto_window(0, (1, 2, 3))
    with pytest.raises(InputError, match="three axes"):
        view.to_view(np.zeros((2, 2)))
    with pytest.raises(InputError, match="three numbers"):
        view.points_to_view((1, 2))


@pytest.mark.parametrize("dtype", [np.int16, np.int32, np.float32, np.float64])
def test_ct_is_recognised_and_the_click_chooses_the_window(dtype: type) -> None:
    view = SliceView(Volume.from_array(_ct().astype(dtype)))
    assert view.volume.intensity.is_ct
    assert view.window == SOFT_TISSUE
    assert view.auto_window(2) == SOFT_TISSUE
    assert view.auto_window(2, (20, 17)) == LUNG
    assert view.auto_window(2, (20, 46)) == BONE
    assert view.auto_window(2, (20, 32)) == SOFT_TISSUE


def test_neighbourhood_is_in_millimetres() -> None:
    array = np.full((1, 65, 65), -800, np.int16)
    array[0, 26:39, 26:39] = 0  # 13 pixels
    fine = SliceView(Volume.from_array(array, (1, 1, 1), modality="CT"))
    coarse = SliceView(Volume.from_array(array, (1, 0.4, 0.4), modality="CT"))
    small = SliceView(Volume.from_array(array, (1, 3, 3), modality="CT"))
    assert fine.auto_window(0, (32, 32)) == SOFT_TISSUE
    assert coarse.auto_window(0, (32, 32)) == LUNG
    assert small.auto_window(0, (32, 32)) == SOFT_TISSUE


def test_resampled_ct_and_lung_crop() -> None:
    assert Volume.from_array(_ct() + 0.25).intensity.is_ct
    crop = np.random.default_rng(0).normal(-850, 30, (4, 20, 20)).round().astype(np.int16)
    assert SliceView(Volume.from_array(crop)).window == LUNG


def test_what_is_not_ct() -> None:
    rng = np.random.default_rng(0)
    phase = rng.integers(-4096, 4096, (4, 20, 20)).astype(np.int16)
    phase[0, 0, :2] = -4096, 4095
    assert not Volume.from_array(phase).intensity.is_ct
    assert not Volume.from_array(_ct(), modality="MR").intensity.is_ct
    assert Volume.from_array(_ct(), modality="CTA").intensity.is_ct
    assert not Volume.from_array(rng.normal(0, 300, (4, 20, 20))).intensity.is_ct
    assert not Volume.from_array(rng.integers(0, 900, (4, 20, 20))).intensity.is_ct


def _signed_images() -> dict[str, np.ndarray]:
    """Images that reach as low as CT and are none."""
    rng = np.random.default_rng(3)
    shape = (8, 48, 48)
    _, y, x = np.mgrid[:8, :48, :48]
    inside = (y - 24) ** 2 + (x - 24) ** 2 < 400
    membrane = rng.random(shape) < 0.2
    flow = np.where(inside, 700 * np.sin(x / 9) * np.cos(y / 7), 0) + rng.normal(0, 15, shape)
    tissue = np.where(inside, rng.normal(-150, 120, shape), rng.normal(-600, 60, shape) * (x > 40))
    return {
        "phase contrast": rng.integers(-4096, 4096, shape),
        "phase contrast, noise left out": np.where(inside, rng.integers(-900, 900, shape), 0),
        "flow": flow,
        "field map in Hz": 12 * (x - 24) + 20 * (y - 24) + rng.normal(0, 5, shape),
        "field map off its centre": rng.normal(-250, 180, shape),
        "EM of 16 bits": rng.normal(-9000, 5000, shape),
        "EM about zero": rng.normal(-40, 300, shape),
        "EM with dark membranes": np.where(membrane, rng.normal(-700, 200, shape), rng.normal(-250, 150, shape)),
        "difference of images": rng.laplace(0, 150, shape),
        "a scaled gradient": tissue * 3,
    }


@pytest.mark.parametrize("name", _signed_images())
def test_signed_images_that_are_no_ct(name: str) -> None:
    array = _signed_images()[name].round().astype(np.int16)
    assert array.min() < -500
    volume = Volume.from_array(array)
    assert not volume.intensity.is_ct
    low, high = volume.intensity.default_window
    shown = np.clip((array[array != 0] - low) / (high - low), 0, 1)
    assert 0.1 < np.median(shown) < 0.9, "neither black nor white"
    assert Volume.from_array(array, modality="CT").intensity.is_ct


@pytest.mark.parametrize("floor", [-1024, -2000, -3024, -4096, -8192])
def test_ct_with_padding_outside_the_circle(floor: int) -> None:
    array = _ct()
    array[:, :4, :4] = floor
    assert Volume.from_array(array).intensity.is_ct


def test_mr_percentiles_leave_the_background_out() -> None:
    rng = np.random.default_rng(0)
    array = np.zeros((10, 50, 50), np.float32)
    array[2:8, 10:40, 10:40] = rng.uniform(100, 500, (6, 30, 30))
    array[5, 5, 5] = 1e6
    low, high = SliceView(Volume.from_array(array)).window
    assert 95 < low < 120
    assert 480 < high < 505
    shifted = np.where(array == 0, -7, array)
    assert SliceView(Volume.from_array(shifted)).window[0] > 90
    view = SliceView(Volume.from_array(array))
    assert view.auto_window(0, (3, 3)) == view.window


def test_nan_and_infinity() -> None:
    array = np.random.default_rng(0).uniform(10, 20, (2, 20, 20)).astype(np.float32)
    array[0, 0, :3] = np.nan, np.inf, -np.inf
    view = SliceView(Volume.from_array(array))
    assert 9 < view.window[0] < view.window[1] < 21
    image = view.image(0)
    np.testing.assert_array_equal(image[0, 0, :3], [0, 1, 0])
    assert np.isfinite(image).all()


@pytest.mark.parametrize("value", [np.nan, np.inf, 0.0, -1000.0, 5.0, 1e30, -1e30, 1e-30])
@pytest.mark.parametrize("modality", [None, "CT"])
def test_constant_volume_is_black(value: float, modality: str | None) -> None:
    view = SliceView(Volume.from_array(np.full((2, 3, 4), value), modality=modality))
    assert view.window[0] < view.window[1]
    assert not np.isfinite(value) or not view.image(1).any()
    assert np.isfinite(view.image(0)).all()


@pytest.mark.parametrize("dtype", [np.int8, np.uint8, np.uint16, np.int32, np.int64, np.uint64, np.float16, np.float64])
def test_all_dtypes_stay_in_range(dtype: type) -> None:
    rng = np.random.default_rng(0)
    view = SliceView(Volume.from_array(rng.integers(0, 100, (3, 20, 20)).astype(dtype)))
    image = view.image(1)
    assert image.dtype == np.float32
    assert image.min() == 0
    assert image.max() == 1


def test_large_integers_keep_their_contrast() -> None:
    array = (np.arange(400).reshape(1, 20, 20) + 2**30).astype(np.int32)
    assert len(np.unique(SliceView(Volume.from_array(array)).image(0))) > 350


def test_sparse_volume_is_not_flat() -> None:
    array = np.zeros((200, 200, 200), np.uint8)
    array[101, 101, 101] = 9
    assert SliceView(Volume.from_array(array)).image(101).max() == 1


@pytest.mark.parametrize(
    ("dtype", "top", "high"),
    [(np.uint8, 255, 255), (np.uint16, 65535, 65535), (np.float32, 1, 1), (np.float32, 255, 255)],
)
def test_color(dtype: type, top: float, high: float) -> None:
    rng = np.random.default_rng(0)
    array = (rng.uniform(0, 0.999, (3, 8, 9, 3)) * top).astype(dtype)
    view = SliceView(Volume.from_array(array))
    assert view.window == (0, high)
    assert view.channels == 3
    assert view.raw(0).shape == (8, 9, 3)
    image = view.image(1)
    assert image.shape == (3, 8, 9)
    np.testing.assert_allclose(image, np.moveaxis(array[1].astype(np.float64) / high, -1, 0), atol=1e-6)
    gray = view.gray(1)
    assert gray.shape == (1, 8, 9)
    np.testing.assert_allclose(gray[0], 0.299 * image[0] + 0.587 * image[1] + 0.114 * image[2], atol=1e-6)
    assert SliceView(view.volume, 2).image(0).shape == (3, 3, 8)


def test_statistics_are_shared_and_bounded() -> None:
    block = np.random.default_rng(0).integers(0, 500, (1, 512, 512)).astype(np.int16)
    volume = Volume.from_array(np.broadcast_to(block, (1000, 512, 512)))
    start = time.perf_counter()
    first = SliceView(volume, 0).window
    assert time.perf_counter() - start < 5
    assert volume.intensity.sample.size <= 1 << 21
    assert SliceView(volume, 2).window == first
    assert SliceView(volume, 1).volume.intensity is volume.intensity
