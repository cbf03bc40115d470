"""`limnet demo`: its CT is fetched safely, a robot user plays it, and numbers, masks and picture are written."""

from __future__ import annotations

import hashlib
import io
import json
import subprocess
import sys
import tarfile
import types
from pathlib import Path

import nibabel
import numpy as np
import pytest

from limnet.commands.demo import run_demo
from limnet.errors import InputError
from limnet.image.volume import Volume
from limnet.metrics.masks import dice
from limnet.simulation import demo
from limnet.simulation.demo import SYNTHETIC_STRUCTURES, FetchError, fetch_ct, synthetic_arrays, synthetic_files
from tests.helpers.robot_segmenter import FakeSegmenter
from tests.test_cli import run

NAMES = list(demo.MEMBERS)


@pytest.fixture
def contents(monkeypatch: pytest.MonkeyPatch) -> dict[str, bytes]:
    files = {name: f"contents of {name}".encode() for name in NAMES}
    monkeypatch.setattr(demo, "MEMBERS", {n: hashlib.sha256(b).hexdigest() for n, b in files.items()})
    return files


def archive(folder: Path, files: dict[str, bytes | str], monkeypatch: pytest.MonkeyPatch | None = None) -> Path:
    """An archive of files (bytes) and links (text); with `monkeypatch` its hash is the expected one."""
    path = folder / "totalsegmentator-2.18.0.tar.gz"
    with tarfile.open(path, "w:gz") as tar:
        for name, body in files.items():
            info = tarfile.TarInfo(f"totalsegmentator-2.18.0/{name}")
            if isinstance(body, str):
                info.type, info.linkname = tarfile.SYMTYPE, body
            else:
                info.size = len(body)
            tar.addfile(info, None if isinstance(body, str) else io.BytesIO(body))
    if monkeypatch is not None:
        monkeypatch.setattr(demo, "SDIST_SHA256", hashlib.sha256(path.read_bytes()).hexdigest())
    return path


def test_fetch_unpacks_two_files_and_caches(tmp_path, contents, monkeypatch):
    calls = []

    def download(folder: Path) -> Path:
        calls.append(folder)
        return archive(folder, {**contents, "setup.py": b"boom"}, monkeypatch)

    files = fetch_ct(tmp_path, download)
    assert [files.image.read_bytes(), files.labels.read_bytes()] == list(contents.values())
    assert "Apache-2.0" in files.source
    assert len(files.structures) == 5
    assert sorted(p.name for p in files.image.parent.iterdir()) == sorted(Path(n).name for n in NAMES)
    assert fetch_ct(tmp_path, download) == files
    assert len(calls) == 1
    files.image.write_bytes(b"damaged")
    assert fetch_ct(tmp_path, download).image.read_bytes() == contents[NAMES[0]]
    assert len(calls) == 2


@pytest.mark.parametrize(
    ("change", "known", "message"),
    [
        ({}, False, "another sha256"),  # another archive
        ({NAMES[1]: b"other"}, True, "another sha256"),
        ({NAMES[1]: None}, True, "holds no"),
        (dict.fromkeys(NAMES, "/etc/hostname"), True, "plain file"),
    ],
)
def test_foreign_archives_are_refused(change, known, message, tmp_path, contents, monkeypatch):
    files = {name: body for name, body in {**contents, **change}.items() if body is not None}
    with pytest.raises(FetchError, match=message):
        fetch_ct(tmp_path, lambda folder: archive(folder, files, monkeypatch if known else None))
    assert known or not any(tmp_path.rglob("*.gz"))


def test_archive_that_is_none(tmp_path, contents, monkeypatch):
    monkeypatch.setattr(demo, "SDIST_SHA256", hashlib.sha256(b"not gzip").hexdigest())

    def download(folder: Path) -> Path:
        (folder / "x.tar.gz").write_bytes(b"not gzip")
        return folder / "x.tar.gz"

    with pytest.raises(FetchError, match="cannot prepare"):
        fetch_ct(tmp_path, download)


def test_pip_is_asked_with_a_hash_and_its_failure_is_one_line(tmp_path, monkeypatch):
    seen = {}

    def succeed(command, **_):
        seen["command"], seen["requirement"] = command, Path(command[-1]).read_text()
        (tmp_path / "totalsegmentator-2.18.0.tar.gz").write_bytes(b"x")
        return subprocess.CompletedProcess(command, 0, "", "")

    monkeypatch.setattr(subprocess, "run", succeed)
    assert demo.download_with_pip(tmp_path).name == "totalsegmentator-2.18.0.tar.gz"
    assert seen["requirement"] == f"totalsegmentator==2.18.0 --hash=sha256:{demo.SDIST_SHA256}\n"
    assert {"--require-hashes", "--no-deps", "--no-binary"} <= set(seen["command"])
    failed = subprocess.CompletedProcess([], 1, "", "WARNING: x\nERROR: No matching distribution found\n\n")
    monkeypatch.setattr(subprocess, "run", lambda *a, **k: failed)
    with pytest.raises(FetchError, match="No matching distribution"):
        demo.download_with_pip(tmp_path)
    monkeypatch.setattr(subprocess, "run", lambda *a, **k: (_ for _ in ()).throw(FileNotFoundError("no python")))
    with pytest.raises(FetchError, match="no python"):
        demo.download_with_pip(tmp_path)


def test_synthetic_volume_is_reproducible_and_complete():
    image, labels = synthetic_arrays()
    assert np.array_equal(image, synthetic_arrays()[0])
    assert set(np.unique(labels)) == {0, *SYNTHETIC_STRUCTURES.values()}
    assert min(np.bincount(labels.ravel())) > 2000


@pytest.fixture(scope="module")
def finished(tmp_path_factory: pytest.TempPathFactory):
    folder = tmp_path_factory.mktemp("demo")
    files = synthetic_files(folder / "in")
    fake = FakeSegmenter(Volume.read(files.labels).array, dict(files.structures))
    rounds, slices = [], []
    result = run_demo(
        files,
        fake,
        folder / "out",
        on_round=lambda name, number, r: rounds.append((name, number)),
        on_slice=lambda *a: slices.append(a),
    )
    return result, folder / "out", rounds, slices


def test_run_keeps_every_number_and_how_it_was_made(finished):
    result, out, rounds, slices = finished
    assert [s.name for s in result.structures] == list(SYNTHETIC_STRUCTURES)
    assert rounds[0] == ("large body", 1)
    assert slices[:4] == [("large body", k, 4) for k in (1, 2, 3, 4)]
    for s in result.structures:
        assert s.rounds[0].positive
        assert s.truth[s.rounds[0].zyx]
        assert s.rounds[-1].dice == dice(s.mask, s.truth)
        assert len(s.rounds) <= 6
    written = json.loads((out / "results.json").read_text())
    assert written["mean_dice"] == result.mean_dice
    assert written["notice"].startswith("Synthetic")
    assert written["structures"][0]["mask"] == "large_body.nii.gz"
    assert written["command"]
    assert written["seed"] == 0
    assert written["identity"] == FakeSegmenter.identity
    assert {"limnet", "commit", "python", "packages", "machine"} <= set(written["environment"])


def test_masks_lie_on_the_grid_and_the_viewer_finds_the_image(finished):
    from limnet.commands.view import chosen

    result, out, *_ = finished
    mask = Volume.read(out / "tube.nii.gz")
    assert np.array_equal(mask.array != 0, result.structures[3].mask)
    assert np.array_equal(mask.affine, result.volume.affine)
    folder, image = chosen(out)
    assert folder == out.absolute()
    assert image is not None
    assert image.name == "demo_ct.nii.gz"
    assert image.read_bytes() == result.files.image.read_bytes()


def test_labels_on_another_grid_are_refused(tmp_path):
    files = synthetic_files(tmp_path)
    nibabel.save(nibabel.Nifti1Image(np.zeros((4, 4, 4), np.uint8), np.eye(4)), files.labels)
    with pytest.raises(InputError, match="another grid"):
        run_demo(files, FakeSegmenter(np.zeros((4, 4, 4)), {}), tmp_path / "out")


def test_the_command_falls_back_to_a_synthetic_volume(monkeypatch, capsys, tmp_path):
    def no_registry(folder):
        raise FetchError("no registry")

    module = types.ModuleType("limnet.segmenter")
    fake = FakeSegmenter(synthetic_arrays()[1], SYNTHETIC_STRUCTURES)
    module.InteractiveSegmenter = types.SimpleNamespace(from_pretrained=lambda name: fake)  # type: ignore[attr-defined]
    monkeypatch.setitem(sys.modules, "limnet.segmenter", module)
    monkeypatch.setattr(demo, "download_with_pip", no_registry)
    monkeypatch.setenv("LIMNET_CACHE", str(tmp_path / "cache"))
    assert run("demo", "--out", tmp_path / "out", "--rounds", "2", "--no-report") == 0
    out = capsys.readouterr().out
    assert all(part in out for part in ("no registry", "synthetic volume", "s/round"))
    assert (tmp_path / "out" / "tube.nii.gz").exists()


def test_report_is_a_picture(finished, tmp_path):
    pytest.importorskip("matplotlib")
    from limnet.commands.demo_report import write_report

    path = write_report(finished[0], tmp_path / "report.png")
    assert path.read_bytes()[:4] == b"\x89PNG"
    assert path.stat().st_size > 100_000


@pytest.mark.parametrize("flips", [(1, 1, 1), (-1, 1, -1), (1, -1, 1)])
def test_patient_display_undoes_flips_and_permutations(flips):
    from limnet.commands.demo_report import Patient

    array = np.arange(2 * 3 * 4, dtype=float).reshape(2, 3, 4)
    affine = np.zeros((4, 4))  # columns: file axes x, y, z; rows: R, A, S
    affine[2, 0], affine[0, 1], affine[1, 2], affine[3, 3] = *(np.array([2.0, 3.0, 4.0]) * flips), 1
    volume = Volume.from_array(array, affine=affine, convention="RAS")
    patient = Patient(volume)
    shown = patient.show(volume.array)
    assert patient.spacing == (3.0, 4.0, 2.0)
    for zyx in [(0, 0, 0), (1, 2, 3), (1, 0, 2)]:
        assert shown[patient.point(zyx)] == array[zyx]
    assert patient.point((0, 1, 0))[0] - patient.point((0, 0, 0))[0] == flips[1]


def test_panels_hold_the_structure_and_keep_the_ratio():
    from limnet.commands.demo_report import panel_range

    structure = np.zeros((100, 60), bool)
    structure[5:30, 10:20] = True
    (u0, u1), (v0, v1) = panel_range(structure, (2.0, 3.0), (50, 30), 0.7)
    assert (v1 - v0) / (u1 - u0) == pytest.approx(0.7)
    assert -1.0 <= u0 <= 9
    assert u1 >= 58
    assert v0 <= 30
    assert v1 >= 57
