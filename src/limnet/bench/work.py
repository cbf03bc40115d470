"""The work of one process: objects of one case after the other, each recorded as soon as it is finished."""

from __future__ import annotations

from collections.abc import Callable, Collection
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray

from limnet.bench.objects import BenchObject
from limnet.bench.protocol import Predictor, config_hash, predictor_config
from limnet.bench.rounds import run_object
from limnet.bench.suite import Suite
from limnet.bench.views import make_view, view_path, write_view

if TYPE_CHECKING:
    from limnet.datasets.labelled import LabelledCase
    from limnet.volume import Volume

Record = dict[str, Any]


@dataclass
class Run:
    """A suite with the predictor that runs it. Can be sent to another process.

    Attributes:
        suite: the suite.
        predictor: the method.
        views: result file beside which a small view of every object is kept; None keeps none.
    """

    suite: Suite
    predictor: Predictor
    views: Path | None = None
    _config: dict[str, Any] = field(default_factory=dict, repr=False)

    @property
    def config(self) -> dict[str, Any]:
        """Configuration of both, as JSON types."""
        if not self._config:
            self._config = {"predictor": predictor_config(self.predictor), **self.suite.config()}
        return self._config

    @property
    def key(self) -> str:
        """Hash of the configuration: finished objects are kept only under the very same one."""
        return config_hash(self.config)

    def run_case(self, index: int, done: Collection[tuple[str, str]], keep: Callable[[Record], None]) -> None:
        """Segment all objects of a case that are not done.

        Args:
            index: of the case.
            done: (case, object) finished in earlier runs; (case, "") where the whole case is.
            keep: gets every new record. One whose "type" is "error" tells what failed; nothing is raised.
        """
        case = self.suite.cases[index]
        if (case.name, "") in done:
            return
        names: list[str] = []
        failed = False
        try:
            volume = case.read_image()
            for thing in self.suite.choice_of(case.name).objects(case, volume):
                names.append(thing.object)
                if (case.name, thing.object) not in done:
                    seen, asked = own_layers(volume, thing) if self.suite.layered else (volume, thing)
                    failed |= not self._run_object(case, seen, asked, keep)
        except Exception as error:  # a damaged file, or labels on another grid: the run goes on with the next case
            keep(self._error(case.name, "", error))
            return
        if not failed:
            keep({"type": "case", "key": self.key, "case": case.name, "object": "", "objects": names})

    def _run_object(
        self, case: LabelledCase, volume: Volume, thing: BenchObject, keep: Callable[[Record], None]
    ) -> bool:
        try:
            rows = run_object(
                self.predictor,
                volume,
                thing.mask,
                thing.axis,
                self.suite.rounds,
                case=case.name,
                object=thing.object,
                on_end=lambda mask: self._look(volume, thing, mask),
            )
        except Exception as error:  # whatever a method raises is its result
            keep(self._error(case.name, thing.object, error))
            return False
        group = thing.group if self.suite.group is None else self.suite.group(case.name, thing.group)
        keep(
            {
                "type": "object",
                "key": self.key,
                "case": case.name,
                "object": thing.object,
                "group": group,
                "axis": thing.axis,
                "voxels": int(thing.mask.sum()),
                "rounds": [row.round for row in rows],
                "values": [row.values() for row in rows],
                "clicks": [None if row.zyx is None else [*row.zyx, int(bool(row.positive))] for row in rows],
                "seconds": [round(row.seconds, 4) for row in rows],
            }
        )
        return True

    def _look(self, volume: Volume, thing: BenchObject, mask: NDArray[np.bool_]) -> None:
        if self.views is not None:
            view = make_view(volume, thing.axis, thing.mask, mask)
            write_view(view_path(self.views, thing.case, thing.object), view)

    def _error(self, case: str, object: str, error: Exception) -> Record:
        text = " ".join(f"{type(error).__name__}: {error}".split())
        return {"type": "error", "key": self.key, "case": case, "object": object, "error": text[:500]}


def own_layers(volume: Volume, thing: BenchObject) -> tuple[Volume, BenchObject]:
    """Volume and object cut to the slices that show the object."""
    from limnet.volume import Volume

    there = np.flatnonzero(thing.mask.any((1, 2)))
    cut = slice(int(there[0]), int(there[-1]) + 1)
    shown = Volume.from_array(volume.array[cut], volume.spacing, modality=volume.modality)
    return shown, thing._replace(mask=thing.mask[cut])
