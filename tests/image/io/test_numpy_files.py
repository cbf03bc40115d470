from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import pytest

from limnet.errors import FileFormatError, InputError
from limnet.image.volume import Volume
from tests.helpers.golden import shared_path


def test_npz_round_trip(tmp_path: Path) -> None:
    image = np.arange(120, dtype=np.int16).reshape(4, 5, 6)
    np.savez_compressed(tmp_path / "a.npz", image=image, label=image > 3, spacing=np.array([5, 0.5, 0.25], np.float32))
    volume = Volume.read(tmp_path / "a.npz")
    np.testing.assert_array_equal(volume.array, image)
    assert volume.array.dtype == np.int16
    assert volume.spacing == (5.0, 0.5, 0.25)
    with np.load(volume.write_mask(image > 60, tmp_path / "m.npz")) as back:
        assert sorted(back.files) == ["label", "spacing"]
        np.testing.assert_array_equal(back["label"], image > 60)
        assert back["label"].dtype == np.uint8
        np.testing.assert_array_equal(back["spacing"], volume.spacing)


def test_npy(tmp_path: Path) -> None:
    image = np.random.default_rng(0).normal(size=(4, 5, 6)).astype(np.float32)
    np.save(tmp_path / "a.npy", image)
    volume = Volume.read(tmp_path / "a.npy")
    np.testing.assert_array_equal(volume.array, image)
    assert volume.spacing == (1.0, 1.0, 1.0)


def test_no_spacing_color_and_several(tmp_path: Path) -> None:
    np.savez(tmp_path / "a.npz", image=np.zeros((4, 5, 6, 3), np.uint8))
    assert Volume.read(tmp_path / "a.npz").is_color
    stack = np.arange(2 * 4 * 5 * 6).reshape(2, 4, 5, 6)
    np.save(tmp_path / "b.npy", stack)
    with pytest.raises(InputError, match="holds 2 volumes"):
        Volume.read(tmp_path / "b.npy")
    np.testing.assert_array_equal(Volume.read(tmp_path / "b.npy", index=1).array, stack[1])
    np.save(tmp_path / "c.npy", stack[0])
    assert Volume.read(tmp_path / "c.npy", index=0).shape == (4, 5, 6)
    with pytest.raises(InputError, match="holds 1 volumes"):
        Volume.read(tmp_path / "c.npy", index=1)


def test_bad_contents(tmp_path: Path) -> None:
    np.savez(tmp_path / "a.npz", label=np.zeros((2, 2, 2)))
    with pytest.raises(FileFormatError, match=r"no key 'image', only \['label'\]"):
        Volume.read(tmp_path / "a.npz")
    np.savez(tmp_path / "b.npz", image=np.zeros((2, 2, 2)), spacing=np.array([1.0, 0, 1]))
    with pytest.raises(InputError, match="spacing"):
        Volume.read(tmp_path / "b.npz")
    np.save(tmp_path / "c.npy", np.zeros((4, 4)))
    with pytest.raises(InputError, match="2-D"):
        Volume.read(tmp_path / "c.npy")
    np.save(tmp_path / "d.npy", np.array([{}, {}], object), allow_pickle=True)
    np.savez(tmp_path / "d.npz", image=np.array([{}, {}], object))
    for name in ("d.npy", "d.npz"):
        with pytest.raises(FileFormatError, match="plain numbers"):
            Volume.read(tmp_path / name)


def test_wrong_suffix(tmp_path: Path) -> None:
    np.savez(tmp_path / "a.npz", image=np.zeros((2, 2, 2)))
    (tmp_path / "a.npz").rename(tmp_path / "a.npy")
    with pytest.raises(FileFormatError, match=r"Rename it to \.npz"):
        Volume.read(tmp_path / "a.npy")
    np.save(tmp_path / "b.npy", np.zeros((2, 2, 2)))
    (tmp_path / "b.npy").rename(tmp_path / "b.npz")
    with pytest.raises(FileFormatError, match="could not be read"):
        Volume.read(tmp_path / "b.npz")


def test_every_shared_ct_is_told_by_its_values() -> None:
    root = shared_path("data")
    wrong = []
    for entry in json.loads((root / "manifest.json").read_text())["volumes"][::12]:
        with np.load(root / entry["file"]) as archive:
            if "image" not in archive.files:
                continue
        volume = Volume.read(root / entry["file"])
        if not volume.is_color and volume.intensity.is_ct != entry["modality"].startswith("CT"):
            wrong.append(entry["file"])
    assert not wrong
