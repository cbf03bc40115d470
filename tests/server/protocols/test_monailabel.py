"""The interface of MONAI Label: by its own client where that is installed, and by plain requests."""

from __future__ import annotations

import importlib.util
import json
from collections.abc import Iterator
from email import message_from_bytes
from pathlib import Path
from types import ModuleType
from typing import Any

import httpx
import nibabel
import numpy as np
import pytest

from limnet.image.volume import Volume
from tests.helpers.recipes import module_of
from tests.helpers.small_segmenter import small_segmenter
from tests.server.serving import CENTRE, SHAPE, image, served

XYZ = list(reversed(CENTRE))


def write(path: Path, array: np.ndarray) -> Path:
    """NIfTI with an affine of its own."""
    affine = np.array([[-0.8, 0, 0, 11], [0, 0.8, 0, -7], [0, 0, 3.0, 5], [0, 0, 0, 1]])
    nibabel.save(nibabel.Nifti1Image(array.T, affine), path)
    return path


@pytest.fixture(scope="module")
def store(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("store")
    write(folder / "one.nii.gz", image())
    write(folder / "two.nii.gz", image()[:, ::-1].copy())
    return folder


@pytest.fixture(scope="module")
def url(store: Path, tmp_path_factory: pytest.TempPathFactory) -> Iterator[str]:
    folder = tmp_path_factory.mktemp("served")
    with served(folder, datastore=store, labels=["liver", "spleen"], model="limnet-tiny") as (address, _):
        yield address


def infer(url: str, query: str, params: dict[str, Any], model: str = "limnet", **files: Any) -> httpx.Response:
    parts = {"params": (None, json.dumps(params)), **files}
    return httpx.post(f"{url}/infer/{model}?{query}", files=parts, timeout=60)


def mask_of(answer: httpx.Response, tmp_path: Path) -> tuple[np.ndarray, dict[str, Any]]:
    assert answer.status_code == 200, answer.text
    head = f"Content-Type: {answer.headers['content-type']}\r\n\r\n".encode()
    params, file = message_from_bytes(head + answer.content).get_payload()
    (tmp_path / file.get_filename()).write_bytes(file.get_payload(decode=True))
    found = nibabel.load(tmp_path / file.get_filename())
    return np.asarray(found.dataobj).T > 0, json.loads(params.get_payload())


def test_what_clients_read(url: str) -> None:
    assert httpx.get(f"{url}/auth/").json() == {"enabled": False}
    info = httpx.get(f"{url}/info/").json()
    assert info["labels"] == ["liver", "spleen"]
    assert {name: m["type"] for name, m in info["models"].items()} == {
        "limnet": "deepgrow",
        "limnet-scribbles": "scribbles",
    }
    assert info["datastore"]["total"] == 2
    assert not info.get("config")


def test_points_are_rounds(url: str, store: Path, tmp_path: Path) -> None:
    volume = Volume.read(store / "one.nii.gz")
    case = small_segmenter().open(volume)
    more = {"label": "liver", "foreground": [XYZ], "background": []}
    mask, about = mask_of(infer(url, "image=one", more), tmp_path)
    assert about["label_names"] == {"liver": 1}
    assert np.array_equal(mask, case.click(CENTRE))
    more["background"] = [[3.2, 4, 7]]
    mask, _ = mask_of(infer(url, "image=one", more), tmp_path)
    assert np.array_equal(mask, case.click((7, 4, 3), False))
    more["foreground"], more["background"] = [[20, 16, 3]], []  # one was removed: begin again
    mask, _ = mask_of(infer(url, "image=one", more), tmp_path)
    fresh = small_segmenter().open(volume)
    assert np.array_equal(mask, fresh.click((3, 16, 20)))
    spleen, _ = mask_of(infer(url, "image=one", {"label": "spleen", "foreground": [[5, 5, 2]]}), tmp_path)
    assert spleen[2, 5, 5]
    assert infer(url, "image=one&output=json", more).json()["label"] == "liver"
    bare = infer(url, "image=one&output=image", more)
    assert bare.content[:2] == b"\x1f\x8b"


def test_a_session_of_an_uploaded_image(url: str, tmp_path: Path) -> None:
    path = write(tmp_path / "ct.nii.gz", image())
    files = {"files": ("/home/somebody/../ct.nii.gz", path.read_bytes())}
    session = httpx.put(f"{url}/session/", files=files, data={"client_id": "x"}).json()["session_id"]
    mask, _ = mask_of(infer(url, f"image=&session_id={session}", {"foreground": [XYZ]}), tmp_path)
    assert mask[CENTRE]
    found = nibabel.load(tmp_path / "mask.nii.gz")
    assert np.allclose(found.affine, nibabel.load(path).affine)
    assert httpx.get(f"{url}/session/{session}").status_code == 200
    assert httpx.delete(f"{url}/session/{session}").status_code == 200
    assert infer(url, f"session_id={session}", {"foreground": [XYZ]}).status_code == 404


def test_strokes(url: str, store: Path, tmp_path: Path) -> None:
    drawn = np.zeros(SHAPE, np.uint8)
    drawn[7, 16, 10:30], drawn[7, 3, 3:9] = 4, 3
    path = write(tmp_path / "strokes.nii.gz", drawn)
    label = ("/tmp/x.nii.gz", path.read_bytes())
    answer = infer(url, "image=two", {"label": "liver"}, "limnet-scribbles", label=label)
    mask, _ = mask_of(answer, tmp_path)
    assert mask[drawn == 4].all()
    assert not mask[drawn == 3].any()
    empty = ("x.nii.gz", write(tmp_path / "e.nii.gz", np.zeros(SHAPE, np.uint8)).read_bytes())
    assert infer(url, "image=two", {}, "limnet-scribbles", label=empty).status_code == 400


def test_the_data_store(url: str, store: Path, tmp_path: Path) -> None:
    assert httpx.post(f"{url}/activelearning/limnet", json={}).json()["id"] == "one"
    label = {"label": ("a.nii.gz", write(tmp_path / "l.nii.gz", (image() > 100).astype(np.uint8)).read_bytes())}
    assert httpx.put(f"{url}/datastore/label?image=one", files=label).json() == {"image": "one", "label": "one"}
    assert (store / "labels" / "final" / "one.nii.gz").is_file()
    assert httpx.post(f"{url}/activelearning/limnet", json={}).json()["id"] == "two"
    assert httpx.get(f"{url}/datastore/").json() == {"total": 2, "completed": 1, "label_tags": {"final": 1}}
    listing = httpx.get(f"{url}/datastore/?output=all").json()["objects"]
    assert listing["one"]["labels"]["final"]["ext"] == ".nii.gz"
    sent = httpx.get(f"{url}/datastore/label?label=one&tag=final")
    assert sent.content == (store / "labels" / "final" / "one.nii.gz").read_bytes()
    assert 'filename="one.nii.gz"' in sent.headers["content-disposition"]
    assert httpx.get(f"{url}/datastore/image?image=two").content == (store / "two.nii.gz").read_bytes()
    small = {"label": ("a.nii.gz", write(tmp_path / "s.nii.gz", np.ones((2, 3, 4), np.uint8)).read_bytes())}
    assert httpx.put(f"{url}/datastore/label?image=two", files=small).status_code == 400
    assert httpx.put(f"{url}/datastore/label?image=nowhere", files=label).status_code == 404
    new = {"file": ("/a/b/three.nii.gz", (store / "one.nii.gz").read_bytes())}
    assert httpx.put(f"{url}/datastore/?image=", files=new).json() == {"image": "three"}
    assert httpx.put(f"{url}/datastore/?image=three", files=new).status_code == 400, "never over another image"
    for bad in ("../x", "a/b", ".hidden", "x" * 200, "a\0b"):
        assert httpx.put(f"{url}/datastore/", params={"image": bad}, files=new).status_code == 400, bad
    for name in ("..", "/etc/passwd", "labels", ".one"):
        assert httpx.get(f"{url}/datastore/image", params={"image": name}).status_code == 404
        assert httpx.get(f"{url}/datastore/label", params={"label": name, "tag": "../.."}).status_code == 404
    broken = {"file": ("x.nii.gz", b"nonsense")}
    assert httpx.put(f"{url}/datastore/?image=four", files=broken).status_code == 400
    left = sorted(p.name for p in store.iterdir())
    assert left == ["labels", "one.nii.gz", "three.nii.gz", "two.nii.gz"], "no traces of what was refused"


def test_what_is_refused(url: str) -> None:
    assert infer(url, "image=one", {}, model="other").status_code == 404
    assert infer(url, "image=nowhere", {}).status_code == 404
    for params in ({"foreground": "x"}, {"foreground": [[1, 2]]}, {"foreground": [[99, 0, 0]]}, {"label": 5}):
        assert infer(url, "image=one", params).status_code == 400, params
    assert httpx.post(f"{url}/infer/limnet?image=one", json={}).status_code == 400
    assert httpx.post(f"{url}/train/other", json={}).status_code == 404
    assert httpx.put(f"{url}/session/", files={"files": ("a.exe", b"x")}).status_code == 400


RECIPE = """
import argparse, json, shutil, sys, time
from pathlib import Path
parser = argparse.ArgumentParser()
for name in ("--data", "--root", "--init", "--out", "--steps", "--cache"):
    parser.add_argument(name)
options = parser.parse_args()
store = Path(options.root).parents[2]
names = [sorted(p.name for p in (Path(options.root) / kind).iterdir()) for kind in ("images", "masks")]
print("trains on", names, "from", options.init, flush=True)
if (store / "broken").exists():
    sys.exit("stage3: this label map is broken")
print("GPU available: False, used: False\\n┏━━━┓\\n│ 0 │\\n/lib/x.py:242: Precision ...", file=sys.stderr, flush=True)
print(f"step 7 of {options.steps}, 1 min left", file=sys.stderr, flush=True)
if (store / "slow").exists():
    time.sleep(60)
out = Path(options.out)
shutil.copytree(store.parent / "trained", out / "model")
after = 0.5 if (store / "worse").exists() else 0.6
(out / "result.json").write_text(json.dumps({"before": {"dice_1": 0.5}, "after": {"dice_1": after}}))
"""


def test_training_in_the_background(tmp_path: Path) -> None:
    small_segmenter().save_pretrained(tmp_path / "trained")
    store, script = tmp_path / "store", tmp_path / "recipe.py"
    (store / "labels" / "final").mkdir(parents=True)
    script.write_text(RECIPE, encoding="utf-8")
    for name in ("a", "b", "c"):
        write(store / f"{name}.nii.gz", image())
    write(store / "labels" / "final" / "a.nii.gz", (image() > 100).astype(np.uint8))
    with served(tmp_path, datastore=store) as (url, serve):
        serve.monailabel.script = script
        assert list(httpx.get(f"{url}/info/").json()["trainers"]) == ["limnet"]
        assert httpx.get(f"{url}/train/").status_code == 404
        assert "at least 2" in httpx.post(f"{url}/train/limnet", json={}).json()["detail"]
        write(store / "labels" / "final" / "b.nii.gz", (image() > 100).astype(np.uint8))
        (store / "slow").touch()
        assert httpx.post(f"{url}/train/limnet", json={"max_epochs": 5}).json()["status"] == "RUNNING"
        assert httpx.post(f"{url}/train/limnet", json={}).status_code == 429
        assert httpx.get(f"{url}/train/?check_if_running=true").status_code == 200
        assert httpx.delete(f"{url}/train/").json()["status"] == "CANCELED"
        assert httpx.get(f"{url}/train/?check_if_running=true").status_code == 404
        (store / "slow").unlink()
        before = serve.workspace.segmenter
        httpx.post(f"{url}/train/", json={})
        serve.monailabel.job.process.wait(120)
        state = httpx.get(f"{url}/train/").json()
        assert state["status"] == "DONE", state
        assert "['a.nii.gz', 'b.nii.gz'], ['a.nii.gz', 'b.nii.gz']" in state["details"][0]["message"]
        assert [line["message"].split(" ")[0] for line in state["details"]] == ["trains", "step", "images"]
        assert state["details"][-1]["message"] == "images opened from now on use the new model"
        assert httpx.get(f"{url}/info/").json()["train_stats"]["limnet"]["best_metric"] == 0.6
        assert serve.workspace.segmenter is not before, "the better model is used"
        assert serve.monailabel.base.endswith("model")
        assert f"fine-tuned {serve.monailabel.job.folder.name}" in httpx.get(f"{url}/info/").json()["name"]
        stats = httpx.get(f"{url}/info/").json()["train_stats"]["limnet"]
        assert (stats["epoch"], stats["total_epochs"]) == (7, serve.monailabel.job.steps)
        kept, base = serve.workspace.segmenter, serve.monailabel.base
        (serve.monailabel.job.better_model / "model_index.json").write_text("{")
        serve.monailabel.job.taken = False  # as if its model was to be read only now
        told = httpx.get(f"{url}/train/").json()["details"][-1]["message"]
        assert told.startswith("the new model could not be loaded")
        assert (serve.workspace.segmenter, serve.monailabel.base) == (kept, base)
        serve.monailabel.base = "limnet-tiny"
        (store / "broken").touch()
        httpx.post(f"{url}/train/", json={})
        serve.monailabel.job.process.wait(120)
        state = httpx.get(f"{url}/train/").json()
        assert state["status"] == "ERROR"
        assert state["details"][-1]["message"] == "stage3: this label map is broken"
        assert serve.workspace.segmenter is kept, "a training that failed changes nothing"
        (store / "broken").unlink()
        (store / "worse").touch()
        httpx.post(f"{url}/train/", json={})
        serve.monailabel.job.process.wait(120)
        assert httpx.get(f"{url}/train/").json()["details"][-1]["message"] == "the model in use stays"
        assert serve.workspace.segmenter is kept, "a model that is not better is not used"


def client_module() -> ModuleType:
    """The client file of MONAI Label; its package would import much more."""
    package = importlib.util.find_spec("monailabel")
    if package is None or not package.submodule_search_locations:
        pytest.skip("monailabel is not installed (pip install --no-deps monailabel)")
    pytest.importorskip("requests")
    pytest.importorskip("cgi", reason="the client uses a module that Python 3.13 no longer has")
    return module_of(Path(package.submodule_search_locations[0]) / "client" / "client.py", "monailabel_client")


def test_its_own_client(url: str, tmp_path: Path) -> None:
    client = client_module().MONAILabelClient(url, tmpdir=str(tmp_path), client_id="me")
    assert not client.auth_enabled()
    assert client.info()["name"] == "limnet (limnet-tiny)"
    path = write(tmp_path / "ct.nii.gz", image())
    session = client.create_session(str(path))["session_id"]
    found, about = client.infer("limnet", "", {"label": "liver", "foreground": [XYZ]}, session_id=session)
    mask = np.asarray(nibabel.load(found).dataobj).T
    assert mask[CENTRE] == 1
    assert about["label_names"] == {"liver": 1}
    drawn = np.zeros(SHAPE, np.uint8)
    drawn[7, 16, 10:30] = 4
    strokes = str(write(tmp_path / "strokes.nii.gz", drawn))
    found, _ = client.infer("limnet-scribbles", "", {"label": "liver"}, label_in=strokes, session_id=session)
    assert (np.asarray(nibabel.load(found).dataobj).T[drawn > 0] == 1).all()
    assert client.upload_image(str(path), "uploaded")["image"] == "uploaded"
    assert client.save_label("uploaded", found, params={"label_info": []})["image"] == "uploaded"
    assert client.datastore()["objects"]["uploaded"]["labels"]["final"]
    assert Path(client.download_label("uploaded", "final")).stat().st_size
    assert client.next_sample("limnet", {}) == {} or client.next_sample("limnet", {})["id"]
    assert not client.train_status(check_if_running=True)
    client.remove_session(session)
