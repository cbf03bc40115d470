from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from limnet.errors import FileFormatError, InputError
from limnet.image.io.pictures import natural
from limnet.image.volume import Volume


def _save(folder: Path, name: str, array: np.ndarray, mode: str | None = None) -> None:
    folder.mkdir(exist_ok=True)
    image = Image.fromarray(array)
    (image.convert(mode) if mode else image).save(folder / name)


def _frames(count: int = 12, channels: int = 3) -> np.ndarray:
    return np.random.default_rng(0).integers(0, 256, (count, 20, 24, channels)).astype(np.uint8)


def test_natural_order_and_strays(tmp_path: Path) -> None:
    frames = _frames()
    for i in reversed(range(12)):
        _save(tmp_path / "v", f"frame{i}.png", frames[i])
    (tmp_path / "v" / "._frame0.png").write_bytes(b"side file")
    (tmp_path / "v" / "__MACOSX").mkdir()
    volume = Volume.read(tmp_path / "v")
    np.testing.assert_array_equal(volume.array, frames)
    assert volume.spacing == (1.0, 1.0, 1.0)
    (tmp_path / "v" / "labels.txt").write_text("x")
    np.testing.assert_array_equal(Volume.read(tmp_path / "v").array, frames)
    mask = frames[..., 0] > 100
    np.testing.assert_array_equal(Volume.read(volume.write_mask(mask, tmp_path / "m.nii.gz")).array, mask)
    with pytest.raises(InputError, match="holds 1 volumes"):
        Volume.read(tmp_path / "v", index=2)


def test_natural_key() -> None:
    names = ["b1", "a10.png", "a9.png", "A1.png", "10.png", "9.png", "009.png", "x.png"]
    ordered = [p.name for p in sorted(map(Path, names), key=natural)]
    assert ordered == ["009.png", "9.png", "10.png", "A1.png", "a9.png", "a10.png", "b1", "x.png"]


@pytest.mark.parametrize("name", ["{}.jpg", "{}.JPEG"])
def test_jpeg(tmp_path: Path, name: str) -> None:
    smooth = np.broadcast_to(np.linspace(0, 255, 24)[None, :, None], (20, 24, 3)).astype(np.uint8)
    for i in range(3):
        _save(tmp_path / "v", name.format(i), smooth)
    volume = Volume.read(tmp_path / "v")
    assert volume.array.shape == (3, 20, 24, 3)
    assert np.abs(volume.array[0].astype(int) - smooth).max() < 12


def test_gray_alpha_palette_and_mixed(tmp_path: Path) -> None:
    frames = _frames(2)
    for i in range(2):
        _save(tmp_path / "gray", f"{i}.png", frames[i, ..., 0])
        _save(tmp_path / "deep", f"{i}.png", frames[i, ..., 0].astype(np.uint16) * 200)
        _save(tmp_path / "alpha", f"{i}.png", np.dstack([frames[i], frames[i, ..., 0]]))
        _save(tmp_path / "palette", f"{i}.png", frames[i] // 128 * 255, "P")
        _save(tmp_path / "la", f"{i}.png", frames[i], "LA")
    np.testing.assert_array_equal(Volume.read(tmp_path / "gray").array, frames[..., 0])
    np.testing.assert_array_equal(Volume.read(tmp_path / "deep").array, frames[..., 0].astype(np.uint16) * 200)
    np.testing.assert_array_equal(Volume.read(tmp_path / "alpha").array, frames)
    assert Volume.read(tmp_path / "palette").array.shape == frames.shape
    np.testing.assert_array_equal(
        Volume.read(tmp_path / "la").array[1], np.array(Image.fromarray(frames[1]).convert("L"))
    )
    _save(tmp_path / "gray", "2.png", frames[0])
    mixed = Volume.read(tmp_path / "gray").array
    np.testing.assert_array_equal(mixed[0], np.repeat(frames[0, ..., :1], 3, axis=2))
    np.testing.assert_array_equal(mixed[2], frames[0])
    _save(tmp_path / "gray", "3.png", frames[0, ..., 0])
    np.testing.assert_array_equal(Volume.read(tmp_path / "gray").array[3, ..., 1], frames[0, ..., 0])


def test_frames_that_do_not_fit(tmp_path: Path) -> None:
    _save(tmp_path / "v", "0.png", _frames(1)[0])
    _save(tmp_path / "v", "1.png", _frames(1)[0, :10])
    with pytest.raises(InputError, match=r"0\.png is \(20, 24\), 1\.png is \(10, 24\)"):
        Volume.read(tmp_path / "v")
    _save(tmp_path / "v", "1.png", _frames(1)[0, ..., 0].astype(np.uint16))
    with pytest.raises(InputError, match="bit depth"):
        Volume.read(tmp_path / "v")
    (tmp_path / "v" / "1.png").write_bytes(b"no image")
    with pytest.raises(FileFormatError, match=r"1\.png could not be read"):
        Volume.read(tmp_path / "v")
