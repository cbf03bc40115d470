"""Every kind of array and file through the public face, and masks back onto the grid they came from."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import nibabel
import numpy as np
import pytest
import torch

from limnet import InteractiveSegmenter
from tests.helpers.fake_engine import phantom
from tests.helpers.grids import grid
from tests.helpers.small_segmenter import CENTRE, SHAPE


def _noise(shape: tuple[int, ...], dtype: Any = np.int16) -> np.ndarray:
    return np.random.default_rng(0).integers(0, 200, shape).astype(dtype)


def _with_holes() -> np.ndarray:
    array = phantom((4, 24, 24)).astype(np.float64)
    array[1], array[2, :4], array[2, 4:8] = np.nan, np.inf, -np.inf
    return array


VOLUMES: dict[str, Callable[[], Any]] = {
    "one voxel": lambda: _noise((1, 1, 1)),
    "one slice": lambda: _noise((1, 30, 20)),
    "tiny": lambda: _noise((3, 8, 8)),
    "one row": lambda: _noise((2, 1, 40)),
    "long": lambda: _noise((3, 4, 300)),
    "constant": lambda: np.full((3, 20, 20), 7.5),
    "all NaN": lambda: np.full((3, 20, 20), np.nan),
    "all infinite": lambda: np.full((3, 20, 20), np.inf),
    "holes": _with_holes,
    "huge values": lambda: _noise((3, 20, 20), float) * 1e300,
    "uint8": lambda: _noise((3, 20, 20), np.uint8),
    "uint16": lambda: _noise((3, 20, 20), np.uint16) * 300,
    "uint64": lambda: _noise((3, 20, 20), np.uint64),
    "float16": lambda: _noise((3, 20, 20), np.float16),
    "big-endian": lambda: _noise((3, 20, 20), ">i2"),
    "big-endian floats": lambda: _noise((3, 20, 20), ">f8"),
    "not contiguous": lambda: _noise((20, 20, 3)).transpose(2, 0, 1)[::-1, :, ::-1],
    "lists": lambda: _noise((3, 10, 10)).tolist(),
    "tensor": lambda: torch.from_numpy(_noise((3, 20, 20))),
    "video": lambda: _noise((3, 20, 24, 3), np.uint8),
    "video of floats": lambda: _noise((3, 20, 24, 3)) / 255.0,
}


@pytest.mark.parametrize("name", VOLUMES)
@pytest.mark.filterwarnings("error", "ignore:the volume has (the same value|no finite)")
def test_any_volume(segmenter: InteractiveSegmenter, name: str) -> None:
    case = segmenter.open(VOLUMES[name]())
    shape = case.volume.shape
    point, last = tuple(n // 2 for n in shape), tuple(n - 1 for n in shape)
    assert case.click(point)[point]
    assert not case.click(last, positive=False)[last]
    assert case.click((0, 0, 0))[0, 0, 0]
    assert case.mask.shape == shape
    assert np.isfinite(case.quality).all()


def test_read_only_and_mapped_arrays(segmenter: InteractiveSegmenter, tmp_path: Path) -> None:
    array = phantom(SHAPE)
    expected = segmenter.open(array.copy()).click(CENTRE)
    array.flags.writeable = False
    np.save(tmp_path / "v.npy", array)
    for volume in (array, np.load(tmp_path / "v.npy", mmap_mode="r"), tmp_path / "v.npy", str(tmp_path / "v.npy")):
        assert np.array_equal(segmenter.open(volume).click(CENTRE), expected)


@pytest.mark.parametrize("spacing", [(100, 0.1, 0.1), (0.01, 50, 0.01), (1e3, 1e-3, 1e-3), (1e-6, 1e-6, 1e-6)])
@pytest.mark.parametrize("axis", [0, 1])
def test_any_spacing(segmenter: InteractiveSegmenter, spacing: tuple[float, ...], axis: int) -> None:
    case = segmenter.open(phantom((6, 12, 12)), spacing=spacing, axis=axis)
    assert case.click((3, 6, 6))[3, 6, 6]
    keys = case._engine.predictor.encoder.cache._items  # type: ignore[attr-defined]
    windows = [w for key in keys for w in (key[-1] if isinstance(key[-1], tuple) else (key[-1],))]
    assert max(max(w.height, w.width) for w in windows) <= 8 * 12, "no window is far larger than the slice"


def test_masks_lie_on_the_grid_of_their_file(segmenter: InteractiveSegmenter, tmp_path: Path) -> None:
    array, affine = phantom((6, 18, 14)), grid("PIR", tilt=0.3)
    path = tmp_path / "ct.nii.gz"
    nibabel.save(nibabel.Nifti1Image(np.ascontiguousarray(array.transpose(2, 1, 0)), affine), path)
    case = segmenter.open(path)
    np.testing.assert_allclose(case.volume.spacing, (5.0, 0.9, 0.7), rtol=1e-6)
    assert case.click((3, 9, 7))[3, 9, 7]
    image = nibabel.load(case.save(tmp_path / "mask.nii.gz"))
    assert np.array_equal(image.affine, nibabel.load(path).affine)
    assert np.array_equal(np.asarray(image.dataobj).transpose(2, 1, 0) > 0, case.mask)
