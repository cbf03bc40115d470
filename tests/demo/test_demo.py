from __future__ import annotations

import hashlib
import io
import json
import subprocess
import tarfile
from pathlib import Path

import numpy as np
import pytest

from limnet.demo import data
from limnet.demo.data import FetchError, fetch_ct
from limnet.demo.display import Patient, window
from limnet.demo.run import dice, mean_dice, run_demo
from limnet.demo.synthetic import STRUCTURES, synthetic_arrays, synthetic_files
from limnet.errors import InputError
from limnet.image.volume import Volume
from tests.helpers.robot_segmenter import FakeSegmenter

NAMES = list(data.MEMBERS)


@pytest.fixture
def contents(monkeypatch: pytest.MonkeyPatch) -> dict[str, bytes]:
    files = {name: f"contents of {name}".encode() for name in NAMES}
    monkeypatch.setattr(data, "MEMBERS", {n: hashlib.sha256(b).hexdigest() for n, b in files.items()})
    return files


def archive(folder: Path, files: dict[str, bytes], links: dict[str, str] | None = None) -> Path:
    path = folder / "totalsegmentator-2.18.0.tar.gz"
    with tarfile.open(path, "w:gz") as tar:
        for name, body in files.items():
            info = tarfile.TarInfo(f"totalsegmentator-2.18.0/{name}")
            info.size = len(body)
            tar.addfile(info, io.BytesIO(body))
        for name, target in (links or {}).items():
            info = tarfile.TarInfo(f"totalsegmentator-2.18.0/{name}")
            info.type, info.linkname = tarfile.SYMTYPE, target
            tar.addfile(info)
    return path


def accept(monkeypatch: pytest.MonkeyPatch, path: Path) -> Path:
    monkeypatch.setattr(data, "SDIST_SHA256", hashlib.sha256(path.read_bytes()).hexdigest())
    return path


def test_fetch_unpacks_two_files_and_caches(tmp_path, contents, monkeypatch):
    calls = []

    def download(folder: Path) -> Path:
        calls.append(folder)
        return accept(monkeypatch, archive(folder, {**contents, "setup.py": b"boom"}))

    files = fetch_ct(tmp_path, download)
    assert files.image.read_bytes() == contents[NAMES[0]]
    assert files.labels.read_bytes() == contents[NAMES[1]]
    assert "Apache-2.0" in files.source
    assert len(files.structures) == 5
    assert sorted(p.name for p in files.image.parent.iterdir()) == sorted(Path(n).name for n in NAMES)
    assert fetch_ct(tmp_path, download) == files
    assert len(calls) == 1
    files.image.write_bytes(b"damaged")
    assert fetch_ct(tmp_path, download).image.read_bytes() == contents[NAMES[0]]
    assert len(calls) == 2


def test_foreign_archive_is_refused(tmp_path, contents):
    with pytest.raises(FetchError, match="another sha256"):
        fetch_ct(tmp_path, lambda folder: archive(folder, contents))
    assert not any(tmp_path.rglob("*.gz"))


def test_foreign_member_is_refused(tmp_path, contents, monkeypatch):
    wrong = {**contents, NAMES[1]: b"other"}
    with pytest.raises(FetchError, match="another sha256"):
        fetch_ct(tmp_path, lambda folder: accept(monkeypatch, archive(folder, wrong)))


def test_missing_member(tmp_path, contents, monkeypatch):
    with pytest.raises(FetchError, match="holds no"):
        fetch_ct(tmp_path, lambda folder: accept(monkeypatch, archive(folder, {NAMES[0]: contents[NAMES[0]]})))


def test_links_are_not_followed(tmp_path, contents, monkeypatch):
    def download(folder: Path) -> Path:
        return accept(monkeypatch, archive(folder, {}, {n: "/etc/hostname" for n in NAMES}))

    with pytest.raises(FetchError, match="plain file"):
        fetch_ct(tmp_path, download)


def test_archive_that_is_none(tmp_path, contents, monkeypatch):
    def download(folder: Path) -> Path:
        path = folder / "x.tar.gz"
        path.write_bytes(b"not gzip")
        return accept(monkeypatch, path)

    with pytest.raises(FetchError, match="cannot prepare"):
        fetch_ct(tmp_path, download)


def test_pip_is_asked_with_a_hash(tmp_path, monkeypatch):
    seen = {}

    def run(command, **_):
        seen["command"] = command
        seen["requirement"] = Path(command[-1]).read_text()
        (tmp_path / "totalsegmentator-2.18.0.tar.gz").write_bytes(b"x")
        return subprocess.CompletedProcess(command, 0, "", "")

    monkeypatch.setattr(subprocess, "run", run)
    assert data.download_with_pip(tmp_path).name == "totalsegmentator-2.18.0.tar.gz"
    assert seen["requirement"] == f"totalsegmentator==2.18.0 --hash=sha256:{data.SDIST_SHA256}\n"
    assert {"--require-hashes", "--no-deps", "--no-binary"} <= set(seen["command"])


def test_pip_failure_is_one_readable_line(tmp_path, monkeypatch):
    failed = subprocess.CompletedProcess([], 1, "", "WARNING: x\nERROR: No matching distribution found\n\n")
    monkeypatch.setattr(subprocess, "run", lambda *a, **k: failed)
    with pytest.raises(FetchError, match="No matching distribution"):
        data.download_with_pip(tmp_path)
    monkeypatch.setattr(subprocess, "run", lambda *a, **k: (_ for _ in ()).throw(FileNotFoundError("no python")))
    with pytest.raises(FetchError, match="no python"):
        data.download_with_pip(tmp_path)


def test_cache_folder(monkeypatch, tmp_path):
    monkeypatch.setenv("LIMNET_CACHE", str(tmp_path / "own"))
    assert data.cache_folder() == tmp_path / "own"
    monkeypatch.delenv("LIMNET_CACHE")
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path))
    assert data.cache_folder() == tmp_path / "limnet"


def test_synthetic_volume_is_reproducible_and_complete():
    image, labels = synthetic_arrays(3)
    again, _ = synthetic_arrays(3)
    assert np.array_equal(image, again)
    assert set(np.unique(labels)) == {0, *STRUCTURES.values()}
    assert min(np.bincount(labels.ravel())) > 2000


@pytest.fixture(scope="module")
def finished(tmp_path_factory: pytest.TempPathFactory):
    pytest.importorskip("limnet.image.io.formats")
    folder = tmp_path_factory.mktemp("demo")
    files = synthetic_files(folder / "in")
    labels = Volume.read(files.labels).array
    rounds, slices = [], []
    result = run_demo(
        files,
        FakeSegmenter(labels, dict(files.structures)),
        folder / "out",
        rounds=6,
        on_round=lambda name, r: rounds.append((name, r.number)),
        on_slice=lambda *a: slices.append(a),
    )
    return result, folder / "out", rounds, slices


def test_run_keeps_every_number(finished):
    result, out, rounds, slices = finished
    assert [s.name for s in result.structures] == list(STRUCTURES)
    assert rounds[0] == ("large body", 1)
    assert slices[:4] == [("large body", k, 4) for k in (1, 2, 3, 4)]
    for s in result.structures:
        assert s.rounds[0].positive
        assert s.truth[s.rounds[0].zyx]
        assert s.rounds[-1].dice == dice(s.mask, s.truth)
        assert len(s.rounds) <= 6
    written = json.loads((out / "results.json").read_text())
    assert written["mean_dice"] == mean_dice(result.structures)
    assert written["notice"].startswith("Synthetic")
    assert written["structures"][0]["mask"] == "large_body.nii.gz"


def test_the_viewer_finds_the_image(finished):
    from limnet.commands.view import chosen

    files, out = finished[0].files, finished[1]
    folder, image = chosen(out)
    assert folder == out.absolute()
    assert image is not None
    assert image.name == "demo_ct.nii.gz"
    assert image.read_bytes() == files.image.read_bytes()


def test_run_tells_how_it_was_made(finished):
    written = json.loads((finished[1] / "results.json").read_text())
    assert written["command"]
    assert written["seed"] == 0
    assert written["identity"] == FakeSegmenter.identity
    assert {"limnet", "commit", "python", "packages", "machine"} <= set(written["environment"])


def test_masks_are_written_on_the_grid(finished):
    result, out, *_ = finished
    mask = Volume.read(out / "tube.nii.gz")
    assert np.array_equal(mask.array != 0, result.structures[3].mask)
    assert np.array_equal(mask.affine, result.volume.affine)


def test_report_is_a_picture(finished, tmp_path):
    pytest.importorskip("matplotlib")
    from limnet.demo.report import write_report

    result, *_ = finished
    path = write_report(result, tmp_path / "report.png")
    assert path.read_bytes()[:4] == b"\x89PNG"
    assert path.stat().st_size > 100_000


def test_labels_on_another_grid_are_refused(tmp_path):
    pytest.importorskip("limnet.image.io.formats")
    import nibabel

    files = synthetic_files(tmp_path)
    nibabel.save(nibabel.Nifti1Image(np.zeros((4, 4, 4), np.uint8), np.eye(4)), files.labels)
    with pytest.raises(InputError, match="another grid"):
        run_demo(files, FakeSegmenter(np.zeros((4, 4, 4)), {}), tmp_path / "out")


def test_dice():
    a, b = np.array([1, 1, 0, 0], bool), np.array([1, 0, 1, 0], bool)
    assert dice(a, b) == 0.5
    assert dice(a & b & ~a, b & ~b) == 1.0


@pytest.mark.parametrize("flips", [(1, 1, 1), (-1, 1, -1), (1, -1, 1)])
def test_patient_display_undoes_flips_and_permutations(flips):
    array = np.arange(2 * 3 * 4, dtype=float).reshape(2, 3, 4)
    rotation = np.zeros((3, 3))  # columns: file axes x, y, z; rows: R, A, S
    rotation[2, 0], rotation[0, 1], rotation[1, 2] = 2.0 * flips[0], 3.0 * flips[1], 4.0 * flips[2]
    affine = np.eye(4)
    affine[:3, :3] = rotation
    volume = Volume.from_array(array, affine=affine, convention="RAS")
    patient = Patient(volume)
    shown = patient.show(volume.array)
    assert patient.spacing == (3.0, 4.0, 2.0)
    for zyx in [(0, 0, 0), (1, 2, 3), (1, 0, 2)]:
        assert shown[patient.point(zyx)] == array[zyx]
    step = patient.point((0, 1, 0))[0] - patient.point((0, 0, 0))[0]
    assert step == flips[1]


def test_window_holds_the_structure_and_keeps_the_ratio():
    structure = np.zeros((100, 60), bool)
    structure[5:30, 10:20] = True
    (u0, u1), (v0, v1) = window(structure, (2.0, 3.0), (50, 30), 0.7)
    assert (v1 - v0) / (u1 - u0) == pytest.approx(0.7)
    assert u0 >= -1.0
    assert u0 <= 10 - 1
    assert u1 >= 58
    assert v0 <= 30
    assert v1 >= 57
