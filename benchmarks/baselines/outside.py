"""Baselines of other packages with the user's weights, never downloaded: SAM, SAM 2 as a video, nnInteractive.

- SAM: A. Kirillov et al., "Segment anything", ICCV 2023, by transformers. It knows no third dimension: only slices with
  a click get a mask. With the option `points` every slice of the object gets as many points, by `SlicePointRounds`: one
  is the "N points" of the LIM-Net paper, six are its "6 N points".
- SAM 2: N. Ravi et al., "SAM 2: segment anything in images and videos", 2024, by transformers. Clicks go to their
  slice, the memory network carries the object from the first clicked slice to both ends. Slices are prepared here as
  the package's own processor prepares frames (bilinear to the model's square, mean and deviation of ImageNet): that
  one also wants torchvision.
- nnInteractive: F. Isensee et al., "nnInteractive: redefining 3D promptable segmentation", 2025, by its own package.
  Its weights are licensed for non-commercial use (CC BY-NC-SA 4.0).
"""

from __future__ import annotations

import hashlib
import importlib
import json
from collections import OrderedDict
from dataclasses import asdict, dataclass, replace
from functools import lru_cache
from pathlib import Path
from types import ModuleType
from typing import Any, ClassVar

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor
from torch.nn import functional

from benchmarks.core.rounds import RobotRounds, Rounds, SlicePointRounds, Voxel
from limnet.errors import InputError, MissingFileError
from limnet.image.slice_view import SliceView
from limnet.image.volume import Volume

SESSIONS = "transformers.models.sam2_video.modeling_sam2_video"
_WEIGHTS = (".safetensors", ".bin", ".pth", ".pt", ".ckpt")
_CACHED = 256  # slices whose image embedding (4 MB) is kept: points come slice after slice, round after round
_WIDTHS = {768: "SAM-B", 1024: "SAM-L", 1280: "SAM-H"}  # of the image encoder
_OBJECT = 1
_MEAN, _STD = (0.485, 0.456, 0.406), (0.229, 0.224, 0.225)  # of all published SAM 2
_LUMINANCE = np.array([0.299, 0.587, 0.114], dtype=np.float32)


@dataclass(frozen=True)
class OutsideBaseline:
    """A method of another package with the user's weights.

    Attributes:
        weights: folder with the model.
        device: where to compute.
        key: its name in the registry.
        what: what has to lie in the folder, and where it can be had.
        module: what must be importable.
        package: what to give to pip.
    """

    weights: str = ""
    device: str = "cpu"

    key: ClassVar[str]
    what: ClassVar[str]
    module: ClassVar[str]
    package: ClassVar[str]

    def describe(self) -> dict[str, Any]:
        """Configuration with the hash of the weights."""
        return {"class": type(self).__name__, **asdict(self), "sha256": weights_hash(self.weights)}

    def check(self) -> str:
        """The folder of the weights; raises InputError without the package, MissingFileError without weights."""
        self.needed()
        advice = f"Put {self.what} into a folder and give it as {self.key}:weights=FOLDER; nothing is downloaded"
        if not self.weights:
            raise MissingFileError(f"the baseline {self.key!r} needs weights and none were given. {advice}")
        folder = Path(self.weights).expanduser()
        if not folder.is_dir():
            raise MissingFileError(f"the baseline {self.key!r} needs weights, but {folder} is no folder. {advice}")
        return str(folder)

    @classmethod
    def needed(cls, module: str = "") -> ModuleType:
        """The package, or another module of it by its full name; raises InputError where it cannot be imported."""
        module = module or cls.module
        try:
            return importlib.import_module(module)
        except ImportError as error:
            raise InputError(
                f"the baseline {cls.key!r} needs {module}, which cannot be imported ({error}); "
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


@dataclass(frozen=True)
class SamPoints(OutsideBaseline):
    """SAM with the points of each slice.

    Attributes:
        label: name in tables, without the number of points; by default "SAM-B", "SAM-L" or "SAM-H" by the weights.
        points: points on every slice of the object; 0 plays the benchmark's own rounds.

    Raises:
        InputError: `points` is no number of at least 0.
    """

    label: str = ""
    points: int = 0

    key = "sam"
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
                f"the baseline {self.key!r} with points={self.points} clicks on every slice of an object, which a "
                f"benchmark played by {type(played).__name__} leaves no room for; leave points out, or take another "
                "benchmark"
            )
        return SlicePointRounds(self.points, played.off_centre, played.jitter, played.seed, played.nsd_mm)

    def start(self, volume: Volume, axis: int, case: str = "", object: str = "") -> SamPointsSession:
        """See `benchmarks.core.rounds.Predictor`; raises as `check`."""
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
    transformers = SamPoints.needed()
    model = transformers.SamModel.from_pretrained(folder, local_files_only=True)
    processor = transformers.SamProcessor.from_pretrained(folder, local_files_only=True)
    return model.to(device).eval(), processor


class SamPointsSession:
    """One object in the hands of a `SamPoints`."""

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


@dataclass(frozen=True)
class Sam2Video(OutsideBaseline):
    """SAM 2 video predictor; `label` is its name in tables."""

    label: str = "SAM 2 video"

    key = "sam2-video"
    what = "a SAM 2 video model in the transformers layout (config.json, model.safetensors)"
    module = "transformers"
    package = "'transformers>=4.56'"

    @property
    def name(self) -> str:
        """Name in tables."""
        return self.label

    def start(self, volume: Volume, axis: int, case: str = "", object: str = "") -> Sam2VideoSession:
        """See `benchmarks.core.rounds.Predictor`; raises as `check`."""
        model = sam2_model(self.check(), self.device)
        return Sam2VideoSession(model, self.needed(SESSIONS), self.device, volume, axis)


@lru_cache(maxsize=1)
def sam2_model(folder: str, device: str) -> Any:
    """The model of a folder, kept for the following cases."""
    return Sam2Video.needed().Sam2VideoModel.from_pretrained(folder, local_files_only=True).to(device).eval()


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
        found = functional.interpolate(logits, self.view.shape, mode="bilinear", align_corners=False)
        return np.asarray(found[0, 0].cpu() > 0)


def video_frames(view: SliceView, side: int) -> Tensor:
    """All slices as the model wants them, float32 (D, 3, side, side)."""
    frames = torch.empty(len(view), 3, side, side)
    mean, std = (torch.tensor(values)[:, None, None] for values in (_MEAN, _STD))
    for index in range(len(view)):
        picture = torch.from_numpy(rgb_slice(view, index)).permute(2, 0, 1)[None].float()
        square = functional.interpolate(picture, (side, side), mode="bilinear", align_corners=False, antialias=True)
        frames[index] = (square[0].round().clamp(0, 255) / 255 - mean) / std
    return frames


@dataclass(frozen=True)
class NnInteractive(OutsideBaseline):
    """nnInteractive with point prompts, and boxes on one slice; its authors call the CPU impractical.

    Attributes:
        threads: threads of torch for it.
        autozoom: let it zoom out for large objects.
        fold: fold of the checkpoint.
    """

    threads: int = 4
    autozoom: bool = True
    fold: int = 0

    key = "nninteractive"
    what = "nnInteractive's model folder (plans.json, dataset.json, inference_info.json, fold_0/checkpoint_final.pth)"
    module = "nnInteractive.inference.inference_session"
    package = "nnInteractive"
    name = "nnInteractive"

    def start(self, volume: Volume, axis: int, case: str = "", object: str = "") -> NnInteractiveSession:
        """See `benchmarks.core.rounds.Predictor`; raises as `check`. Ends the session before."""
        model = nninteractive_model(self.check(), self.device, self.threads, self.autozoom, self.fold)
        return NnInteractiveSession(model, volume, axis)


@lru_cache(maxsize=1)
def nninteractive_model(folder: str, device: str, threads: int, autozoom: bool, fold: int) -> Any:
    """The package's session with weights loaded, kept for the following cases."""
    found = NnInteractive.needed().nnInteractiveInferenceSession(
        device=torch.device(device),
        use_torch_compile=False,
        verbose=False,
        torch_n_threads=threads,
        do_autozoom=autozoom,
    )
    found.initialize_from_trained_model_folder(folder, fold, "checkpoint_final.pth")
    return found


class NnInteractiveSession:
    """One object in the hands of a `NnInteractive`."""

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
