"""Masks that tell classes by colour, and the JSON tables that say which colour is which class."""

from __future__ import annotations

import json
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from limnet.datasets.films import nearest
from limnet.errors import FileFormatError
from limnet.image.io.pictures import read_picture

Colour = tuple[int, int, int]


def read_colour_table(path: Path, numbers: Mapping[str, int]) -> dict[Colour, int]:
    """Colour -> label of a JSON table: a list of classes, or {"classes": [...]}.

    Args:
        path: entries have "name", "color" of three or four numbers (a fourth, alpha, is dropped), perhaps "classid".
        numbers: class name -> label; names are compared in lower case with "-" for "_" and blanks.

    Raises:
        FileFormatError: damaged, of another form, or a class of no known name.
    """
    try:
        content: Any = json.loads(path.read_text(encoding="utf-8"))
        entries = content["classes"] if isinstance(content, dict) else content
        found = {}
        for entry in entries:
            name = str(entry["name"]).strip().lower().replace("_", "-").replace(" ", "-")
            red, green, blue = (int(value) for value in entry["color"][:3])
            if name not in numbers:
                raise FileFormatError(
                    f"{path} names class {name!r}; known are {', '.join(numbers)}. Is it another set?"
                )
            found[red, green, blue] = numbers[name]
    except (OSError, ValueError, KeyError, TypeError, AttributeError) as error:
        if isinstance(error, FileFormatError):
            raise
        what = f"{type(error).__name__}: {error}"
        raise FileFormatError(f"{path} is no table of classes with name and color ({what}). Copy it again") from error
    return found


def read_colour_masks(
    paths: tuple[Path, ...], colours: tuple[tuple[Colour, int], ...], shrink: int = 1
) -> NDArray[np.uint8]:
    """Masks of a film by colour as labels (T, H, W), read one after the other; alpha is dropped.

    Args:
        paths: a mask file for each frame.
        colours: (colour, label) of every class.
        shrink: the middle pixel of every block is kept.

    Raises:
        MissingFileError: a mask is not there.
        FileFormatError: damaged, several sizes, or a colour of no class.
    """
    keys = np.array([_key(np.array(colour)) for colour, _ in colours])
    order = np.argsort(keys)
    keys, labels = keys[order], np.array([label for _, label in colours], np.uint8)[order]
    film: NDArray[np.uint8] | None = None
    for number, path in enumerate(paths):
        pixels = nearest(_key(_colour_pixels(path)), shrink)
        place = np.minimum(np.searchsorted(keys, pixels), len(keys) - 1)
        strange = keys[place] != pixels
        if strange.any():
            raise FileFormatError(_strange(path, pixels[strange]))
        if film is None:
            film = np.empty((len(paths), *pixels.shape), np.uint8)
        if film.shape[1:] != pixels.shape:
            raise FileFormatError(f"{path} is {pixels.shape}, the first mask {film.shape[1:]}. Give masks of one size")
        film[number] = labels[place]
    if film is None:
        raise FileFormatError("no mask was named; give at least one")
    return film


def _colour_pixels(path: Path) -> NDArray[Any]:
    pixels = read_picture(path, palette=False)[0]
    return np.repeat(pixels[..., None], 3, axis=-1) if pixels.ndim == 2 else pixels


def _key(pixels: NDArray[Any]) -> NDArray[np.int32]:
    wide = pixels.astype(np.int32)
    return (wide[..., 0] << 16) | (wide[..., 1] << 8) | wide[..., 2]


def _strange(path: Path, keys: NDArray[np.int32]) -> str:
    values, counts = np.unique(keys, return_counts=True)
    value = int(values[counts.argmax()])
    colour = (value >> 16, value >> 8 & 255, value & 255)
    return (
        f"{path} has {keys.size} pixels in {len(values)} colour(s) of no class, such as {colour}. It was resized with "
        "interpolation or saved with loss, or labels.json is of another release: unpack the archive again"
    )
