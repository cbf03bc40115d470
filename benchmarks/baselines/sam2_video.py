"""Peer: SAM 2 on the slices as a video, through the transformers package with the user's weights.

N. Ravi et al., "SAM 2: segment anything in images and videos", 2024. Clicks go to their slice, the memory network
carries the object from the first clicked slice to both ends. Slices are prepared here as the package's own processor
prepares frames (bilinear to the model's square, mean and deviation of ImageNet): that one also wants torchvision.
"""

from __future__ import annotations

from dataclasses import dataclass
from functools import lru_cache
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from benchmarks.baselines.outside import OutsidePeer, rgb_slice
from benchmarks.core.method import Voxel
from limnet.image.slice_view import SliceView
from limnet.image.volume import Volume

SESSIONS = "transformers.models.sam2_video.modeling_sam2_video"
_OBJECT = 1
_MEAN, _STD = (0.485, 0.456, 0.406), (0.229, 0.224, 0.225)  # of all published SAM 2


@dataclass(frozen=True)
class Sam2VideoPeer(OutsidePeer):
    """SAM 2 video predictor; `label` is its name in tables."""

    label: str = "SAM 2 video"

    peer = "sam2-video"
    what = "a SAM 2 video model in the transformers layout (config.json, model.safetensors)"
    module = "transformers"
    package = "'transformers>=4.56'"

    @property
    def name(self) -> str:
        """Name in tables."""
        return self.label

    def start(self, volume: Volume, axis: int, case: str = "", object: str = "") -> Sam2VideoSession:
        """Begin one object; see `benchmarks.core.method.Predictor`; raises as `check`."""
        model = sam2_model(self.check(), self.device)
        return Sam2VideoSession(model, self.needed(SESSIONS), self.device, volume, axis)


@lru_cache(maxsize=1)
def sam2_model(folder: str, device: str) -> Any:
    """The model of a folder, kept for the following cases."""
    return Sam2VideoPeer.needed().Sam2VideoModel.from_pretrained(folder, local_files_only=True).to(device).eval()


class Sam2VideoSession:
    """One object; its video session lives as long, so that later clicks refine what is remembered."""

    def __init__(self, model: Any, sessions: Any, device: str, volume: Volume, axis: int) -> None:
        self.model, self.sessions, self.device = model, sessions, device
        self.volume = volume
        self.view = SliceView(volume, axis)
        self.video: Any = None
        self.points: dict[int, list[tuple[int, int, bool]]] = {}

    def click(self, zyx: Voxel, positive: bool) -> NDArray[np.bool_]:
        """One round; bool (D, H, W)."""
        mask = np.zeros(self.volume.shape, bool)
        slices = self.view.to_view(mask)
        index, prompted = self.prompt(zyx, positive)
        for number, found in {index: prompted, **self.propagate()}.items():
            slices[number] = found
        return mask

    def prompt(self, zyx: Voxel, positive: bool) -> tuple[int, NDArray[np.bool_]]:
        """A click on its slice alone: which slice, and its mask (H, W)."""
        index, row, column = (int(v) for v in self.view.points_to_view(np.array(zyx)))
        if self.video is None:
            self.open(self.view.with_window(self.view.auto_window(index, (row, column))))
        self.points.setdefault(index, []).append((row, column, positive))
        with torch.inference_mode():
            self._add_points(index)
            return index, self._mask(self.model(inference_session=self.video, frame_idx=index))

    def propagate(self) -> dict[int, NDArray[np.bool_]]:
        """Masks of the slices from the first clicked one to both ends."""
        found = {}
        with torch.inference_mode():
            for reverse in (False, True):
                start = {"start_frame_idx": min(self.points), "reverse": reverse}
                for answer in self.model.propagate_in_video_iterator(self.video, **start):
                    found[int(answer.frame_idx)] = self._mask(answer)
        return found

    def open(self, view: SliceView) -> None:
        """Begin the package's session on the slices of a view through its window."""
        height, width = view.shape
        frames = video_frames(view, self.model.config.image_size)
        self.video = self.sessions.Sam2VideoInferenceSession(
            video=frames,
            video_height=height,
            video_width=width,
            inference_device=self.device,
            inference_state_device=self.device,
            video_storage_device=self.device,
            dtype=frames.dtype,
        )

    def _add_points(self, index: int) -> None:
        """All points of a slice, in pixels of the model's square."""
        height, width = self.view.shape
        side = self.model.config.image_size
        places = [[x * (side / width), y * (side / height)] for y, x, _ in self.points[index]]
        inputs = {
            "point_coords": torch.tensor([[places]], dtype=torch.float32),
            "point_labels": torch.tensor([[[int(positive) for _, _, positive in self.points[index]]]]),
        }
        self.video.add_point_inputs(self.video.obj_id_to_idx(_OBJECT), index, inputs)
        self.video.obj_with_new_inputs = [_OBJECT]

    def _mask(self, answer: Any) -> NDArray[np.bool_]:
        logits = answer.pred_masks.reshape(1, 1, *answer.pred_masks.shape[-2:]).float()
        found = torch.nn.functional.interpolate(logits, self.view.shape, mode="bilinear", align_corners=False)
        return np.asarray(found[0, 0].cpu() > 0)


def video_frames(view: SliceView, side: int) -> Tensor:
    """All slices as the model wants them, float32 (D, 3, side, side)."""
    frames = torch.empty(len(view), 3, side, side)
    mean, std = (torch.tensor(values)[:, None, None] for values in (_MEAN, _STD))
    for index in range(len(view)):
        picture = torch.from_numpy(rgb_slice(view, index)).permute(2, 0, 1)[None].float()
        square = torch.nn.functional.interpolate(
            picture, (side, side), mode="bilinear", align_corners=False, antialias=True
        )
        frames[index] = (square[0].round().clamp(0, 255) / 255 - mean) / std
    return frames
