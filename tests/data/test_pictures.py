from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest

from limnet.data.pictures import nearest, read_palette_masks, read_video
from limnet.errors import FileFormatError, MissingFileError
from tests.helpers.fake_pictures import write_palette, write_picture


def test_frames_are_averaged_and_masks_are_not(tmp_path: Path):
    rng = np.random.default_rng(0)
    frame, mask = rng.integers(0, 256, (7, 10, 3)).astype(np.uint8), rng.integers(0, 5, (7, 10)).astype(np.uint8)
    write_picture(tmp_path / "0.png", frame)
    write_picture(tmp_path / "1.png", frame[..., 0])  # a gray frame among colours
    write_palette(tmp_path / "mask.png", mask)
    film = read_video(tmp_path, ("0.png", "1.png"), 3).array
    assert film.shape == (2, 2, 3, 3)
    expected = [[frame[3 * r : 3 * r + 3, 3 * c : 3 * c + 3].mean((0, 1)) for c in range(3)] for r in range(2)]
    np.testing.assert_allclose(film[0], expected, atol=0.51)
    np.testing.assert_allclose(film[1], np.array(expected)[..., :1].repeat(3, -1), atol=0.51)
    labels = read_palette_masks(tmp_path, ("mask.png",), 3)
    np.testing.assert_array_equal(labels[0], [[mask[3 * r + 1, 3 * c + 1] for c in range(3)] for r in range(2)])
    assert nearest(mask, 1) is mask
    np.testing.assert_array_equal(read_video(tmp_path, ("0.png",)).array[0], frame)


def test_what_is_refused(tmp_path: Path):
    write_picture(tmp_path / "0.png", np.zeros((4, 5, 3), np.uint8))
    write_picture(tmp_path / "1.png", np.zeros((5, 4, 3), np.uint8))
    write_picture(tmp_path / "16.png", np.zeros((4, 5), np.uint16))
    with pytest.raises(FileFormatError, match=r"1\.png is \(5, 4, 3\), the first frame \(4, 5, 3\)"):
        read_video(tmp_path, ("0.png", "1.png"))
    with pytest.raises(FileFormatError, match="uint16 pixels; frames have 8 bits"):
        read_video(tmp_path, ("16.png",))
    with pytest.raises(FileFormatError, match="holds colours; its palette indices are lost"):
        read_palette_masks(tmp_path, ("0.png",))
    with pytest.raises(MissingFileError):
        read_video(tmp_path, ("2.png",))
    for read in (read_video, read_palette_masks):
        with pytest.raises(FileFormatError, match="was named"):
            read(tmp_path, ())
