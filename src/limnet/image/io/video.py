"""Videos as volumes of colour frames, through imageio where it is installed."""

from __future__ import annotations

from pathlib import Path

import numpy as np

from limnet.errors import FileFormatError, InputError
from limnet.image.io.choice import chosen
from limnet.image.volume import Volume

VIDEOS = (".avi", ".mp4")


def read_video(path: Path, index: int | None = None) -> Volume:
    """Read (T, H, W, 3) uint8; spacing 1.

    Raises:
        InputError: imageio or its FFmpeg is not installed, or an index.
        FileFormatError: damaged, no video, or without a frame.
    """
    chosen(path, 1, index)
    try:
        import imageio.v3
        import imageio_ffmpeg  # noqa: F401 - the part that decodes
    except ImportError as error:
        raise InputError(
            f"reading the video {path} needs imageio with FFmpeg, which is not installed; run: "
            'pip install "imageio[ffmpeg]". Or save its frames as PNG files in a folder'
        ) from error
    frames = list(imageio.v3.imiter(path, plugin="FFMPEG"))
    if not frames:
        raise FileFormatError(f"{path} holds no frame that can be decoded. Copy it again")
    return Volume.from_array(np.stack(frames), source=path)
