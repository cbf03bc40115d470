"""A server of `limnet view` with an engine of thresholds: exact masks at once, rounds that can be slowed down."""

from __future__ import annotations

import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import nibabel
import numpy as np

from limnet import InteractiveSegmenter
from limnet.case.state import Engine
from limnet.server.app import view_app
from limnet.server.serving import Background, listen
from limnet.server.view_server import ViewServer
from limnet.server.workspace import Workspace
from limnet.settings import Settings
from tests.helpers.fake_engine import ConstantAssessor, ThresholdPredictor, ThresholdPropagator
from tests.helpers.tiny_networks import small_interaction, small_propagation, small_quality

SHAPE = (20, 40, 48)
BALL = (11, 22, 18)  # centre (z, y, x); bright, 200
SMALL = (5, 10, 38)  # centre of a smaller, brighter one, 300


def phantom() -> np.ndarray:
    """Int16 (20, 40, 48), voxels 3 x 1 x 1 mm: dark, with two balls in it."""
    rng = np.random.default_rng(0)
    volume = rng.normal(-900, 5, SHAPE)
    grid = np.indices(SHAPE).transpose(1, 2, 3, 0) * (3.0, 1.0, 1.0)
    for centre, radius, value in ((BALL, 11, 200), (SMALL, 6, 300)):
        volume[((grid - np.array(centre) * (3.0, 1.0, 1.0)) ** 2).sum(-1) <= radius**2] = value
    return volume.astype(np.int16)


def write_phantom(path: Path, flips: tuple[int, int, int] = (1, 1, 1)) -> Path:
    """As NIfTI; `flips` are the signs of x, y, z in RAS."""
    affine = np.diag([flips[0] * 1.0, flips[1] * 1.0, flips[2] * 3.0, 1.0])
    nibabel.save(nibabel.Nifti1Image(phantom().transpose(2, 1, 0), affine), path)
    return path


class SlowPropagator(ThresholdPropagator):
    """Takes `seconds` for each slice, so that a round can be watched and cancelled."""

    seconds = 0.0

    def propagate(
        self, view: Any, prompts: Any, origin: int, scope: Any, known: Any, progress: Any, *rest: Any, **options: Any
    ) -> Any:
        def slowly(done: int, total: int) -> Any:
            time.sleep(type(self).seconds)
            return progress(done, total) if progress is not None else None

        return super().propagate(view, prompts, origin, scope, known, slowly, *rest, **options)


class ThresholdSegmenter(InteractiveSegmenter):
    """Opens cases driven by thresholds; its networks are never asked."""

    def engine(self, settings: Settings | None = None) -> Engine:
        return Engine(
            ThresholdPredictor(),
            SlowPropagator(),
            ConstantAssessor(0.0, {i: 0.5 + 0.02 * i for i in range(64)}),
            {"name": "thresholds"},
        )


def threshold_segmenter() -> ThresholdSegmenter:
    return ThresholdSegmenter(
        small_interaction(), small_propagation(), small_quality(), settings={"scope": "volume"}, precision="fp32"
    )


@contextmanager
def serving(root: Path, sessions: Path, **options: Any) -> Iterator[tuple[ViewServer, str]]:
    """(server, its address without a token) on a free port."""
    with Workspace(threshold_segmenter(), folder=sessions) as workspace:
        server = ViewServer(workspace, root, **options)
        running = Background(view_app(server), listen(0, 0))
        try:
            yield server, f"http://127.0.0.1:{running.port}"
        finally:
            running.stop()
