"""ClickPredictor: the click network of a model alone, on single pictures."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray

from benchmarks.core.limnet_predictor import LimnetPredictor, LimnetSession
from limnet.errors import InputError
from limnet.interaction.hrnet import HRNetOCR
from limnet.interaction.zoom import ZoomPredictor
from limnet.slice_view import SliceView
from limnet.volume import Volume

if TYPE_CHECKING:
    from benchmarks.core.protocol import Voxel

WAYS = ("auto", "window", "zoom")
THRESHOLD = 0.49  # of RITM's evaluation
ZOOM = 400  # longer side of the crop in network pixels


class ZoomSession:
    """One object on one picture, segmented as RITM's evaluation does.

    Args:
        predictor: used for this object alone.
        image: float (C, H, W) in [0, 1].
    """

    def __init__(self, predictor: ZoomPredictor, image: NDArray[np.float32]) -> None:
        self.predictor = predictor
        self.predictor.set_image(image)
        self._start: NDArray[np.float32] | None = None

    def start_from(self, mask: NDArray[np.bool_]) -> None:
        """The first click sees this mask, (1, H, W), as the result so far; later clicks see results."""
        self._start = mask[0].astype(np.float32)

    def click(self, zyx: Voxel, positive: bool) -> NDArray[np.bool_]:
        """One click; bool (1, H, W)."""
        start, self._start = self._start, None
        return (self.predictor.add_click(zyx[1], zyx[2], positive, previous=start) > THRESHOLD)[None]


@dataclass(frozen=True)
class ClickPredictor(LimnetPredictor):
    """A model of which only the click network is asked, on pictures (volumes of one slice).

    Attributes:
        way: "window": as limnet works, in windows at the object's scale, with its click rules; "zoom": as RITM is
            evaluated (`limnet.interaction.zoom`: mirrored second look, crops from the second click on, fp32), for
            networks with RITM's prompts; "auto": "zoom" for HRNet, else "window".
        zooms: longer side of a zoomed crop by the first part of case names (up to "_"); 400 for all others.

    Raises:
        InputError: another way.
    """

    way: str = "auto"
    zooms: Mapping[str, int] = field(default_factory=dict)

    def __post_init__(self) -> None:
        super().__post_init__()
        if self.way not in WAYS:
            raise InputError(f"way is {self.way!r}; allowed are {', '.join(WAYS)}")

    @property
    def name(self) -> str:
        """Label, or the model with what differs from its own settings."""
        return super().name if self.label or self.way == "auto" else f"{super().name} {self.way}"

    @property
    def chosen_way(self) -> str:
        """The way the network is asked, "window" or "zoom"; loads the model."""
        if self.way != "auto":
            return self.way
        return "zoom" if isinstance(self.segmenter.interaction, HRNetOCR) else "window"

    def describe(self) -> dict[str, Any]:
        """Configuration with the hash of the weights."""
        found = {**super().describe(), "class": "ClickPredictor", "way": self.chosen_way}
        if self.chosen_way == "zoom":
            zoom = {"size": ZOOM, "sizes": dict(self.zooms), "flip": True, "threshold": THRESHOLD}
            found |= {"zoom": zoom, "precision": "fp32"}
        return found

    def start(self, volume: Volume, axis: int) -> LimnetSession:
        """Open a picture; see `Predictor.start`."""
        return self.start_named(volume, axis, "", "")  # type: ignore[return-value]

    def start_named(self, volume: Volume, axis: int, case: str, object: str) -> LimnetSession | ZoomSession:
        """Open a picture; see `NamedPredictor.start_named`.

        Raises:
            InputError: more than one slice, or a network that cannot be asked this way.
        """
        if volume.shape[axis] != 1:
            raise InputError(
                f"a volume of shape {volume.shape} came; the click network alone takes pictures, (1, H, W)"
            )
        if self.chosen_way == "window":
            return super().start(volume, axis)
        network: Any = self.segmenter.interaction
        size = self.zooms.get(case.split("_")[0], ZOOM)
        return ZoomSession(ZoomPredictor.cvpr(network, size), _picture(volume, axis, network.image_channels))


def _picture(volume: Volume, axis: int, channels: int) -> NDArray[np.float32]:
    """(channels, H, W) in [0, 1]; bytes by 255, anything else by the automatic window."""
    view = SliceView(volume, axis, (0.0, 255.0) if volume.array.dtype == np.uint8 else None)
    image = view.gray(0) if channels == 1 else view.image(0)
    return np.repeat(image, channels, axis=0) if image.shape[0] < channels else image
