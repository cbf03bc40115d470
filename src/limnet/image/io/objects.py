"""Images in memory that bring their grid: SimpleITK, nibabel and MONAI; and PyTorch tensors, which have none."""

from __future__ import annotations

import sys
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from limnet.errors import InputError, InputTypeError
from limnet.image.io.reading import chosen
from limnet.image.volume import Selection, Volume


def volume_of(image: Any, index: int | None = None) -> Volume | None:
    """The volume of an image object, on the grid that reading its file gives; None for what is no such object.

    Takes images of SimpleITK (x, y, z), nibabel (axes as in its file) and MONAI (X, Y, Z) or (C, X, Y, Z); `index`
    chooses a volume of a 4-D image, or a channel. Raises InputTypeError for another package, whose grid would be lost.
    """
    if _is_a(image, "SimpleITK", "Image"):
        from limnet.image.io.itk import from_image

        return from_image(image, None, index)
    if _is_a(image, "nibabel.filebasedimages", "FileBasedImage"):
        return _from_nibabel(image, index)
    if _is_a(image, "monai.data.meta_tensor", "MetaTensor"):
        return _from_monai(image, index)
    if not _is_a(image, "torch", "Tensor") and (hasattr(image, "affine") or hasattr(image, "GetDirection")):
        raise InputTypeError(
            f"a {type(image).__module__}.{type(image).__name__} came, whose grid would be lost: give its array with "
            "affine=, a SimpleITK, nibabel or MONAI image, or the path of its file"
        )
    return None


def plain(array: Any) -> Any:
    """A PyTorch tensor as a numpy array, whatever its device and gradient; everything else as it is."""
    if not _is_a(array, "torch", "Tensor"):
        return array
    import torch

    if array.layout != torch.strided or array.is_quantized:
        raise InputTypeError(f"a tensor of the layout {array.layout} came: give array.to_dense()")
    array = array.detach().cpu().resolve_conj().resolve_neg()
    return (array.float() if array.dtype == torch.bfloat16 else array).numpy()


def _is_a(value: Any, module: str, name: str) -> bool:
    """Whether it is an object of a package, which is not imported for the question."""
    loaded = sys.modules.get(module)
    return loaded is not None and isinstance(value, getattr(loaded, name, ()))


def _from_nibabel(image: Any, index: int | None) -> Volume:
    from limnet.image.io.nifti import from_file, from_nibabel

    name = image.get_filename() if hasattr(image, "get_filename") else None
    if name is None or isinstance(getattr(image, "dataobj", None), np.ndarray):
        return from_nibabel(image, None, index)
    return replace(from_file(image, Path(name), index), selection=Selection(index))


def _from_monai(image: Any, index: int | None) -> Volume:
    what = Path("the MetaTensor")
    array: NDArray[Any] = plain(image.as_tensor())
    if array.ndim == 4:
        size = tuple(int(n) for n in image.meta.get("spatial_shape", ()))
        if size == array.shape[:3] != array.shape[1:]:  # as LoadImage leaves 4-D files, before EnsureChannelFirst
            array = np.moveaxis(array, -1, 0)
        array = array[chosen(what, array.shape[0], index, "channels")]
    elif array.ndim != 3:
        raise InputError(f"a MetaTensor of shape {array.shape} came: allowed are (X, Y, Z) and (C, X, Y, Z)")
    else:
        chosen(what, 1, index)
    affine = np.asarray(image.affine.detach().cpu().numpy(), dtype=np.float64)
    if affine.shape != (4, 4):
        raise InputError(
            f"a MetaTensor with an affine of shape {affine.shape} came: one of three axes of space is needed"
        )
    space = str(getattr(image.meta.get("space"), "value", image.meta.get("space") or "RAS"))
    return Volume.from_array(array.T, affine=affine, convention="LPS" if space == "LPS" else "RAS")
