"""Peer: SAM slice by slice from points, through the transformers package with the user's weights.

A. Kirillov et al., "Segment anything", ICCV 2023. SAM knows no third dimension: only slices with a click get a mask.
With the option `points` every slice of the object gets as many points, by `SlicePointRounds`: one is the "N points" of
the LIM-Net paper, six are its "6 N points".
"""

from __future__ import annotations

import json
from collections import OrderedDict
from dataclasses import dataclass, replace
from functools import lru_cache
from pathlib import Path
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray

from benchmarks.baselines.outside import OutsidePeer, rgb_slice
from benchmarks.core.method import Voxel
from benchmarks.core.rounds import RobotRounds, Rounds, SlicePointRounds
from limnet.errors import InputError
from limnet.image.slice_view import SliceView
from limnet.image.volume import Volume

_CACHED = 256  # slices whose image embedding (4 MB) is kept: points come slice after slice, round after round
_WIDTHS = {768: "SAM-B", 1024: "SAM-L", 1280: "SAM-H"}  # of the image encoder


@dataclass(frozen=True)
class SamPointsPeer(OutsidePeer):
    """SAM with the points of each slice.

    Attributes:
        label: name in tables, without the number of points; by default "SAM-B", "SAM-L" or "SAM-H" by the weights.
        points: points on every slice of the object; 0 plays the benchmark's own rounds.

    Raises:
        InputError: `points` is no number of at least 0.
    """

    label: str = ""
    points: int = 0

    peer = "sam"
    what = (
        "a SAM model in the transformers layout (config.json, model.safetensors, preprocessor_config.json; ViT-B here)"
    )
    module = "transformers"
    package = "transformers"

    def __post_init__(self) -> None:
        if not isinstance(self.points, int) or isinstance(self.points, bool) or self.points < 0:
            raise InputError(
                f"points is {self.points!r}; give the number of points on every slice of the object, such as 1 or 6, "
                "or 0 for the benchmark's own rounds"
            )

    @property
    def name(self) -> str:
        """Name in tables, such as "SAM-B, N points" or "SAM-B, 6N points"."""
        if self.points:
            return f"{self.label or sam_kind(self.weights)}, {self.points if self.points > 1 else ''}N points"
        return self.label or f"{sam_kind(self.weights)} points"

    def own_rounds(self, played: Rounds) -> Rounds:
        """`SlicePointRounds` with seed, tolerance and jitter of `played`, where `points` are asked for."""
        if not self.points:
            return played
        if isinstance(played, SlicePointRounds):
            return replace(played, rounds=self.points)
        if not isinstance(played, RobotRounds):
            raise InputError(
                f"the peer {self.peer!r} with points={self.points} clicks on every slice of an object, which a "
                f"benchmark played by {type(played).__name__} leaves no room for; leave points out, or take another "
                "benchmark"
            )
        return SlicePointRounds(self.points, played.off_centre, played.jitter, played.seed, played.nsd_mm)

    def start(self, volume: Volume, axis: int, case: str = "", object: str = "") -> SamPointsSession:
        """Begin one object; see `benchmarks.core.method.Predictor`; raises as `check`."""
        return SamPointsSession(*sam_model(self.check(), self.device), self.device, volume, axis)


@lru_cache(maxsize=8)
def sam_kind(weights: str) -> str:
    """Which SAM lies in a folder by its config.json: "SAM-B", "SAM-L", "SAM-H", or "SAM" where that is not known."""
    try:
        config = json.loads((Path(weights).expanduser() / "config.json").read_text(encoding="utf-8"))
        width = config["vision_config"].get("hidden_size", 768)  # what is left out is as in ViT-B
    except (OSError, ValueError, KeyError, TypeError, AttributeError):
        return "SAM"
    return _WIDTHS.get(width, "SAM")


@lru_cache(maxsize=1)
def sam_model(folder: str, device: str) -> tuple[Any, Any]:
    """Model and processor of a folder, kept for the following cases."""
    transformers = SamPointsPeer.needed()
    model = transformers.SamModel.from_pretrained(folder, local_files_only=True)
    processor = transformers.SamProcessor.from_pretrained(folder, local_files_only=True)
    return model.to(device).eval(), processor


class SamPointsSession:
    """One object in the hands of a `SamPointsPeer`."""

    def __init__(self, model: Any, processor: Any, device: str, volume: Volume, axis: int) -> None:
        self.model, self.processor, self.device = model, processor, device
        self.view = SliceView(volume, axis)
        self.windowed: SliceView | None = None
        self.points: dict[int, list[tuple[int, int, bool]]] = {}
        self.mask = np.zeros(volume.shape, bool)
        self.embeddings: OrderedDict[int, Any] = OrderedDict()

    def click(self, zyx: Voxel, positive: bool) -> NDArray[np.bool_]:
        """One point; the mask of its slice is made anew from all its points. Bool (D, H, W)."""
        index, row, column = (int(v) for v in self.view.points_to_view(np.array(zyx)))
        if self.windowed is None:
            self.windowed = self.view.with_window(self.view.auto_window(index, (row, column)))
        self.points.setdefault(index, []).append((row, column, positive))
        self.mask = self.mask.copy()
        self.view.to_view(self.mask)[index] = self._predict(self.windowed, index)
        return self.mask

    def _predict(self, view: SliceView, index: int) -> NDArray[np.bool_]:
        points = self.points[index]
        if not any(positive for _, _, positive in points):
            return np.zeros(view.shape, bool)
        inputs = self.processor(
            rgb_slice(view, index),
            input_points=[[[[float(column), float(row)] for row, column, _ in points]]],
            input_labels=[[[int(positive) for _, _, positive in points]]],
            return_tensors="pt",
        )
        with torch.inference_mode():
            if index not in self.embeddings:
                pixels = inputs["pixel_values"].to(self.device)
                self.embeddings[index] = self.model.get_image_embeddings(pixels)
                if len(self.embeddings) > _CACHED:
                    self.embeddings.popitem(last=False)
            answer = self.model(
                image_embeddings=self.embeddings[index],
                input_points=inputs["input_points"].to(self.device),
                input_labels=inputs["input_labels"].to(self.device),
                multimask_output=len(points) == 1,  # one point is ambiguous: part, object or surroundings
            )
        masks = self.processor.image_processor.post_process_masks(
            answer.pred_masks.cpu(), inputs["original_sizes"].cpu(), inputs["reshaped_input_sizes"].cpu()
        )[0]
        best = int(answer.iou_scores[0, 0].argmax())
        return np.asarray(masks[0, best]).astype(bool)
