"""The REST interface of MONAI Label, as its module for 3D Slicer uses it.

Model `limnet` is of the kind "deepgrow": every request repeats all points of an object, new ones are rounds, a missing
one starts the object again. Model `limnet-scribbles` takes a label map with strokes.
"""

from __future__ import annotations

import asyncio
import json
import secrets
import tempfile
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field, replace
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
from starlette.concurrency import run_in_threadpool
from starlette.requests import Request
from starlette.responses import FileResponse, JSONResponse, Response
from starlette.routing import Route

from limnet._version import __version__
from limnet.errors import InputError, LimnetError
from limnet.image.io.masks import read_labels
from limnet.image.volume import Volume
from limnet.prompts import Click, Scribble
from limnet.server.open_case import OpenCase
from limnet.server.protocols.annotation import finished
from limnet.server.protocols.datastore import FINAL, Datastore, upload, upload_suffix
from limnet.server.protocols.requests import (
    Limits,
    UnknownError,
    Upload,
    as_object,
    check_room,
    file_of,
    hung_up,
    part,
    read_form,
    read_json,
)
from limnet.server.training_job import TrainingJob, recipe
from limnet.server.workspace import Workspace

if TYPE_CHECKING:
    from limnet.case.case import Case

CLICKS, STROKES = "limnet", "limnet-scribbles"
STRATEGY = "limnet"
_IDLE_SECONDS = 3600.0
Points = tuple[tuple[tuple[int, int, int], bool], ...]


@dataclass(eq=False)
class _Image:
    """An image somebody works on: its case, and the points given for every label so far."""

    opened: OpenCase
    acted: float
    points: dict[str, Points] = field(default_factory=dict)
    turn: asyncio.Lock = field(default_factory=asyncio.Lock)


class MonaiLabel:
    """The protocol on a workspace.

    Args:
        workspace: Where rounds are computed.
        limits: How much clients may ask for.
        model: Name of the model, for people.
        labels: Names of structures that clients offer at first.
        folder: Folder of images and labels; None for one that ends with the server.
        base: Name or folder of the model, that a training starts from.
        clock: Seconds; for tests.
    """

    def __init__(
        self,
        workspace: Workspace,
        limits: Limits,
        model: str,
        labels: Sequence[str] = ("object",),
        folder: Path | None = None,
        base: str = "limnet-tiny",
        clock: Callable[[], float] = time.monotonic,
    ) -> None:
        self.workspace, self.limits, self.model, self.labels = workspace, limits, model, list(labels)
        self._temporary = tempfile.TemporaryDirectory(prefix="limnet-", ignore_cleanup_errors=True)
        self._folder = Path(self._temporary.name)  # of its owner alone, as all of tempfile's
        if folder is None:
            folder = self._folder / "images"
            folder.mkdir()
        self.datastore = Datastore(folder)
        self.clock = clock
        self.script = recipe()
        self.base = base
        self._first = model
        self.job: TrainingJob | None = None
        self.sessions: dict[str, Volume] = {}
        self.images: dict[tuple[str, str], _Image] = {}
        self._opening = asyncio.Lock()

    def routes(self) -> list[Route]:
        """Its addresses."""
        return [
            Route("/auth/", self._auth),
            Route("/info/", self._info),
            Route("/session/", self._start, methods=["PUT"]),
            Route("/session/{session}", self._session, methods=["GET", "DELETE"]),
            Route("/infer/{model}", self._infer, methods=["POST"]),
            Route("/datastore/", self._list),
            Route("/datastore/", self._add_image, methods=["PUT"]),
            Route("/datastore/image", self._image_file),
            Route("/datastore/image", self._add_image, methods=["PUT"]),
            Route("/datastore/label", self._label_file),
            Route("/datastore/label", self._add_label, methods=["PUT"]),
            Route("/activelearning/{strategy}", self._next, methods=["POST"]),
            Route("/train/", self._training, methods=["GET", "POST", "DELETE"]),
            Route("/train/{model}", self._training, methods=["POST"]),
        ]

    async def sweep(self) -> None:
        """Let go of images that nobody works on, and take a model that was trained meanwhile."""
        await self._take_model()
        for key, image in list(self.images.items()):
            if self.clock() - image.acted > _IDLE_SECONDS:
                await self._drop(key)

    async def close(self) -> None:
        """Let go of everything."""
        for key in list(self.images):
            await self._drop(key)
        self.sessions.clear()
        if self.job is not None:
            await run_in_threadpool(self.job.stop)
        await run_in_threadpool(self._temporary.cleanup)

    async def _drop(self, key: tuple[str, str]) -> None:
        image = self.images.pop(key, None)
        self.sessions.pop(key[0], None)
        if image is not None:
            await run_in_threadpool(image.opened.close)

    # what there is

    async def _auth(self, request: Request) -> Response:
        return JSONResponse({"enabled": False})

    async def _info(self, request: Request) -> Response:
        def about(kind: str, text: str) -> dict[str, Any]:
            labels = {name: number for number, name in enumerate(self.labels, start=1)}
            return {"type": kind, "labels": labels, "dimension": 3, "description": text, "config": {}}

        trainers, stats = self._trainers()
        return JSONResponse(
            {
                "name": f"limnet ({self.model})",
                "description": "Interactive segmentation by clicks and strokes, slice to slice",
                "version": __version__,
                "labels": self.labels,
                "models": {
                    CLICKS: about("deepgrow", "A click segments the slice and is carried through the volume"),
                    STROKES: about("scribbles", "Strokes on any plane"),
                },
                "trainers": trainers,
                "strategies": {STRATEGY: {"description": "Images without labels first"}},
                "scoring": {},
                "train_stats": stats,
                "datastore": await run_in_threadpool(self.datastore.status),
            }
        )

    # training

    async def _training(self, request: Request) -> Response:
        if self.script is None:
            return JSONResponse({"detail": "this server cannot train: it needs a checkout and limnet[train]"}, 404)
        if request.method == "POST":
            if request.path_params.get("model", CLICKS) != CLICKS:
                raise UnknownError(f"the model that can be trained is {CLICKS!r}")
            await read_json(request)
            async with self._opening:
                if self.job is not None and self.job.running:
                    return JSONResponse({"detail": "a training runs already"}, 429)
                start = partial(TrainingJob.start, self.datastore, self.base, self.script)
                self.job = await run_in_threadpool(start)
        job = self.job
        if job is None:
            return JSONResponse({"detail": "no training was started"}, 404)
        if request.method == "DELETE":
            await run_in_threadpool(job.stop)
        await self._take_model()
        if request.query_params.get("check_if_running", "").lower() == "true" and not job.running:
            return JSONResponse({"detail": "no training runs"}, 404)
        return JSONResponse(await run_in_threadpool(job.state))

    def _trainers(self) -> tuple[dict[str, Any], dict[str, Any]]:
        """What can be trained, and how far it is."""
        if self.script is None:
            return {}, {}
        stats: dict[str, Any] = {"epoch": 0, "total_epochs": 1, "best_metric": 0.0}
        if self.job is not None:
            measured = self.job.measured()
            stats["best_metric"] = max(measured) if measured else 0.0
            stats["epoch"], stats["total_epochs"] = self.job.progress()
            if not self.job.running:
                stats["total_time"] = "done"
        return {CLICKS: {"description": "Fine-tune on the submitted labels", "config": {}}}, {CLICKS: stats}

    async def _take_model(self) -> None:
        """Use a better model for images opened from now on."""
        job = self.job
        found = None if job is None or job.running or job.taken else job.better_model
        if job is None or found is None:
            return
        job.taken = True  # once: another request may come while it loads

        def load() -> None:
            from limnet.segmenter import InteractiveSegmenter

            self.workspace.use(InteractiveSegmenter.from_pretrained(found, device=self.workspace.segmenter.device))

        try:
            await run_in_threadpool(load)
        except (LimnetError, OSError) as error:
            job.fault = f"the new model could not be loaded ({error}): the model in use stays"
            return
        self.base, self.model = str(found), f"{self._first}, fine-tuned {job.folder.name}"

    async def _next(self, request: Request) -> Response:
        if request.path_params["strategy"] != STRATEGY:
            raise UnknownError(f"the only strategy is {STRATEGY!r}")
        await read_json(request)

        def choose() -> dict[str, Any]:
            images = self.datastore.images()
            open_images = [name for name in images if FINAL not in self.datastore.labels(name)]
            if not open_images:
                return {}
            name = open_images[0]
            found = {"id": name, "name": images[name].name, "path": str(images[name]), "weight": 1.0}
            image = self.images.get(("", name))
            if image is not None:
                with_result = [image.opened.case.object(label) for label in image.points]
                if with_result:
                    hint = with_result[-1].suggest()
                    found["suggestion"] = {"axis": hint.axis, "slice": hint.index, "reason": hint.reason}
            return found

        return JSONResponse(await run_in_threadpool(choose))

    # images

    async def _start(self, request: Request) -> Response:
        async with self.limits.uploads:
            form = await read_form(request, self.limits)
            check_room(max(len(self.sessions), len(self.workspace.cases)), self.limits)
            sent = file_of(form, "files")
            volume = await run_in_threadpool(self._read, sent)
        key = secrets.token_hex(16)
        self.sessions[key] = volume
        info = {"name": key, "image": "", "expiry": int(_IDLE_SECONDS), "create_ts": int(time.time())}
        return JSONResponse({"session_id": key, "session_info": info})

    def _read(self, sent: Upload) -> Volume:
        with upload(sent.data, upload_suffix(sent.name or ".nii.gz"), self._folder) as path:
            volume = Volume.read(path)
            return replace(volume, array=np.array(volume.array), source=None)

    async def _session(self, request: Request) -> Response:
        key = request.path_params["session"]
        if key not in self.sessions:
            raise UnknownError("there is no such session")
        if request.method == "DELETE":
            await self._drop((key, ""))
            self.sessions.pop(key, None)
        return JSONResponse({"name": key})

    async def _image(self, request: Request) -> _Image:
        """The image that a request is about, opened if need be."""
        session, name = request.query_params.get("session_id", ""), request.query_params.get("image", "")
        key = (session, "") if session else ("", name)
        async with self._opening:
            found = self.images.get(key)
            if found is None:
                check_room(len(self.workspace.cases), self.limits)
                if session:
                    volume = self.sessions.get(session)
                    if volume is None:
                        raise UnknownError("there is no such session: send the image again")
                else:
                    path = self.datastore.image(name)
                    volume = await run_in_threadpool(self.workspace.volume, path)
                found = self.images[key] = _Image(await run_in_threadpool(self._open, volume), self.clock())
        found.acted = self.clock()
        return found

    def _open(self, volume: Volume) -> OpenCase:
        axis = 0 if volume.is_color else int(np.argmax(np.round(volume.spacing, 3)))
        return self.workspace.open(volume, title="image of MONAI Label", keep=False, axis=axis)

    # rounds

    async def _infer(self, request: Request) -> Response:
        model = request.path_params["model"]
        if model not in (CLICKS, STROKES):
            raise UnknownError(f"there is no model {model[:40]!r}: there are {CLICKS} and {STROKES}")
        async with self.limits.uploads:
            form = await read_form(request, self.limits)
        params = as_object(part(form, "params") if "params" in form else b"{}", "params")
        label = params.get("label") or self.labels[0]
        if not isinstance(label, str) or not label.strip() or len(label) > 200:
            raise InputError("label is the name of a structure")
        image = await self._image(request)
        started = time.perf_counter()
        async with image.turn:
            gone = hung_up(request, self.limits.seconds)
            if model == CLICKS:
                given = _points(params)
                before = image.points.get(label, ())
                again = bool(params.get("reset_state")) or given[: len(before)] != before
                step = partial(_click, label=label, new=given if again else given[len(before) :], again=again)
                try:
                    await finished(image.opened.submit(step, label), gone)
                    image.points[label] = given
                except BaseException:
                    image.points.pop(label, None)  # some may have been made: begin again next time
                    raise
            else:
                strokes = await run_in_threadpool(self._strokes, image.opened.case.volume, file_of(form, "label"))
                image.points.pop(label, None)
                await finished(image.opened.submit(partial(_draw, label=label, strokes=strokes), label), gone)
            body = await run_in_threadpool(self._mask_file, image.opened.case, label)
        about = {
            "label_names": {label: 1},
            "label": label,
            "latencies": {"total": round(time.perf_counter() - started, 3)},
        }
        output = request.query_params.get("output", "all")
        if output == "json":
            return JSONResponse(about)
        if output == "image":
            return Response(body, media_type="application/gzip", headers=_attachment("mask.nii.gz"))
        return _multipart(about, body)

    def _strokes(self, volume: Volume, sent: Upload) -> list[Scribble]:
        with upload(sent.data, upload_suffix(sent.name), self._folder) as path:
            drawn = read_labels(path, volume)
        # MONAI Label counts strokes after the labels: first those of the background, then those of the object
        negative, positive = drawn == len(self.labels) + 1, drawn == len(self.labels) + 2
        strokes = [(negative, False), (positive, True)]
        found = [Scribble.of(mask, sign) for mask, sign in strokes if mask.any()]
        if not found:
            raise InputError("the label map holds no strokes")
        return found[::-1]  # the object first

    def _mask_file(self, case: Case, label: str) -> bytes:
        path = self._folder / f".{secrets.token_hex(8)}-mask.nii.gz"
        try:
            case.volume.write_mask(case.object(label).mask, path)
            return path.read_bytes()
        finally:
            path.unlink(missing_ok=True)

    # the data store

    async def _list(self, request: Request) -> Response:
        output = request.query_params.get("output", "stats")
        made = self.datastore.listing if output == "all" else self.datastore.status
        return JSONResponse(await run_in_threadpool(made))

    async def _add_image(self, request: Request) -> Response:
        async with self.limits.uploads:
            form = await read_form(request, self.limits)
            sent, name = file_of(form, "file"), request.query_params.get("image", "")
            name = await run_in_threadpool(self.datastore.add_image, name, sent.data, sent.name)
        return JSONResponse({"image": name})

    async def _add_label(self, request: Request) -> Response:
        query = request.query_params
        name, tag = query.get("image", ""), query.get("tag", "") or FINAL
        async with self.limits.uploads:
            form = await read_form(request, self.limits)
            sent = file_of(form, "label")
            volume = await run_in_threadpool(self.workspace.volume, self.datastore.image(name))
            await run_in_threadpool(self.datastore.add_label, name, tag, sent.data, sent.name, volume)
        return JSONResponse({"image": name, "label": name})

    async def _image_file(self, request: Request) -> Response:
        path = self.datastore.image(request.query_params.get("image", ""))
        if path.is_dir():
            raise InputError("this image is a folder and cannot be sent as one file")
        return FileResponse(path, filename=path.name)

    async def _label_file(self, request: Request) -> Response:
        query = request.query_params
        path = self.datastore.labels(query.get("label", "")).get(query.get("tag", "") or FINAL)
        if path is None:
            raise UnknownError("there is no such label map")
        return FileResponse(path, filename=path.name)


def _points(params: dict[str, Any]) -> Points:
    """Clicks of a request: x, y, z indices as array indices, the positive ones first."""
    found: list[tuple[tuple[int, int, int], bool]] = []
    for name, positive in (("foreground", True), ("background", False)):
        values = params.get(name) or []
        if not isinstance(values, list) or len(values) > 1000:
            raise InputError(f"{name} is a list of points")
        for value in values:
            if not isinstance(value, list) or len(value) != 3 or not all(_is_number(v) for v in value):
                raise InputError(f"a point is three numbers x, y, z, got {str(value)[:60]}")
            x, y, z = (round(v) for v in value)
            found.append(((z, y, x), positive))
    return tuple(found)


def _is_number(value: Any) -> bool:
    return isinstance(value, (int, float)) and not isinstance(value, bool) and abs(value) < 1e9


def _click(case: Case, *, label: str, new: Points, again: bool, **watch: Any) -> None:
    target = case.object(label)
    if again and target.rounds:
        target.reset()
    for number, (point, positive) in enumerate(new, start=1):
        target.prompt(Click(point, positive), propagate=not again or number == len(new), **watch)


def _draw(case: Case, *, label: str, strokes: Sequence[Scribble], **watch: Any) -> None:
    target = case.object(label)
    if target.rounds:  # every request has all strokes
        target.reset()
    for number, stroke in enumerate(strokes, start=1):
        target.prompt(stroke, propagate=number == len(strokes), **watch)


def _attachment(name: str) -> dict[str, str]:
    return {"Content-Disposition": f'attachment; filename="{name}"'}


def _multipart(about: dict[str, Any], body: bytes) -> Response:
    """The answer as MONAI Label's client reads it: a field "params" and one file."""
    boundary = secrets.token_hex(16)
    head = (
        f'--{boundary}\r\nContent-Disposition: form-data; name="params"\r\nContent-Type: application/json\r\n\r\n'
        f"{json.dumps(about)}\r\n--{boundary}\r\n"
        'Content-Disposition: form-data; name="image"; filename="mask.nii.gz"\r\nContent-Type: application/gzip\r\n\r\n'
    )
    content = head.encode() + body + f"\r\n--{boundary}--\r\n".encode()
    return Response(content, media_type=f"multipart/form-data; boundary={boundary}")
