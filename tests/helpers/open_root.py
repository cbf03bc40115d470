"""The open volumes in small, with manifest.json as the analysis scripts read it, and a model without networks."""

from __future__ import annotations

import json
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np

from limnet.case.state import Engine
from limnet.settings import Settings
from tests.helpers.fake_engine import ThresholdPropagator, fake_engine, phantom

SHAPE = (8, 32, 40)


def open_root(root: Path) -> Path:
    """Two validation volumes of two groups, with one and two objects."""
    image = phantom(SHAPE)
    entries = []
    for file, labels in (("val/ts_ct_one.npz", (1,)), ("val/openms_two.npz", (1, 2))):
        label = (image > 100).astype(np.uint8)
        label[image > 230] = labels[-1]
        (root / file).parent.mkdir(parents=True, exist_ok=True)
        np.savez_compressed(root / file, image=image, label=label, spacing=np.array([2.0, 1.0, 1.0], np.float32))
        names = {"1": "ball", "2": "core"}
        entries.append({"file": file, "kind": "volume", "labels": {str(i): names[str(i)] for i in labels}})
    (root / "manifest.json").write_text(json.dumps({"volumes": entries}))
    return root


class WanderingPropagator(ThresholdPropagator):
    """Another threshold in every round: now the core alone, now noise as well."""

    def propagate(self, *arguments: Any, **options: Any) -> dict[int, np.ndarray]:
        self.threshold = (230.0, 4.0, 120.0)[len(self.calls) % 3]
        return super().propagate(*arguments, **options)


class ThresholdSegmenter:
    """What the scripts need of a segmenter, with `fake_engine` inside: whole rounds in a millisecond."""

    def __init__(self, name: str = "fake", settings: Settings | None = None) -> None:
        self.name, self.settings = name, settings or Settings(tau=0.8)
        self.identity = {"name": name}
        self.quality = "an assessor with numbers of its own"
        self.used: list[Settings] = []

    def engine(self, settings: Settings | None = None) -> Engine:
        self.used.append(settings or self.settings)
        engine = fake_engine(p=dict(enumerate((0.9, 0.1) * SHAPE[0])))
        return replace(engine, propagator=WanderingPropagator())
