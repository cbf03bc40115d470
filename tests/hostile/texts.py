"""Prompts files, session files and model folders: what they are made of, how they are damaged, what may come out."""

from __future__ import annotations

import hashlib
import io
import json
import zipfile
from collections.abc import Callable
from pathlib import Path

import numpy as np
import torch
from safetensors.numpy import load as load_safetensors

from limnet.case.case import restore
from limnet.case.session import read_session
from limnet.commands.segment import read_jobs
from limnet.errors import InputError, OutsideError
from limnet.hub.model import load_model
from limnet.image.volume import Volume
from tests.helpers.fake_engine import fake_case, fake_engine, phantom
from tests.helpers.small_segmenter import small_segmenter
from tests.hostile.mutations import Files, as_json, in_bytes, in_json

SHAPE = (6, 24, 24)
Judge = Callable[[Path, bool], str]  # folder, whether checksums cover the damage -> "right" or "as the file says"


class Wrong(Exception):
    """Something came out that is not what went in."""


def prompts() -> Files:
    """A prompts file with every kind of prompt and option."""
    mask = phantom(SHAPE) > 100
    case = fake_case(phantom(SHAPE))
    case.set_mask(mask[2], index=2)
    from limnet.prompts import prompt_to_json

    painted = [prompt_to_json(done.prompt) for done in case.rounds if done.prompt is not None]
    marks = [
        {"type": "click", "point": [3, 12, 12], "positive": True},
        {"type": "scribble", "points": [[3, 10, 10], [3, 12, 14]], "positive": False},
        {"type": "box", "lo": [1, 5, 5], "hi": [4, 18, 18]},
        {"type": "lasso", "points": [[3, 5, 5], [3, 5, 15], [3, 15, 15]], "positive": True},
        *painted,
    ]
    entry = {"volume": "a.npy", "out": "m.nii.gz", "prompts": marks, "axis": 0, "window": [0, 200], "index": None}
    buffer = io.BytesIO()
    np.save(buffer, phantom(SHAPE))
    return {"p.json": as_json([entry, {**entry, "scope": "interval"}]), "a.npy": buffer.getvalue()}


def damaged_prompts(rng: np.random.Generator, files: Files) -> tuple[Files, bool]:
    """Bytes or leaves of the JSON."""
    data = files["p.json"]
    changed = as_json(in_json(rng, json.loads(data))) if rng.random() < 0.7 else in_bytes(rng, data)
    return {**files, "p.json": changed}, False


def judge_prompts(folder: Path, covered: bool) -> str:
    """Every job is read and played on a case, as the command line does it."""
    volume = Volume.read(folder / "a.npy")
    for job in read_jobs(folder / "p.json"):
        case = fake_case(phantom(SHAPE), axis=job.axis or 0)
        before = case.mask.tobytes()
        for prompt in job.prompts(volume):
            try:
                case.prompt(prompt, propagate=False)
            except (InputError, OutsideError):
                if not case.rounds and case.mask.tobytes() != before:
                    raise Wrong("a refused prompt changed the mask") from None
                raise
        if case.mask.shape != SHAPE:
            raise Wrong(f"mask of shape {case.mask.shape}")
    return "as the file says"


def session(folder: Path) -> Files:
    """A session with two objects, an undo and the voxels inside."""
    case = fake_case(phantom(SHAPE))
    case.click((3, 12, 12))
    case.object("liver").scribble([(2, 8, 8), (2, 12, 12)])
    case.box((1, 5, 5), (4, 18, 18))
    case.undo()
    return {"s.limnet": case.save_session(folder / "s.limnet").read_bytes()}


def damaged_session(rng: np.random.Generator, files: Files) -> tuple[Files, bool]:
    """Bytes; or a leaf of case.json or bytes of another part, with right checksums."""
    data = files["s.limnet"]
    if rng.random() < 0.5:
        return {"s.limnet": in_bytes(rng, data)}, True
    with zipfile.ZipFile(io.BytesIO(data)) as archive:
        parts = {name: archive.read(name) for name in archive.namelist()}
    manifest = json.loads(parts.pop("manifest.json"))
    name = "case.json" if rng.random() < 0.7 else str(rng.choice(sorted(parts)))
    if name == "case.json":
        parts[name] = as_json(in_json(rng, json.loads(parts[name])))
    else:
        parts[name] = in_bytes(rng, parts[name])
    manifest["sha256"] = {key: hashlib.sha256(value).hexdigest() for key, value in parts.items()}
    if rng.random() < 0.1:
        manifest = in_json(rng, manifest)
    buffer = io.BytesIO()
    with zipfile.ZipFile(buffer, "w") as archive:
        for key, value in {"manifest.json": as_json(manifest), **parts}.items():
            archive.writestr(key, value)
    return {"s.limnet": buffer.getvalue()}, False


def session_judge(files: Files, folder: Path) -> Judge:
    """Opened and gone through, there and back."""
    (folder / "s.limnet").write_bytes(files["s.limnet"])
    whole = restore(read_session(folder / "s.limnet"), fake_engine())
    expected = whole.mask.tobytes(), whole.labels.tobytes()

    def judge(place: Path, covered: bool) -> str:
        case = restore(read_session(place / "s.limnet"), fake_engine())
        case._autosave = None
        if case.mask.shape != case.volume.shape or case.labels.shape != case.volume.shape:
            raise Wrong("a mask has another shape than the volume")
        same = (case.mask.tobytes(), case.labels.tobytes()) == expected
        if covered and not same:
            raise Wrong("other masks from a damaged session")
        for steps in (case.undo, case.redo):
            while True:
                try:
                    steps()
                except IndexError:
                    break
        return "right" if same else "as the file says"

    return judge


def model(folder: Path) -> Files:
    """A model folder of three small networks."""
    small_segmenter().save_pretrained(folder)
    return {str(p.relative_to(folder)): p.read_bytes() for p in sorted(folder.rglob("*")) if p.is_file()}


def damaged_model(rng: np.random.Generator, files: Files) -> tuple[Files, bool]:
    """Bytes of any file, leaves of the JSON files, a file that is missing."""
    name = str(rng.choice(sorted(files)))
    if rng.random() < 0.05:
        return {key: data for key, data in files.items() if key != name}, False
    if name.endswith(".json") and rng.random() < 0.7:
        return {**files, name: as_json(in_json(rng, json.loads(files[name])))}, False
    return {**files, name: in_bytes(rng, files[name])}, False


def judge_model(folder: Path, covered: bool) -> str:
    """Weights as safetensors itself reads them, every one finite."""
    found = load_model(folder)
    for role in ("interaction", "propagation", "quality"):
        network = getattr(found, role)
        if network is None:
            continue
        for path in folder.glob(f"{role}/model.safetensors"):
            raw = load_safetensors(path.read_bytes())
            state = network.state_dict()
            if any(not np.allclose(state[key].numpy(), raw[key]) for key in raw):
                raise Wrong("other weights than in the file")
            if not all(bool(torch.isfinite(value).all()) for value in state.values()):
                raise Wrong("weights that are not finite")
    return "as the file says"
