"""Peer: SAM 2 on the slices as a video, through the transformers package with the user's weights.

N. Ravi et al., "SAM 2: segment anything in images and videos", 2024. Clicks go to their slice, the memory network
carries the object from the first clicked slice to both ends.
"""

from __future__ import annotations

from dataclasses import asdict, dataclass
from functools import lru_cache
from typing import Any

import numpy as np
from numpy.typing import NDArray

from limnet.bench.peers.outside import needed, weights_folder, weights_hash
from limnet.bench.peers.rgb_slices import rgb_slice
from limnet.bench.protocol import Voxel
from limnet.view import SliceView
from limnet.volume import Volume

_PEER = "sam2-video"
_WHAT = "a SAM 2 video model in the transformers layout (config.json, model.safetensors, processor configurations)"
_OBJECT = 1


@dataclass(frozen=True)
class Sam2VideoPeer:
    """SAM 2 video predictor.

    Attributes:
        weights: folder with the model, such as a copy of the repository "facebook/sam2.1-hiera-tiny".
        device: where to compute.
        label: name in tables.
    """

    weights: str = ""
    device: str = "cpu"
    label: str = "SAM 2 video"

    @property
    def name(self) -> str:
        """Name in tables."""
        return self.label

    def describe(self) -> dict[str, Any]:
        """Configuration with the hash of the weights."""
        return {"class": type(self).__name__, **asdict(self), "sha256": weights_hash(self.weights)}

    def start(self, volume: Volume, axis: int) -> Sam2VideoSession:
        """Begin one object; see `limnet.bench.protocol.Predictor`.

        Raises:
            InputError: transformers is not installed.
            MissingFileError: no weights.
        """
        needed("transformers", "transformers", _PEER)
        folder = weights_folder(self.weights, _PEER, _WHAT)
        return Sam2VideoSession(*sam2_model(str(folder), self.device), self.device, volume, axis)


@lru_cache(maxsize=1)
def sam2_model(folder: str, device: str) -> tuple[Any, Any]:
    """Model and processor of a folder, kept for the following cases."""
    transformers = needed("transformers", "'transformers>=4.56'", _PEER)
    model = transformers.Sam2VideoModel.from_pretrained(folder, local_files_only=True)
    processor = transformers.Sam2VideoProcessor.from_pretrained(folder, local_files_only=True)
    return model.to(device).eval(), processor


class Sam2VideoSession:
    """One object in the hands of a `Sam2VideoPeer`.

    The video session of the package lives as long as the object, so that later clicks refine what is remembered.
    """

    def __init__(self, model: Any, processor: Any, device: str, volume: Volume, axis: int) -> None:
        self.model, self.processor, self.device = model, processor, device
        self.volume = volume
        self.view = SliceView(volume, axis)
        self.video: Any = None
        self.points: dict[int, list[tuple[int, int, bool]]] = {}

    def click(self, zyx: Voxel, positive: bool) -> NDArray[np.bool_]:
        """One round; bool (D, H, W)."""
        torch = needed("torch", "torch", _PEER)
        index, row, column = (int(v) for v in self.view.points_to_view(np.array(zyx)))
        if self.video is None:
            view = self.view.with_window(self.view.auto_window(index, (row, column)))
            frames = [rgb_slice(view, i) for i in range(len(view))]
            self.video = self.processor.init_video_session(video=frames, inference_device=self.device)
        self.points.setdefault(index, []).append((row, column, positive))
        points = self.points[index]
        mask = np.zeros(self.volume.shape, bool)
        slices = self.view.to_view(mask)
        with torch.inference_mode():
            self.processor.add_inputs_to_inference_session(
                inference_session=self.video,
                frame_idx=index,
                obj_ids=_OBJECT,
                input_points=[[[[float(x), float(y)] for y, x, _ in points]]],
                input_labels=[[[int(label) for _, _, label in points]]],
            )
            slices[index] = self._mask(self.model(inference_session=self.video, frame_idx=index))
            for reverse in (False, True):
                for answer in self.model.propagate_in_video_iterator(
                    self.video, start_frame_idx=min(self.points), reverse=reverse
                ):
                    slices[answer.frame_idx] = self._mask(answer)
        return mask

    def _mask(self, answer: Any) -> NDArray[np.bool_]:
        shape = list(self.view.shape)
        found = self.processor.post_process_masks([answer.pred_masks], original_sizes=[shape], binarize=True)[0]
        return np.asarray(found.cpu()).reshape(shape).astype(bool)
