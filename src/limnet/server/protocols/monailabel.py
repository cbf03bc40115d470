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
from collections.abc import Sequence
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
from limnet.server.protocols.annotation import finished, open_image
from limnet.server.protocols.clients import Client, Protocol, ServeOptions
from limnet.server.protocols.datastore import FINAL, Datastore, upload, upload_suffix
from limnet.server.protocols.requests import (
    UnknownError,
    Upload,
    as_object,
    file_of,
    numbers,
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
Points = tuple[tuple[tuple[int, int, int], bool], ...]


@dataclass(eq=False)
class _Image(Client):
    """An image somebody works on: its case, once there was a round, and the points given for every label so far."""

    volume: Volume | None = None
    opened: OpenCase | None = None
    points: dict[str, Points] = field(default_factory=dict)

    def close(self) -> None:
        opened, self.opened = self.opened, None
        if opened is not None:
            opened.close()


class MonaiLabel(Protocol[_Image]):
    """The protocol; its clients are sessions and images of the data store."""

    def __init__(self, workspace: Workspace, options: ServeOptions) -> None:
        super().__init__(workspace, options)
        self.model, self.base, self.labels = options.model, options.base, list(options.labels)
        folder = options.datastore
        self._temporary = tempfile.TemporaryDirectory(prefix="limnet-", ignore_cleanup_errors=True)
        self._folder = Path(self._temporary.name)  # of its owner alone, as all of tempfile's
        if folder is None:
            folder = self._folder / "images"
            folder.mkdir()
        self.datastore = Datastore(folder)
        self.script = recipe()
        self.job: TrainingJob | None = None
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
        """Forget images that nobody works on, and take a model that was trained meanwhile."""
        await self._take_model()
        await super().sweep()

    async def close(self) -> None:
        """Let go of everything."""
        await super().close()
        if self.job is not None:
            await run_in_threadpool(self.job.stop)
        await run_in_threadpool(self._temporary.cleanup)

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
        self.base, self.model = str(found), f"{self.options.model}, fine-tuned {job.folder.name}"

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
            image = self.clients.get(_of_store(name))
            if image is not None and image.opened is not None:
                case = image.opened.case
                with_result = [case.object(label) for label in image.points]
                if with_result:
                    hint = with_result[-1].suggest()
                    found["suggestion"] = {"axis": hint.axis, "slice": hint.index, "reason": hint.reason}
            return found

        return JSONResponse(await run_in_threadpool(choose))

    # images

    async def _start(self, request: Request) -> Response:
        async with self.limits.uploads:
            form = await read_form(request, self.limits)
            self.check_room(len(self.clients))
            sent = file_of(form, "files")
            image = _Image(volume=await run_in_threadpool(self._read, sent))
        self.clients[image.key] = image
        info = {"name": image.key, "image": "", "expiry": int(self.idle), "create_ts": int(time.time())}
        return JSONResponse({"session_id": image.key, "session_info": info})

    def _read(self, sent: Upload) -> Volume:
        with upload(sent.data, upload_suffix(sent.name or ".nii.gz"), self._folder) as path:
            volume = Volume.read(path)
            return replace(volume, array=np.array(volume.array), source=None)

    async def _session(self, request: Request) -> Response:
        key = request.path_params["session"]
        if key not in self.clients:
            raise UnknownError("there is no such session")
        if request.method == "DELETE":
            await self.end(key)
        return JSONResponse({"name": key})

    async def _opened(self, request: Request) -> tuple[_Image, OpenCase]:
        """The image that a request is about, opened if need be."""
        session, name = request.query_params.get("session_id", ""), request.query_params.get("image", "")
        async with self._opening:
            image = self.clients.get(session or _of_store(name))
            if image is None and session:
                raise UnknownError("there is no such session: send the image again")
            if image is None or image.opened is None:
                self.check_room()
                if image is None:
                    path = self.datastore.image(name)
                    volume = await run_in_threadpool(self.workspace.volume, path)
                    image = self.clients[_of_store(name)] = _Image(_of_store(name), volume=volume)
                assert image.volume is not None
                image.opened = await run_in_threadpool(open_image, self.workspace, image.volume)
                if self.clients.get(image.key) is not image:  # ended meanwhile
                    await run_in_threadpool(image.close)
                    raise UnknownError("there is no such session any more: send the image again")
        image.acted = time.monotonic()
        return image, image.opened

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
        image, opened = await self._opened(request)
        started = time.perf_counter()
        async with image.turn:
            gone = self.gone(request)
            if model == CLICKS:
                given = _points(params)
                before = image.points.get(label, ())
                again = bool(params.get("reset_state")) or given[: len(before)] != before
                step = partial(_click, label=label, new=given if again else given[len(before) :], again=again)
                try:
                    await finished(opened.submit(step, label), gone)
                    image.points[label] = given
                except BaseException:
                    image.points.pop(label, None)  # some may have been made: begin again next time
                    raise
            else:
                strokes = await run_in_threadpool(self._strokes, opened.case.volume, file_of(form, "label"))
                image.points.pop(label, None)
                await finished(opened.submit(partial(_draw, label=label, strokes=strokes), label), gone)
            body = await run_in_threadpool(self._mask_file, opened.case, label)
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


def _of_store(name: str) -> str:
    """Key of an image of the data store among the clients."""
    return f"store/{name}"  # no session can be asked for by it


def _points(params: dict[str, Any]) -> Points:
    """Clicks of a request: x, y, z indices as array indices, the positive ones first."""
    found: list[tuple[tuple[int, int, int], bool]] = []
    for name, positive in (("foreground", True), ("background", False)):
        values = params.get(name) or []
        if not isinstance(values, list) or len(values) > 1000:
            raise InputError(f"{name} is a list of points")
        for value in values:
            x, y, z = (round(v) for v in numbers(value, 3, "a point x, y, z"))
            found.append(((z, y, x), positive))
    return tuple(found)


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
