"""The work of one process: objects of one case after the other, each recorded as soon as it is finished.

Every record tells which data it came from ("data": marks of `benchmarks.core.fingerprint`) and which limnet made it
("limnet", "commit"). Finished objects of earlier runs are taken over only where the data is the same; records without
marks, as older versions wrote them, are of unknown data: their objects are run again.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
import torch
from numpy.typing import NDArray

from benchmarks.core.fingerprint import content_mark, files_mark
from benchmarks.core.protocol import Predictor, config_hash, predictor_config
from benchmarks.core.rounds import run_object
from benchmarks.core.suite import Suite
from benchmarks.core.views import make_view, view_path, write_view
from limnet.datasets.objects import BenchObject
from limnet.environment import origin

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
        origin: version and commit of limnet, as they were when the run began.
    """

    suite: Suite
    predictor: Predictor
    views: Path | None = None
    origin: dict[str, Any] = field(default_factory=origin)
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

    def run_case(self, index: int, earlier: Sequence[Record], keep: Callable[[Record], None]) -> list[Record]:
        """Segment all objects of a case that are not finished.

        Nothing is read where earlier runs finished the whole case and its files are still the same.

        Args:
            index: of the case.
            earlier: records of this case from earlier runs with the same key.
            keep: gets every new record. One whose "type" is "error" tells what failed; nothing is raised.

        Returns:
            Those of `earlier` that hold: finished on the data as it is now.
        """
        case = self.suite.cases[index]
        files = files_mark(case, self.suite.rounds)
        known = [r for r in earlier if files is not None and _marks(r).get("files") == files]
        held = _of_content(earlier, {_marks(r).get("content") for r in known})
        if _whole(held) is not None:
            return held
        try:
            volume = case.read_image()
            labels = case.read_labels()
            data = {"files": files, "content": content_mark(case, volume, labels, self.suite.rounds)}
            held = _of_content(earlier, {data["content"]})
            names = _whole(held)
            if names is None:
                names = self._run_objects(replace(case, read_labels=lambda: labels), volume, held, data, keep)
            elif files is None:
                return held
        except Exception as error:  # a damaged file, or labels on another grid: the run goes on with the next case
            keep(self._error(case.name, "", error))
            return held
        if names is not None:
            keep(self._record("case", case.name, "", data) | {"objects": names})
        return held

    def _run_objects(
        self, case: LabelledCase, volume: Volume, held: Sequence[Record], data: Record, keep: Callable[[Record], None]
    ) -> list[str] | None:
        """Names of all objects of a case; None if one of them failed."""
        done = {record["object"] for record in held if record["type"] == "object"}
        names: list[str] = []
        failed = False
        for thing in self.suite.choice_of(case.name).objects(case, volume):
            names.append(thing.object)
            if thing.object not in done:
                seen, asked = own_layers(volume, thing) if self.suite.layered else (volume, thing)
                failed |= not self._run_object(case, seen, asked, data, keep)
        return None if failed else names

    def _run_object(
        self, case: LabelledCase, volume: Volume, thing: BenchObject, data: Record, keep: Callable[[Record], None]
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
                **self._record("object", case.name, thing.object, data),
                "group": group,
                "axis": thing.axis,
                "voxels": int(thing.mask.sum()),
                "rounds": [row.round for row in rows],
                "values": [row.values() for row in rows],
                "clicks": [None if row.zyx is None else [*row.zyx, int(bool(row.positive))] for row in rows],
                "seconds": [round(row.seconds, 4) for row in rows],
                "threads": torch.get_num_threads(),
            }
        )
        return True

    def _look(self, volume: Volume, thing: BenchObject, mask: NDArray[np.bool_]) -> None:
        if self.views is not None:
            view = make_view(volume, thing.axis, thing.mask, mask)
            write_view(view_path(self.views, self.key, thing.case, thing.object), view)

    def _error(self, case: str, object: str, error: Exception) -> Record:
        text = " ".join(f"{type(error).__name__}: {error}".split())
        return self._record("error", case, object, {}) | {"error": text[:500]}

    def _record(self, kind: str, case: str, object: str, data: Record) -> Record:
        return {"type": kind, "key": self.key, "case": case, "object": object, "data": data, **self.origin}


def _marks(record: Record) -> Record:
    """Marks of the data of a record; none in records of older versions."""
    found = record.get("data")
    return found if isinstance(found, dict) else {}


def _of_content(records: Sequence[Record], contents: set[Any]) -> list[Record]:
    """What was finished on data with one of these marks."""
    finished = (record for record in records if record["type"] in ("object", "case"))
    return [record for record in finished if _marks(record).get("content") in contents - {None}]


def _whole(held: Sequence[Record]) -> list[str] | None:
    """Names of all objects of a case if it is finished, objects and all; else None."""
    done = {record["object"] for record in held if record["type"] == "object"}
    for record in held:
        if record["type"] == "case" and done.issuperset(record["objects"]):
            return list(record["objects"])
    return None


def own_layers(volume: Volume, thing: BenchObject) -> tuple[Volume, BenchObject]:
    """Volume and object cut to the slices that show the object."""
    from limnet.volume import Volume

    there = np.flatnonzero(thing.mask.any((1, 2)))
    cut = slice(int(there[0]), int(there[-1]) + 1)
    shown = Volume.from_array(volume.array[cut], volume.spacing, modality=volume.modality)
    return shown, thing._replace(mask=thing.mask[cut])
