"""Packages and weights that are not limnet's: taken where the user has them, never downloaded; slices for them."""

from __future__ import annotations

import hashlib
import importlib
from dataclasses import asdict, dataclass
from functools import lru_cache
from pathlib import Path
from types import ModuleType
from typing import Any, ClassVar

import numpy as np
from numpy.typing import NDArray

from limnet.errors import InputError, MissingFileError
from limnet.image.slice_view import SliceView

_WEIGHTS = (".safetensors", ".bin", ".pth", ".pt", ".ckpt")


def needed(module: str, package: str, peer: str) -> ModuleType:
    """Import a module of a package that limnet does not require.

    Args:
        module: full name of the module.
        package: what to give to pip.
        peer: name of the peer that needs it.

    Raises:
        InputError: not installed, or broken.
    """
    try:
        return importlib.import_module(module)
    except ImportError as error:
        raise InputError(
            f"the peer {peer!r} needs {module}, which cannot be imported ({error}); run: pip install {package}"
        ) from error


def weights_folder(weights: str, peer: str, what: str) -> Path:
    """The folder of a peer's weights.

    Args:
        weights: path the user gave, empty for none.
        peer: name of the peer.
        what: what has to lie in it, and where it can be had.

    Raises:
        MissingFileError: none given, or not there.
    """
    advice = f"Put {what} into a folder and give it as {peer}:weights=FOLDER; nothing is downloaded"
    if not weights:
        raise MissingFileError(f"the peer {peer!r} needs weights and none were given. {advice}")
    folder = Path(weights).expanduser()
    if not folder.is_dir():
        raise MissingFileError(f"the peer {peer!r} needs weights, but {folder} is no folder. {advice}")
    return folder


@dataclass(frozen=True)
class OutsidePeer:
    """A method of another package with the user's weights.

    Attributes:
        weights: folder with the model.
        device: where to compute.
        peer: its name in the registry.
        what: what has to lie in the folder, and where it can be had.
        module: what must be importable.
        package: what to give to pip.
    """

    weights: str = ""
    device: str = "cpu"

    peer: ClassVar[str] = ""
    what: ClassVar[str] = ""
    module: ClassVar[str] = ""
    package: ClassVar[str] = ""

    def describe(self) -> dict[str, Any]:
        """Configuration with the hash of the weights."""
        return {"class": type(self).__name__, **asdict(self), "sha256": weights_hash(self.weights)}

    def check(self) -> str:
        """The folder of the weights.

        Raises:
            InputError: the package is not installed.
            MissingFileError: no weights.
        """
        needed(self.module, self.package, self.peer)
        return str(weights_folder(self.weights, self.peer, self.what))


@lru_cache(maxsize=8)
def weights_hash(weights: str) -> str:
    """First 16 hex digits of the SHA-256 over all weight files in a folder, "" if there is none."""
    folder = Path(weights).expanduser() if weights else None
    if folder is None or not folder.is_dir():
        return ""
    digest = hashlib.sha256()
    files = sorted(path for path in folder.rglob("*") if path.suffix in _WEIGHTS and path.is_file())
    for path in files:
        digest.update(path.relative_to(folder).as_posix().encode())
        with path.open("rb") as stream:
            while chunk := stream.read(1 << 20):
                digest.update(chunk)
    return digest.hexdigest()[:16] if files else ""


def rgb_slice(view: SliceView, index: int) -> NDArray[np.uint8]:
    """(H, W, 3) uint8 picture of a slice through the view's window; gray values in all three channels."""
    image = view.image(index)
    planes = np.broadcast_to(image, (3, *image.shape[1:])) if image.shape[0] == 1 else image
    return np.ascontiguousarray(np.moveaxis(np.round(planes * 255).astype(np.uint8), 0, -1))
