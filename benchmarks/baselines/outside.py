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

    peer: ClassVar[str]
    what: ClassVar[str]
    module: ClassVar[str]
    package: ClassVar[str]

    def describe(self) -> dict[str, Any]:
        """Configuration with the hash of the weights."""
        return {"class": type(self).__name__, **asdict(self), "sha256": weights_hash(self.weights)}

    def check(self) -> str:
        """The folder of the weights; raises InputError without the package, MissingFileError without weights."""
        self.needed()
        advice = f"Put {self.what} into a folder and give it as {self.peer}:weights=FOLDER; nothing is downloaded"
        if not self.weights:
            raise MissingFileError(f"the peer {self.peer!r} needs weights and none were given. {advice}")
        folder = Path(self.weights).expanduser()
        if not folder.is_dir():
            raise MissingFileError(f"the peer {self.peer!r} needs weights, but {folder} is no folder. {advice}")
        return str(folder)

    @classmethod
    def needed(cls, module: str = "") -> ModuleType:
        """The package, or another module of it by its full name; raises InputError where it cannot be imported."""
        module = module or cls.module
        try:
            return importlib.import_module(module)
        except ImportError as error:
            raise InputError(
                f"the peer {cls.peer!r} needs {module}, which cannot be imported ({error}); "
                f"run: pip install {cls.package}"
            ) from error


@lru_cache(maxsize=8)
def weights_hash(weights: str) -> str:
    """First 16 hex digits of the SHA-256 over all weight files in a folder, "" if there is none."""
    folder, digest = Path(weights).expanduser(), hashlib.sha256()
    files = sorted(p for p in folder.rglob("*") if p.suffix in _WEIGHTS and p.is_file()) if weights else []
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
