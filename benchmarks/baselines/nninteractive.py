"""Peer: nnInteractive, through its own package with the user's weights.

F. Isensee et al., "nnInteractive: redefining 3D promptable segmentation", 2025. Its weights are licensed for
non-commercial use (CC BY-NC-SA 4.0).
"""

from __future__ import annotations

from dataclasses import dataclass
from functools import lru_cache
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray

from benchmarks.baselines.outside import OutsidePeer
from benchmarks.core.method import Voxel
from limnet.errors import InputError
from limnet.image.volume import Volume

_LUMINANCE = np.array([0.299, 0.587, 0.114], dtype=np.float32)


@dataclass(frozen=True)
class NnInteractivePeer(OutsidePeer):
    """nnInteractive with point prompts, and boxes on one slice; its authors call the CPU impractical.

    Attributes:
        threads: threads of torch for it.
        autozoom: let it zoom out for large objects.
        fold: fold of the checkpoint.
    """

    threads: int = 4
    autozoom: bool = True
    fold: int = 0

    peer = "nninteractive"
    what = "nnInteractive's model folder (plans.json, dataset.json, inference_info.json, fold_0/checkpoint_final.pth)"
    module = "nnInteractive.inference.inference_session"
    package = "nnInteractive"
    name = "nnInteractive"

    def start(self, volume: Volume, axis: int, case: str = "", object: str = "") -> NnInteractiveSession:
        """Begin one object; see `benchmarks.core.method.Predictor`; raises as `check`. Ends the session before."""
        model = nninteractive_model(self.check(), self.device, self.threads, self.autozoom, self.fold)
        return NnInteractiveSession(model, volume, axis)


@lru_cache(maxsize=1)
def nninteractive_model(folder: str, device: str, threads: int, autozoom: bool, fold: int) -> Any:
    """The package's session with weights loaded, kept for the following cases."""
    found = NnInteractivePeer.needed().nnInteractiveInferenceSession(
        device=torch.device(device),
        use_torch_compile=False,
        verbose=False,
        torch_n_threads=threads,
        do_autozoom=autozoom,
    )
    found.initialize_from_trained_model_folder(folder, fold, "checkpoint_final.pth")
    return found


class NnInteractiveSession:
    """One object in the hands of a `NnInteractivePeer`."""

    _owner: NnInteractiveSession | None = None  # the package's session is shared and holds one image at a time

    def __init__(self, model: Any, volume: Volume, axis: int) -> None:
        self.model, self.axis = model, axis
        image = np.asarray(volume.array, dtype=np.float32)
        if volume.is_color:
            image = image @ _LUMINANCE
        self.buffer = np.zeros(volume.shape, np.uint8)
        model.set_image(np.nan_to_num(image)[None])
        model.set_target_buffer(self.buffer)
        NnInteractiveSession._owner = self

    def click(self, zyx: Voxel, positive: bool) -> NDArray[np.bool_]:
        """One round; bool (D, H, W)."""
        self._check()
        self.model.add_point_interaction(tuple(int(v) for v in zyx), include_interaction=positive)
        return self.buffer > 0

    def box(self, lo: Voxel, hi: Voxel) -> NDArray[np.bool_]:
        """One round from a box, corners inclusive, on one slice; a thick box is used on its middle slice."""
        self._check()
        corners = [[int(a), int(b) + 1] for a, b in zip(lo, hi, strict=True)]
        middle = (lo[self.axis] + hi[self.axis]) // 2
        corners[self.axis] = [middle, middle + 1]
        self.model.add_bbox_interaction(corners, include_interaction=True)
        return self.buffer > 0

    def _check(self) -> None:
        if NnInteractiveSession._owner is not self:
            raise InputError("this nnInteractive session ended when a later one began; use one at a time")
