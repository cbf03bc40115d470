"""An engine without networks: intensity thresholds in place of learning, calls recorded."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from typing import Any

import numpy as np

from limnet.case.case import Case
from limnet.case.state import Engine
from limnet.image.volume import Volume
from limnet.prompts import Prompt2D
from limnet.settings import Settings


class ThresholdPredictor:
    """Everything as bright as the darkest positive pixel, connected or not; negatives raise the threshold."""

    def __init__(self) -> None:
        self.calls: list[tuple[int, tuple[Prompt2D, ...], np.ndarray | None]] = []

    def predict(
        self, view: Any, index: int, prompts: Sequence[Prompt2D], previous: np.ndarray | None, nearest: Any = None
    ) -> np.ndarray:
        self.calls.append((index, tuple(prompts), None if previous is None else previous.copy()))
        image = view.raw(index)
        image = image if image.ndim == 2 else image.mean(axis=-1)
        clicks = [p for p in prompts if p.kind == "click"]
        marks = [float(image[p.points[0]]) for p in clicks if p.positive]
        level = min(marks) - 20 if marks else 100.0
        result = np.where(image >= level, 0.9, 0.001).astype(np.float32)
        if previous is not None:
            result = np.maximum(result, previous * 0.9)
        return result

    def looks(
        self, view: Any, index: int, prompts: Sequence[Prompt2D], previous: np.ndarray | None
    ) -> list[np.ndarray]:
        return [np.where(view.raw(index) >= level, 0.9, 0.001).astype(np.float32) for level in (100.0, 230.0)]


class ThresholdPropagator:
    """Copies by threshold from the origin, up to an empty prompt; `threshold` may be changed between rounds."""

    def __init__(self, threshold: float = 100.0) -> None:
        self.threshold = threshold
        self.calls: list[tuple[int, str, tuple[int, ...]]] = []
        self.reached: list[tuple[int, int, tuple[int, ...]]] = []

    def propagate_to(self, view: Any, prompts: Mapping[int, np.ndarray], origin: int, target: int) -> np.ndarray:
        self.reached.append((origin, target, tuple(prompts)))
        return np.where(view.raw(target) >= self.threshold, 0.8, 0.0).astype(np.float32)

    def propagate(
        self,
        view: Any,
        prompts: Mapping[int, np.ndarray],
        origin: int,
        scope: str,
        known: Callable[[int], np.ndarray],
        progress: Callable[[int, int], object] | None,
        found: Callable[[int, np.ndarray], None] | None = None,
    ) -> dict[int, np.ndarray]:
        self.calls.append((origin, scope, tuple(prompts)))
        result = {}
        todo = []
        for step in (1, -1):
            i = origin + step
            while 0 <= i < len(view):
                if i in prompts and (scope == "interval" or not (prompts[i] > 0.5).any()):
                    break
                if i not in prompts:
                    todo.append(i)
                i += step
        for done, i in enumerate(todo, start=1):
            image = view.raw(i)
            image = image if image.ndim == 2 else image.mean(axis=-1)
            result[i] = np.where(image >= self.threshold, 0.8, 0.0).astype(np.float32)
            if found is not None:
                found(i, result[i])
            if progress is not None:
                progress(done, len(todo))
        return result


class ConstantAssessor:
    """P(previous is better) and quality as given; a dict gives values per slice."""

    def __init__(self, p: float | dict[int, float] = 0.0, quality: float | dict[int, float] = 0.8) -> None:
        self.p, self.value = p, quality
        self.compared: list[int] = []

    def compare(
        self, view: Any, indices: Sequence[int], previous: Any, current: Any, prompted: Any = None
    ) -> np.ndarray:
        assert len(indices) == len(previous) == len(current)
        self.prompted = prompted
        self.compared += list(indices)
        return self._pick(self.p, indices)

    def quality(self, view: Any, index: int, mask: Any) -> float:
        return float(self._pick(self.value, [index])[0])

    @staticmethod
    def _pick(values: float | dict[int, float], indices: Sequence[int]) -> np.ndarray:
        return np.array([values.get(i, 0.0) if isinstance(values, dict) else values for i in indices], np.float32)


def phantom(shape: tuple[int, int, int] = (12, 40, 48)) -> np.ndarray:
    """Int16 volume: dark noise, a bright ball-like blob (about 200) in the middle, a brighter core (about 260)."""
    rng = np.random.default_rng(0)
    volume = rng.normal(0, 5, shape)
    grid = np.meshgrid(*[np.linspace(-1, 1, n) for n in shape], indexing="ij")
    radius = np.sqrt(sum(g**2 for g in grid))
    volume[radius < 0.6] += 200
    volume[radius < 0.25] += 60
    return volume.astype(np.int16)


def fake_engine(p: float | dict[int, float] = 0.0, quality: float | dict[int, float] = 0.8) -> Engine:
    """Engine of the three fakes."""
    return Engine(ThresholdPredictor(), ThresholdPropagator(), ConstantAssessor(p, quality), {"name": "fake"})


def fake_case(array: np.ndarray | None = None, axis: int = 0, engine: Engine | None = None, **options: Any) -> Case:
    """A case on the phantom (or `array`), driven by the fakes."""
    volume = Volume.from_array(phantom() if array is None else array, spacing=(3.0, 1.0, 1.0))
    options.setdefault("settings", Settings(scope="volume"))
    return Case(engine or fake_engine(), volume, axis=axis, **options)
