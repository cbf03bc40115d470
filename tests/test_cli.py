"""The command line: messages, exit codes, and real files in and out."""

from __future__ import annotations

import json
import os
import subprocess
import sys
import types
import warnings
from pathlib import Path

import numpy as np
import pytest

from limnet.case.case import Case
from limnet.cli import main
from limnet.commands.segment import parse_prompt, parse_window, read_jobs, to_voxel
from limnet.errors import Cancelled, FileFormatError, InputError, MissingFileError, OutsideError, SaveError
from limnet.hub.model import list_zoo
from limnet.image.volume import Volume
from limnet.prompts import Box, Click
from tests.helpers.fake_engine import fake_engine, phantom
from tests.helpers.recipes import limnet as run

nibabel = pytest.importorskip("nibabel")


@pytest.fixture
def opened(monkeypatch: pytest.MonkeyPatch) -> list[dict]:
    """Puts a segmenter with a threshold engine in place of the real one; returns what it was asked for."""
    calls: list[dict] = []

    class Segmenter:
        def open(self, volume, axis=0, window=None):
            calls.append({"volume": volume, "axis": axis, "window": window})
            return Case(fake_engine(), volume, axis=axis, window=window)

    class InteractiveSegmenter:
        @classmethod
        def from_pretrained(cls, name, **options):
            calls.append({"model": name, **options})
            return Segmenter()

    module = types.ModuleType("limnet.segmenter")
    module.InteractiveSegmenter = InteractiveSegmenter  # type: ignore[attr-defined]
    monkeypatch.setitem(sys.modules, "limnet.segmenter", module)
    return calls


@pytest.fixture
def scan(tmp_path: Path) -> Path:
    """phantom() as NIfTI with an oblique, flipped grid."""
    affine = np.array([[-0.8, 0.1, 0, 30], [0.1, 0.8, 0, -20], [0, 0, 3, 5], [0, 0, 0, 1.0]])
    path = tmp_path / "scan.nii.gz"
    nibabel.save(nibabel.Nifti1Image(phantom().transpose(2, 1, 0), affine), path)
    return path


@pytest.mark.parametrize(
    "words", [["-h"], ["--help"], ["segment", "-h"], ["demo", "-h"], ["zoo", "-h"], ["convert", "-h"]]
)
def test_help(words, capsys):
    assert run(*words) == 0
    assert "Usage" in capsys.readouterr().out


def test_version(capsys):
    from limnet import __version__

    assert run("--version") == 0
    assert capsys.readouterr().out == f"limnet {__version__}\n"


@pytest.mark.parametrize("words", [["nonsense"], ["segment", "--no-such-option"], ["zoo", "show"]])
def test_usage_errors(words, capsys):
    assert run(*words) == 2
    assert "Traceback" not in capsys.readouterr().err


@pytest.mark.parametrize(
    ("words", "message"),
    [
        (["segment"], "give a VOLUME and --out"),
        (["segment", "{scan}", "--out", "m.nii.gz"], "nothing is marked"),
        (["segment", "{scan}", "-o", "m.nii.gz", "-c", "1,2"], "z,y,x"),
        (["segment", "{scan}", "-o", "m.nii.gz", "-c", "1,2,nan"], "z,y,x"),
        (["segment", "{scan}", "-o", "m.nii.gz", "-c", "1,2,3.5"], "--mm"),
        (["segment", "{scan}", "-o", "m.nii.gz", "-c", "99,2,3"], "outside"),
        (["segment", "{scan}", "-o", "m.nii.gz", "--box", "5,5,5,1,1,1"], "lo"),
        (["segment", "{scan}", "-o", "m.nii.gz", "-c", "1,2,3", "--window", "5,1"], "--window"),
        (["segment", "{scan}", "-o", "m.nii.gz", "-c", "1,2,3", "--scope", "all"], "interval"),
        (["segment", "{scan}", "-o", "m.xyz", "-c", "6,20,24"], ".nii"),
        (["segment", "nothing.nii.gz", "-o", "m.nii.gz", "-c", "1,2,3"], "nothing.nii.gz"),
        (["segment", "--prompts", "nothing.json"], "nothing.json"),
        (["segment", "{scan}", "--prompts", "x.json"], "leave out"),
        (["segment", "--prompts", "x.json", "--axis", "0"], 'leave out --axis and put "axis" into the file'),
        (["segment", "--prompts", "x.json", "--series", "abc"], "leave out --series"),
        (["segment", "{scan}", "-o", "{scan}", "-c", "6,20,24"], "is the image itself"),
        (["segment", "{scan}", "-o", "m.nii.gz", "-c", "6,2,2,-"], "every prompt marks background, so the mask would"),
        (
            ["segment", "{scan}", "-o", "m.nii.gz", "-c", "6,20,24", "--label", "2"],
            "--label says which label of --start",
        ),
        (["segment", "{scan}", "-o", "m.nii.gz", "-c", "6,20,24", "--start", "no.nrrd"], "no.nrrd"),
        (["segment", "--prompts", "x.json", "--together"], 'leave out --together and put "together" into the file'),
        (
            ["segment", "{scan}", "-o", "m.nii.gz", "--mm", "-c", "900,0,20"],
            "--click 900,0,20: 900,0,20 mm is outside the",
        ),
    ],
)
def test_wrong_input_is_one_readable_message(words, message, scan, opened, capsys, monkeypatch, tmp_path):
    monkeypatch.chdir(tmp_path)
    assert run(*(w.replace("{scan}", str(scan)) for w in words)) == 2
    err = capsys.readouterr().err
    assert message in err
    assert "Traceback" not in err
    assert not (tmp_path / "m.nii.gz").exists()


def test_a_warning_is_one_readable_message(scan, opened, monkeypatch, capsys, tmp_path):
    def warn(*_, **__):
        warnings.warn("slices 3 and 4 are alike", stacklevel=1)
        raise InputError("no")

    monkeypatch.setattr(Case, "prompt", warn)
    with warnings.catch_warnings():
        warnings.simplefilter("default")
        assert run("segment", str(scan), "-o", str(tmp_path / "m.nii.gz"), "-c", "6,20,24") == 2
    assert capsys.readouterr().err == "warning: slices 3 and 4 are alike\nerror: no\n"


def test_debug_shows_where_it_happened(scan, opened):
    with pytest.raises(InputError):
        main(["--debug", "segment", str(scan)])


def test_segment_writes_the_mask_on_the_files_grid(scan, opened, capsys, tmp_path):
    out = tmp_path / "mask.nii.gz"
    words = ["--click", "6,20,24", "--click", "6,2,2,-", "--window", "-50,300", "--device", "cuda:1"]
    assert run("segment", scan, *words, "--out", out) == 0
    assert opened[0] == {"model": "limnet-tiny", "device": "cuda:1"}
    assert opened[1]["window"] == (-50.0, 300.0)
    mask, image = nibabel.load(out), nibabel.load(scan)
    assert np.array_equal(mask.affine, image.affine)
    data = np.asarray(mask.dataobj)
    assert data.shape == image.shape
    assert data[24, 20, 6] == 1
    assert data[2, 2, 6] == 0
    printed = capsys.readouterr().out
    assert f"{int(data.sum())} voxels" in printed
    assert f"{data.sum() * abs(np.linalg.det(image.affine[:3, :3])) / 1000:.2f} ml" in printed


def test_no_millilitres_of_what_knows_no_millimetres(opened, capsys, tmp_path):
    np.save(tmp_path / "scan.npy", phantom())
    assert run("segment", tmp_path / "scan.npy", "--click", "6,20,24", "--out", tmp_path / "mask.npy") == 0
    assert " voxels, 0." in capsys.readouterr().out


def test_world_coordinates_mean_the_same_voxel(scan, opened, tmp_path):
    affine = nibabel.load(scan).affine
    x, y, z = (affine @ [24, 20, 6, 1])[:3]
    assert run("segment", scan, "--click", f"{x},{y},{z}", "--mm", "-o", tmp_path / "mm.nii.gz") == 0
    assert run("segment", scan, "--click", "6,20,24", "-o", tmp_path / "voxel.nii.gz") == 0
    a, b = (np.asarray(nibabel.load(tmp_path / n).dataobj) for n in ("mm.nii.gz", "voxel.nii.gz"))
    assert a.any()
    assert np.array_equal(a, b)


def test_box_scribble_and_lasso(scan, opened, tmp_path):
    out = tmp_path / "m.nii.gz"
    assert run("segment", scan, "--box", "3,5,5,8,35,43", "-o", out) == 0
    assert not np.asarray(nibabel.load(out).dataobj)[:, :, 9:].any()
    assert run("segment", scan, "--scribble", "6,18,20;6,22,28", "-o", out) == 0
    assert np.asarray(nibabel.load(out).dataobj)[24, 20, 6] == 1
    assert run("segment", scan, "--lasso", "6,5,5;6,5,40;6,35,40;6,35,5", "-o", out) == 0


def test_another_axis(scan, opened, tmp_path):
    assert run("segment", scan, "--click", "6,20,24", "--axis", "2", "-o", tmp_path / "m.nii.gz") == 0
    assert opened[1]["axis"] == 2


def batch(folder: Path, entries: list) -> Path:
    path = folder / "prompts.json"
    path.write_text(json.dumps(entries))
    return path


def test_prompts_are_rounds_in_the_order_given(scan, opened, monkeypatch, tmp_path):
    played = []
    real = Case.prompt

    def prompt(self, prompt, *, propagate=True, **more):
        played.append((prompt.kind, prompt.positive if prompt.kind == "click" else None, propagate))
        return real(self, prompt, propagate=propagate, **more)

    monkeypatch.setattr(Case, "prompt", prompt)
    words = ["-c", "6,20,24", "--box", "3,5,5,8,35,43", "-c6,2,2,-", "--scribble", "6,18,20;6,22,28", "-c", "4,20,24"]
    expected = [("click", True), ("box", None), ("click", False), ("scribble", None), ("click", True)]
    for together in (False, True):
        played.clear()
        assert run("segment", scan, *words, "-o", tmp_path / "m.nii.gz", *(["--together"] * together)) == 0
        assert played == [(kind, positive, not together) for kind, positive in expected]


def test_the_command_line_is_the_python_loop(scan, opened, tmp_path):
    case = Case(fake_engine(p=0.9), Volume.read(scan))
    for point, positive in (((6, 20, 24), True), ((6, 2, 2), False), ((4, 20, 24), True)):
        case.click(point, positive)
    words = ["-c", "6,20,24", "-c", "6,2,2,-", "-c", "4,20,24", "-o"]
    assert run("segment", scan, *words, tmp_path / "rounds.npy") == 0
    assert np.array_equal(np.load(tmp_path / "rounds.npy") > 0, case.mask)


def test_a_start_mask_is_corrected(scan, opened, capsys, tmp_path):
    volume = Volume.read(scan)
    labels = (phantom() > 100) * np.uint8(2)
    labels[0, 0, 0] = 5
    start = volume.write_mask(labels, tmp_path / "start.nrrd")
    words = ["segment", scan, "--start", start, "-c", "6,20,24,-", "-o", tmp_path / "m.npy"]
    assert run(*words) == 2
    assert "holds 2 labels (2, 5)" in capsys.readouterr().err
    assert run(*words, "--label", "2") == 0
    mask = np.load(tmp_path / "m.npy")
    assert mask[3, 20, 24] == 1
    assert mask[6, 20, 24] == 0
    other = Volume.from_array(np.zeros((12, 40, 48), np.int16), spacing=(3, 1, 1))
    wrong = other.write_mask(labels, tmp_path / "wrong.nrrd")
    assert run("segment", scan, "--start", wrong, "-c", "6,20,24", "-o", tmp_path / "m.npy", "--label", "2") == 2
    assert "does not lie on the grid of the image" in capsys.readouterr().err
    entry = {"volume": "scan.nii.gz", "out": "b.npy", "start": "start.nrrd", "label": 2, "together": True}
    entry["prompts"] = [{"type": "click", "point": [6, 20, 24], "positive": False}]
    assert run("segment", "--prompts", batch(tmp_path, [entry])) == 0
    assert np.load(tmp_path / "b.npy")[3, 20, 24] == 1


def test_millimetres_outside_are_told_in_millimetres(tmp_path):
    affine = np.diag([-2.0, -1.0, 3.0, 1.0])
    affine[:3, 3] = (10, 20, -5)
    volume = Volume.from_array(np.zeros((4, 5, 6), np.int16), affine=affine, convention="RAS")
    with pytest.raises(OutsideError) as error:
        to_voxel((11.5, 20.0, -5.0), volume, True, "--click 11.5,20,-5")
    assert str(error.value) == (
        "--click 11.5,20,-5: 11.5,20,-5 mm is outside the image, which reaches over x 0 to 10, y 16 to 20, z -5 to 4 "
        "mm (RAS). Give x,y,z in the world of the file, or leave --mm out for voxels z,y,x"
    )
    assert to_voxel((10.9, 20.0, -5.0), volume, True) == (0, 0, 0)  # the edge of a voxel is half a step away


@pytest.mark.parametrize(
    ("outs", "message"),
    [
        (["a.nii.gz", "b.nii.gz", "a.nii.gz"], r"entries 1 and 3 of .* both write .*a\.nii\.gz"),
        (["a.nii.gz", "./sub/../a.nii.gz"], "entries 1 and 2"),
        (["a.nii.gz", "link/a.nii.gz"], "entries 1 and 2"),
        (["old.nii.gz", "hard.nii.gz"], "entries 1 and 2"),
        (["v1.nii.gz"], "entry 1 of .* would write over the volume of entry 1"),
        (["b.nii.gz", "link/v0.nii.gz", "c.nii.gz"], "entry 2 of .* would write over the volume of entry 1"),
    ],
)
def test_no_entry_writes_over_another(outs, message, tmp_path):
    (tmp_path / "sub").mkdir()
    (tmp_path / "link").symlink_to(tmp_path)
    for name in ("v0.nii.gz", "v1.nii.gz", "old.nii.gz"):
        (tmp_path / name).write_bytes(b"x")
    (tmp_path / "hard.nii.gz").hardlink_to(tmp_path / "old.nii.gz")
    prompts = [{"type": "click", "point": [1, 2, 3]}]
    number = 1 if len(outs) == 1 else 0
    entries = [{"volume": f"v{i + number}.nii.gz", "out": out, "prompts": prompts} for i, out in enumerate(outs)]
    with pytest.raises(InputError, match=message):
        read_jobs(batch(tmp_path, entries))


def test_paths_of_windows_are_looked_for_beside_the_file(tmp_path):
    prompts = [{"type": "click", "point": [1, 2, 3]}]
    (tmp_path / "scans").mkdir()
    for name in ("ct.nii.gz", "scans/mr.nii.gz"):
        (tmp_path / name).write_bytes(b"x")
    entries = [
        {"volume": r"C:\data\ct.nii.gz", "out": r"D:\results\ct mask.nii.gz", "prompts": prompts},
        {"volume": r"scans\mr.nii.gz", "out": r"masks\mr.nii.gz", "prompts": prompts},
        {"volume": "/of/another/machine/ct.nii.gz", "out": "/of/another/machine/ct.nii.gz", "prompts": prompts},
    ]
    jobs = read_jobs(batch(tmp_path, entries))
    assert [job.volume for job in jobs] == [tmp_path / n for n in ("ct.nii.gz", "scans/mr.nii.gz", "ct.nii.gz")]
    assert [job.out for job in jobs] == [
        tmp_path / "ct mask.nii.gz",
        tmp_path / "masks/mr.nii.gz",
        Path("/of/another/machine/ct.nii.gz"),  # a mask is written where it should be or not at all
    ]


def test_batch_goes_on_after_a_bad_volume(scan, opened, capsys, tmp_path):
    click = {"type": "click", "point": [6, 20, 24]}
    entries = [
        {"volume": "missing.nii.gz", "out": "a.nii.gz", "prompts": [click]},
        {"volume": "scan.nii.gz", "out": "b.nii.gz", "prompts": [click], "scope": "interval", "window": [-50, 300]},
    ]
    assert run("segment", "--prompts", batch(tmp_path, entries)) == 2
    assert (tmp_path / "b.nii.gz").exists()
    assert "missing.nii.gz" in capsys.readouterr().err
    assert run("segment", "--prompts", batch(tmp_path, entries[1:])) == 0
    assert opened[-1]["window"] == (-50.0, 300.0)


CLICK = {"type": "click", "point": [1, 2, 3]}


@pytest.mark.parametrize(("content", "message"), [({}, "list"), ([], "list"), ([1], "entry 1")])
def test_prompts_files_that_are_no_list_of_entries(content, message, tmp_path):
    with pytest.raises(InputError, match=message):
        read_jobs(batch(tmp_path, content))


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"prompts": None}, "prompts"),
        ({"prompts": []}, "prompts"),
        ({"prompts": [{"type": "wave"}]}, "click"),
        ({"prompts": [{"type": "click", "point": [1, 2]}]}, "entry 1"),
        ({"axes": 1}, "axes"),
        ({"window": [1]}, "window"),
        ({"window": ["lo", "hi"]}, "lo < hi"),
        ({"window": [None, 5]}, "lo < hi"),
        ({"start": 5}, "start is a path"),
        ({"together": 1}, "true or false"),
        ({"label": 2}, "give start"),
    ],
)
def test_bad_entries_of_prompts_files(change, message, tmp_path):
    with pytest.raises(InputError, match=message):
        read_jobs(batch(tmp_path, [{"volume": "a", "out": "b", "prompts": [CLICK], **change}]))


def test_prompts_file_that_is_no_json(tmp_path):
    (tmp_path / "p.json").write_text("[{")
    with pytest.raises(FileFormatError, match="JSON"):
        read_jobs(tmp_path / "p.json")
    with pytest.raises(MissingFileError):
        read_jobs(tmp_path / "q.json")


def test_jobs_are_relative_to_their_file(tmp_path):
    entry = {"volume": "in/a.nii", "out": "b.nii", "prompts": [{"type": "box", "lo": [1, 1, 1], "hi": [2, 2, 2]}]}
    (job,) = read_jobs(batch(tmp_path, [entry]))
    assert (job.volume, job.out) == (tmp_path / "in/a.nii", tmp_path / "b.nii")
    volume = Volume.from_array(np.zeros((4, 4, 4), np.float32))
    assert job.prompts(volume) == [Box((1, 1, 1), (2, 2, 2))]


def test_parsers():
    for kind, text, points, positive in (
        ("click", "1, 2,3", [(1, 2, 3)], True),
        ("click", "-1.5,2,3,-", [(-1.5, 2, 3)], False),
        ("box", "1,2,3,4,5,6", [(1, 2, 3), (4, 5, 6)], True),
        ("scribble", "1,2,3;1,4,5;-", [(1, 2, 3), (1, 4, 5)], False),
        ("lasso", "1,2,3;1,4,5;", [(1, 2, 3), (1, 4, 5)], True),
    ):
        assert parse_prompt(kind, text) == (points, positive)
    for kind, text in (("click", "1,2,3,4"), ("click", "1,2,-"), ("box", "1,2,3,4,5,-"), ("lasso", "1,2;3,4")):
        with pytest.raises(InputError, match=f"--{kind} .* cannot be read; give"):
            parse_prompt(kind, text)
    assert parse_window("-160,240") == (-160.0, 240.0)
    volume = Volume.from_array(np.zeros((4, 4, 4), np.float32), spacing=(2.0, 1.0, 0.5))
    assert to_voxel((1.1, 2.0, 5.9), volume, mm=True) == (3, 2, 2)
    assert Click(to_voxel((1.0, 2.0, 3.0), volume, mm=False)).point == (1, 2, 3)


@pytest.mark.parametrize(
    ("error", "code", "text"),
    [
        (Cancelled("stop"), 130, "cancelled"),
        (KeyboardInterrupt(), 130, "cancelled"),
        (SaveError("the disk is full"), 1, "disk is full"),
        (PermissionError(13, "Permission denied", "x"), 1, "Permission denied"),
        (InputError("bad value"), 2, "bad value"),
    ],
)
def test_exit_codes(error, code, text, scan, opened, monkeypatch, capsys, tmp_path):
    def fail(*_, **__):
        raise error

    monkeypatch.setattr(Case, "prompt", fail)
    assert run("segment", scan, "-c", "6,20,24", "-o", tmp_path / "m.nii.gz") == code
    assert text in capsys.readouterr().err
    assert not (tmp_path / "m.nii.gz").exists()


def test_zoo_list_and_unknown_models(capsys):
    assert run("zoo", "list") == 0
    out = capsys.readouterr().out
    assert all(name in out for name in list_zoo())
    assert run("zoo", "show", "limnet-tinny") == 2
    assert "limnet-tinny" in capsys.readouterr().err
    assert run("zoo", "verify", "limnet-tinny") == 2


def test_the_command_line_of_an_interpreter():
    end = subprocess.run([sys.executable, "-m", "limnet", "zoo", "list"], capture_output=True, text=True, check=True)
    assert "limnet-tiny" in end.stdout


def test_convert_refuses_what_is_no_checkpoint(tmp_path, capsys):
    path = tmp_path / "x.pth"
    path.write_bytes(b"hello")
    for kind in ("ritm", "xmem", "imagenet-resnet"):
        assert run("convert", kind, path, tmp_path / "out") == 2
        assert "error:" in capsys.readouterr().err
        assert run("convert", kind, tmp_path / "missing.pth", tmp_path / "out") == 2
    assert not (tmp_path / "out").exists()


needs_model = pytest.mark.skipif("limnet-tiny" not in list_zoo(), reason="limnet-tiny is not in the zoo")


@needs_model
def test_segment_with_the_bundled_model(scan, tmp_path):
    out = tmp_path / "m.nii.gz"
    assert run("segment", scan, "-c", "6,20,24", "-o", out) == 0
    assert np.asarray(nibabel.load(out).dataobj)[24, 20, 6] == 1


@needs_model
def test_bundled_model_is_sound(capsys):
    assert run("zoo", "verify") == 0
    assert run("zoo", "show", "limnet-tiny") == 0
    assert "interaction" in capsys.readouterr().out


def test_no_folder_to_write_into_is_said_before_anything_is_computed(scan, opened, capsys, monkeypatch, tmp_path):
    assert run("segment", scan, "-o", tmp_path / "nowhere" / "m.nii.gz", "-c", "6,20,24") == 1
    assert "does not exist" in capsys.readouterr().err
    monkeypatch.setattr(os, "access", lambda path, mode, **_: path != tmp_path)
    assert run("segment", scan, "-o", tmp_path / "m.nii.gz", "-c", "6,20,24") == 1
    assert "permission denied" in capsys.readouterr().err
    assert not [call for call in opened if "volume" in call]
