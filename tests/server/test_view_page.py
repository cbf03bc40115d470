"""The page of `limnet view` in a real browser, used as a person uses it."""

from __future__ import annotations

import shutil
import threading
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import nibabel
import numpy as np
import pytest

from limnet.errors import SaveError
from tests.helpers.browser import ViewerPage
from tests.helpers.dicom_files import write_slices
from tests.helpers.view_server import BALL, SHAPE, SMALL, SlowPropagator, phantom, serving, write_phantom

PLANES = ("axial", "sagittal", "coronal")
MASK = phantom() >= 100  # what the engine of thresholds finds on a click
Visit = Callable[..., ViewerPage]


@pytest.fixture(scope="module")
def world(tmp_path_factory: pytest.TempPathFactory, browser: Any) -> Iterator[Any]:
    """(server, address, browser context that has logged in, folder of the volumes)."""
    root = tmp_path_factory.mktemp("volumes")
    write_phantom(root / "ct.nii.gz")
    (root / "broken.nii.gz").write_bytes(b"this is no image")
    with serving(root, tmp_path_factory.mktemp("sessions")) as (server, address):
        context = browser.new_context(viewport={"width": 1280, "height": 800})
        first = ViewerPage(context)
        first.goto(f"{address}/#t={server.token}")
        first.wait("Boolean(document.querySelector('#files .entry'))")
        first.close()
        yield server, address, context, root
        context.close()


@pytest.fixture
def visit(world: Any) -> Iterator[Visit]:
    """Opens the viewer on a new case of a volume, or its first page; all pages, cases and new files go at the end."""
    server, address, context, root = world
    before = set(root.iterdir())
    pages = []

    def open_page(volume: Path | None = None, expected: tuple[str, ...] = ()) -> ViewerPage:
        page = ViewerPage(context, expected)
        pages.append(page)
        if volume is None:
            page.goto(address)
            page.wait("document.querySelectorAll('#files .entry').length >= 2")
        else:
            page.goto(f"{address}/#case={server.open_file(volume)['name']}")
            page.wait_ready()
        return page

    yield open_page
    for page in pages:
        page.close()
    for key in server.workspace.cases:
        server.workspace.close_case(key, forget=True)
    for path in set(root.iterdir()) - before:
        shutil.rmtree(path) if path.is_dir() else path.unlink()


@pytest.fixture
def page(visit: Visit, world: Any) -> ViewerPage:
    """The viewer on a new case of the phantom."""
    return visit(world[3] / "ct.nii.gz")


@pytest.fixture
def ball(page: ViewerPage) -> ViewerPage:
    """The same after one click that finds the ball."""
    page.look_at(BALL)
    page.click("axial", BALL)
    page.settled(1)
    return page


def save_nifti(volume: np.ndarray, path: Path, affine: tuple[float, ...] = (1.0, 1.0, 3.0, 1.0)) -> Path:
    nibabel.save(nibabel.Nifti1Image(np.moveaxis(volume, (0, 2), (2, 0)), np.diag(affine)), path)
    return path


def shown(page: ViewerPage, label: int = 1) -> int:
    return int(page.evaluate("limnet.shown()")[label - 1])


def test_the_first_page_opens_files_and_says_why_one_cannot_be(visit):
    page = visit(expected=("400",))
    page.page.click("text=broken.nii.gz")
    page.wait("document.querySelector('#toasts').innerText.length > 0")
    assert "broken.nii.gz" in page.text("#toasts")
    for _ in range(2):  # what was said and chosen before is gone in the next volume
        page.page.click("#files .entry:has-text('ct.nii.gz')")
        page.wait_ready()
        assert "48 × 40 × 20" in page.text("#title")
        assert not page.text("#toasts")
        assert page.evaluate("document.querySelector('[data-tool=point]').getAttribute('aria-pressed')") == "true"
        assert page.text("#tools .sign") == "+"
        page.click("axial", page.state["cross"])
        page.settled(1)
        page.press("t")
        page.press("k")
        page.page.click("#home")
        page.wait("document.querySelector('#recent').innerText.includes('ct.nii.gz')")
    assert "object 1" in page.text("#recent")
    page.page.click("#recent .entry")
    page.wait_ready()
    assert page.state["done"] == 1
    page.wait("(([r, , b]) => r > b)(limnet.colorAt('axial', limnet.state().cross))")  # its colours are back, too


def test_a_file_of_several_volumes_asks_for_one(visit, world):
    save_nifti(np.stack([phantom(), np.full(SHAPE, 7, np.int16)], axis=-1), world[3] / "four.nii.gz")
    page = visit(expected=("400",))
    page.page.click("text=four.nii.gz")
    page.wait("document.querySelector('#ask').open")
    assert "holds 2 volumes" in page.text("#ask-text")
    page.page.fill("#ask-input", "1")
    page.press("Enter")
    page.wait_ready()
    assert page.state["busy"] is False
    page.page.mouse.move(*page.at("axial", page.state["cross"]))
    page.wait("document.querySelector('#under').innerText.startsWith('7 ')")


def test_every_plane_shows_the_right_voxels(page):
    """The file's axes run to the right, front and top; pictures are seen from the front and from below."""
    page.look_at(BALL)
    page.wait(f"limnet.colorAt('coronal', {list(BALL)})[0] > 200")
    bright, dark = page.color_at("axial", BALL), page.color_at("axial", (BALL[0], BALL[1], 40))
    assert min(bright) > 200
    assert max(dark) < 100
    for plane in PLANES:
        assert page.color_at(plane, BALL) == bright
    # radiological: the patient's right on the left, front on top, head on top
    x0, y0 = page.at("axial", BALL)
    assert page.at("axial", (BALL[0], BALL[1], BALL[2] + 5))[0] < x0
    assert page.at("axial", (BALL[0], BALL[1] + 5, BALL[2]))[1] < y0
    x0, y0 = page.at("sagittal", BALL)
    assert page.at("sagittal", (BALL[0] + 3, BALL[1], BALL[2]))[1] < y0
    assert page.at("sagittal", (BALL[0], BALL[1] + 5, BALL[2]))[0] < x0
    # true aspect: 3 mm between slices, 1 mm between columns
    dz = abs(page.at("coronal", (BALL[0] + 1, *BALL[1:]))[1] - page.at("coronal", BALL)[1])
    dx = abs(page.at("coronal", (*BALL[:2], BALL[2] + 1))[0] - page.at("coronal", BALL)[0])
    assert dz == pytest.approx(3 * dx, rel=1e-6)


def test_clicks_undo_and_redo_on_every_plane(page):
    page.look_at(BALL)
    for plane in PLANES:
        page.click(plane, BALL)
        state = page.settled(1)
        assert state["objects"][0]["voxels"] == shown(page) == MASK.sum()
        assert state["cross"] == list(BALL)
        assert page.label_at(BALL) == 1
        page.press("Control+z")
        assert page.settled(0)["objects"][0]["voxels"] == shown(page) == 0
        page.press("Control+Shift+z")
        assert page.settled(1)["undone"] == 0
        assert shown(page) == MASK.sum()
        page.wait(f"(([r, , b]) => r > b)(limnet.colorAt('{plane}', {list(BALL)}))")  # the first object is red
        page.press("Control+z")
        page.settled(0)


def test_negative_clicks(page):
    page.look_at(SMALL)
    for way in ("shift", "right button", "T"):
        page.click("axial", SMALL)
        page.settled(1)
        assert page.label_at(SMALL) == 1
        if way == "shift":
            page.page.keyboard.down("Shift")
        elif way == "T":
            page.press("t")
        page.click("axial", SMALL, button="right" if way == "right button" else "left")
        page.page.keyboard.up("Shift")
        page.settled(2)
        assert page.label_at(SMALL) == 0, way
        assert "click −" in page.text("#history")
        for steps in (1, 0):
            page.press("Control+z")
            page.settled(steps)


def test_strokes_outlines_boxes_and_brush_on_every_plane(page):
    page.look_at(BALL)
    for key in "slbd":
        page.press(key)
        for plane in PLANES:
            check_tool(page, key, plane)
            assert ("wide stroke" in page.text("#toasts")) == (key == "d" and plane != "axial")
            page.press("Control+z")
            page.settled(0)
            assert shown(page) == 0


def check_tool(page: ViewerPage, key: str, plane: str) -> None:
    """Draw with the chosen tool on the ball and look at what came of it."""
    down, across = {"axial": (1, 2), "sagittal": (0, 1), "coronal": (0, 2)}[plane]
    reach = 3 if down == 0 else 12

    def point(v: int, u: int) -> list[int]:
        p = list(BALL)
        p[down] += v
        p[across] += u
        return p

    paths = {
        "s": [point(-2, -3), point(0, 0), point(2, 4)],
        "l": [point(-reach, -12), point(-reach, 12), point(reach, 12), point(reach, -12)],
        "b": [point(-reach, -12), point(reach, 12)],
        "d": [point(-1, -3), point(0, 3)],
    }
    page.drag(plane, paths[key])
    state = page.settled(1)
    assert BALL[0] in state["objects"][0]["prompted"]
    assert state["objects"][0]["voxels"] == shown(page) > 0
    assert page.label_at(BALL) == 1


def test_a_box_in_three_dimensions_is_adjusted_then_used(page):
    z, y, x = BALL
    page.look_at(BALL)
    page.press("b")
    page.press("b")
    assert page.state["solid"]
    page.drag("axial", [(z, y - 12, x - 12), (z, y + 12, x + 12)])
    assert page.state["draft"] == "box3"
    assert page.state["done"] == 0
    # pull its lower side up to two slices below the middle, in the coronal plane
    low = page.evaluate("limnet.draft().lo")
    page.drag("coronal", [(low[0], y, x), (z - 2, y, x)])
    assert page.evaluate("limnet.draft().lo")[0] in (z - 3, z - 2)
    page.press("Enter")
    page.settled(1)
    assert page.label_at((z, y, x)) == 1
    assert page.label_at((z - 3 - 1, y, x)) == 0


def test_brush_and_eraser_change_the_slice_exactly(page):
    z, y, x = 3, 30, 30
    page.look_at((z, y, x))
    page.press("d")
    while page.state["size"] > 1:
        page.press("[")
    page.drag("axial", [(z, y, x), (z, y, x + 6)])
    state = page.settled(1)
    assert state["objects"][0]["pending"] == 1
    assert [page.label_at((z, y, x + i)) for i in range(-1, 8)] == [0] + [1] * 7 + [0]
    assert state["objects"][0]["voxels"] == shown(page) == 7
    page.press("x")
    page.click("axial", (z, y, x + 3))
    page.settled(2)
    assert [page.label_at((z, y, x + i)) for i in range(7)] == [1, 1, 1, 0, 1, 1, 1]
    page.press("Enter")
    page.settled(3)
    assert page.state["objects"][0]["pending"] == 0
    assert page.label_at((z, y, x + 3)) == 0
    assert page.label_at(BALL) == 1  # the engine of thresholds finds it on the other slices


def test_two_objects_with_names_colours_and_locks(ball):
    page = ball
    page.press("e")
    assert page.state["active"] == "object 2"
    page.look_at(SMALL)
    page.click("axial", SMALL)
    state = page.settled(2)
    assert [o["name"] for o in state["objects"]] == ["object 1", "object 2"]
    page.page.dblclick("#objects li[data-object='object 2'] .name")
    page.page.keyboard.type("nodule")
    page.press("Enter")
    page.wait("limnet.state().objects[1].name === 'nodule'")
    assert page.state["active"] == "nodule"
    page.press("1")
    assert page.state["active"] == "object 1"
    page.page.click("#objects li.active button[title^='Lock']")
    page.wait("limnet.state().objects[0].finished")
    page.click("axial", SMALL)
    page.wait("document.querySelector('#toasts').innerText.includes('locked')")
    assert page.state["done"] == 4  # renaming and locking are steps, the click was refused
    page.press("2")
    page.press("Shift+v")
    assert page.state["hidden"] == ["nodule"]
    page.press("Delete")
    page.wait("limnet.state().objects.length === 1")
    assert shown(page) == MASK.sum()
    page.press("Control+z")
    page.wait("limnet.state().objects.length === 2")
    page.page.fill("#objects li:first-child input[type=color]", "#00ff00")
    page.wait("limnet.state().objects[0].color === '#00ff00'")
    page.press("1")
    page.press("Delete")
    page.wait("limnet.state().objects.length === 1")
    page.press("2")  # keys are labels: the nodule keeps its own, wherever it stands in the list
    assert page.state["active"] == "nodule"
    assert page.page.inner_text("#objects li .name small") == "2"
    page.press("1")
    page.wait("document.querySelector('#toasts').innerText.includes('no object with the label 1')")
    page.press("e")
    assert page.state["active"] == "object 3"


def test_suggestion_acceptance_and_marked_slices(ball):
    page = ball
    hint = page.state["objects"][0]["hint"]
    assert f"Slice {hint['index']}" in page.text("#hint")
    page.press("n")
    page.wait(f"limnet.state().cross[0] === {hint['index']}")
    assert "quality" in page.text("#hint")
    assert "Accept the slice (A)" in page.text("#hint")
    page.press("a")
    state = page.settled(2)
    assert state["objects"][0]["accepted"] == [hint["index"]]
    assert sorted(state["objects"][0]["prompted"]) == sorted([BALL[0], hint["index"]])
    page.press("PageUp" if hint["index"] < BALL[0] else "PageDown")
    assert page.state["cross"][0] == BALL[0]


def test_a_larger_and_a_smaller_answer(visit, world):
    volume = phantom()
    z, y, x = BALL
    volume[z - 1 : z + 2, y - 3 : y + 4, x - 3 : x + 4] = 300  # a bright core: what a click in it finds at first
    page = visit(save_nifti(volume, world[3] / "core.nii.gz"))
    beside = (z, y, x + 6)
    page.press(".")
    page.wait("document.querySelector('#toasts').innerText.includes('no larger answer')")
    page.look_at(BALL)
    page.click("axial", BALL)
    page.settled(1)
    assert (page.label_at(BALL), page.label_at(beside)) == (1, 0)
    page.press(".")
    state = page.settled(2)
    assert page.label_at(beside) == 1
    assert state["objects"][0]["accepted"] == [z]
    assert "object 1: larger answer" in page.text("#history")
    page.press(".")
    page.wait("document.querySelector('#toasts').innerText.includes('this is the largest answer')")
    page.press(",")
    page.settled(3)
    assert (page.label_at(BALL), page.label_at(beside)) == (1, 0)
    assert "object 1: smaller answer" in page.text("#history")
    page.page.click("#larger")  # the button says the same
    page.settled(4)
    assert page.label_at(beside) == 1
    page.press("a")
    page.settled(5)
    assert "object 1: slice accepted" in page.text("#history")


def test_objects_of_a_dicom_series_are_saved_with_their_names(visit, world):
    pytest.importorskip("highdicom", reason="the extra `dicom` is not installed")
    root: Path = world[3]
    write_slices(root / "series", (phantom().astype(int) + 1024).astype(np.uint16), np.diag([1.0, 1.0, 3.0, 1.0]),
                 RescaleSlope=1, RescaleIntercept=-1024)  # fmt: skip
    page = visit(root / "series")
    for number, (point, name) in enumerate(((BALL, "liver"), (SMALL, "nodule"), (BALL, "emptied"))):
        page.look_at(point)
        page.click("axial", point)
        page.settled(2 * number + 1)
        page.page.dblclick("#objects li.active .name")
        page.page.keyboard.type(name)
        page.press("Enter")
        page.settled(2 * number + 2)
        page.press("e")
    page.press("3")
    page.press("r")
    page.settled(7)
    [opened] = world[0].workspace.cases.values()
    expected = {name: opened.case.object(name).mask for name in ("liver", "nodule")}
    for suffix in (".dcm", ".rtstruct.dcm"):
        page.press("Control+s")
        page.page.select_option("#save-what", "labels")
        page.page.select_option("#save-format", suffix)
        page.page.fill("#save-path", f"found{suffix}")
        page.page.click("#save-write")
        page.wait("!document.querySelector('#save').open || document.querySelector('#save-error').innerText.length > 0")
        assert not page.evaluate("document.querySelector('#save-error').textContent")
        check_saved(root / f"found{suffix}", root / "series", expected)


def check_saved(path: Path, series: Path, expected: dict[str, np.ndarray]) -> None:
    """Names and voxels as highdicom and pydicom read them."""
    import highdicom
    import pydicom

    if path.name.endswith(".rtstruct.dcm"):
        written = pydicom.dcmread(path)
        assert [str(roi.ROIName) for roi in written.StructureSetROISequence] == list(expected)
        for contours, mask in zip(written.ROIContourSequence, expected.values(), strict=True):
            heights = {round(float(c.ContourData[2]) / 3.0) for c in contours.ContourSequence}
            assert heights == set(np.flatnonzero(mask.any(axis=(1, 2))).tolist())
        return
    written = highdicom.seg.segread(path)
    assert [str(s.SegmentLabel) for s in written.SegmentSequence] == list(expected)
    pixels = written.get_pixels_by_source_instance(
        [pydicom.dcmread(file).SOPInstanceUID for file in sorted(series.glob("*.dcm"))]
    )
    for number, mask in enumerate(expected.values()):
        np.testing.assert_array_equal(pixels[..., number], mask)


def test_looking_around(page):
    page.look_at(BALL)
    x, y = page.at("axial", BALL)
    page.page.mouse.move(x, y)
    page.page.mouse.wheel(0, 100)
    page.wait(f"limnet.state().cross[0] === {BALL[0] - 1}")  # down is towards the feet
    page.press("ArrowUp")
    page.wait(f"limnet.state().cross[0] === {BALL[0]}")
    page.wait(f"document.querySelector('#under').innerText.includes('voxel z {BALL[0]}, y {BALL[1]}, x {BALL[2]}')")
    assert "200 HU" in page.text("#under")
    # zoom about the pointer, pan by the middle button
    page.page.keyboard.down("Control")
    page.page.mouse.wheel(0, -400)
    page.page.keyboard.up("Control")
    page.page.wait_for_timeout(30)
    assert page.at("axial", BALL) == pytest.approx((x, y), abs=1)
    step = page.at("axial", (*BALL[:2], BALL[2] - 1))[0] - x
    page.page.mouse.down(button="middle")
    page.page.mouse.move(x + 50, y + 20, steps=3)
    page.page.mouse.up(button="middle")
    assert page.at("axial", BALL) == pytest.approx((x + 50, y + 20), abs=1)
    page.press("f")
    assert page.at("axial", (*BALL[:2], BALL[2] - 1))[0] - page.at("axial", BALL)[0] < step
    # window
    before = page.state["window"]
    page.drag("axial", [BALL, (BALL[0], BALL[1], BALL[2] - 10)], button="right")
    assert page.state["window"][1] - page.state["window"][0] > before[1] - before[0]
    assert page.state["done"] == 0  # a right drag is no click
    page.page.select_option("#preset", "Bone")
    assert page.state["window"] == [-450, 1050]
    # ruler: 10 columns of 1 mm, then 4 slices of 3 mm
    page.press("k")
    page.drag("axial", [BALL, (BALL[0], BALL[1], BALL[2] + 10)])
    assert page.state["rule"] == pytest.approx(10, abs=0.3)
    page.drag("coronal", [BALL, (BALL[0] + 4, *BALL[1:])])
    assert page.state["rule"] == pytest.approx(12, abs=0.3)
    page.press("Escape")
    assert page.state["rule"] is None
    # switches
    for key, name in (("v", "masks"), ("o", "outline"), ("g", "marks"), ("h", "cross")):
        was = page.state["look"][name]
        page.press(key)
        assert page.state["look"][name] is not was
        page.press(key)
    page.press("?")
    assert "look here next" in page.text("#keys")
    page.press("Escape")


def test_a_running_round_is_shown_and_cancelled(page, monkeypatch):
    monkeypatch.setattr(SlowPropagator, "seconds", 0.15)
    page.look_at(BALL)
    page.click("axial", BALL)
    page.wait(f"limnet.labelAt({list(BALL)}) === 1")  # the clicked slice is there at once
    assert page.state["done"] == 0
    page.wait("document.querySelector('#round').innerText.includes('slice')")
    page.press("Escape")
    page.wait("!limnet.state().busy")
    assert page.state["done"] == 0
    page.wait("limnet.shown().every((n) => n === 0)")
    assert page.label_at(BALL) == 0
    assert "Cancelled" in page.text("#toasts")


def test_saving_where_the_volume_lies(ball, world):
    page, root = ball, world[3]
    page.press("Control+s")
    page.page.select_option("#save-what", "labels")
    assert "DICOM" not in page.text("#save-format")  # the volume comes from no DICOM series
    page.page.select_option("#save-format", ".nii.gz")
    page.page.fill("#save-path", "found.nii.gz")
    page.page.click("#save-write")
    page.wait("!document.querySelector('#save').open")
    written, image = nibabel.load(root / "found.nii.gz"), nibabel.load(root / "ct.nii.gz")
    np.testing.assert_array_equal(np.asarray(written.dataobj).transpose(2, 1, 0), MASK)
    np.testing.assert_array_equal(written.affine, image.affine)
    # the image itself is never replaced, and other files only after a question, however many they are
    page.expected += ["400", "409"]
    (root / "found_object_1.nii.gz").write_bytes(b"older")
    page.press("Control+s")
    page.page.select_option("#save-what", "objects")
    page.page.fill("#save-path", "found.nii.gz")
    page.page.click("#save-write")
    page.page.click("#ask-yes")
    page.wait("!document.querySelector('#save').open")
    assert np.count_nonzero(nibabel.load(root / "found_object_1.nii.gz").dataobj) == MASK.sum()
    page.press("Control+s")
    page.page.fill("#save-path", "found.nii.gz")
    page.page.click("#save-write")
    page.wait("document.querySelector('#ask').open")
    page.page.click("#ask-no")
    page.page.fill("#save-path", "ct.nii.gz")
    page.page.click("#save-write")
    page.page.click("#ask-yes")
    page.wait("document.querySelector('#save-error').innerText.length > 0")
    assert "image itself" in page.text("#save-error")
    with page.page.expect_download() as waiting:
        page.page.click("#save-download")
    assert waiting.value.suggested_filename.endswith(".nii.gz")
    with page.page.expect_download() as waiting:
        page.page.click("#snapshot")
    assert Path(waiting.value.path()).read_bytes().startswith(b"\x89PNG")


def test_a_save_dialog_that_is_closed_early_still_tells_how_it_ended(ball, monkeypatch):
    page, go_on = ball, threading.Event()

    def slowly(*_: Any) -> None:
        go_on.wait(30)
        raise SaveError("the disk is full")

    monkeypatch.setattr("limnet.server.app.save", slowly)
    page.expected += ["400", "500", "507"]
    page.press("Control+s")
    page.page.fill("#save-path", "late.nii.gz")
    page.page.click("#save-write")
    page.press("Escape")
    page.press("Control+s")
    go_on.set()
    page.wait("document.querySelector('#toasts').innerText.includes('Not saved: the disk is full')")
    assert page.evaluate("document.querySelector('#save').open")
    assert not page.text("#save-error")
    page.press("Escape")


def test_reload_and_a_second_tab_without_webgl_lose_nothing(ball, world):
    page, other = ball, ViewerPage(world[2])
    page.wait("limnet.state().meshes.length === 1")
    assert page.state["meshes"][0][1] > 500
    other.page.add_init_script(
        "const get = HTMLCanvasElement.prototype.getContext;"
        "HTMLCanvasElement.prototype.getContext = function (kind, ...rest)"
        " { return kind.startsWith('webgl') ? null : get.call(this, kind, ...rest); };"
    )
    other.goto(page.page.url)
    other.wait_ready()
    assert "WebGL" in other.text(".shape3d .message")
    assert shown(other) == MASK.sum()
    other.press("Control+z")
    page.settled(0)
    assert shown(page) == 0
    page.press("Control+Shift+z")
    other.settled(1)
    assert shown(other) == MASK.sum()
    other.close()
    page.page.reload()
    page.wait_ready()
    assert page.state["done"] == 1
    assert shown(page) == MASK.sum()
    assert page.state["cross"][0] == MASK.sum((1, 2)).argmax()  # where the object is largest


def test_nothing_overlaps_or_is_cut_off(ball):
    """Every button and text of bars and panel lies inside the window and beside its neighbours."""
    page = ball
    for width, height in ((1280, 800), (1920, 1080), (800, 600)):
        page.page.set_viewport_size({"width": width, "height": height})
        page.page.wait_for_timeout(80)
        boxes = page.evaluate(
            """() => ['#bar', '#tools', '#panel'].map((area) => [...document.querySelectorAll(
                `${area} button, ${area} input, ${area} select, ${area} h2, ${area} #hint, ${area} .name`)]
              .map((e) => [e.getBoundingClientRect(), e]).filter(([b]) => b.width)
              .map(([b, e]) => [e.outerHTML.slice(0, 60), b.left, b.top, b.right, b.bottom]))"""
        )
        for area in boxes:
            for i, (name, left, top, right, bottom) in enumerate(area):
                assert min(left, top, width - right, height - bottom) >= 0, (name, width)
                for other, l2, t2, r2, b2 in area[i + 1 :]:
                    apart = right <= l2 + 1 or r2 <= left + 1 or bottom <= t2 + 1 or b2 <= top + 1
                    assert apart, (name, other, width)
    page.page.set_viewport_size({"width": 1280, "height": 800})


@pytest.mark.parametrize("axis", [1, 2])
def test_slices_along_another_axis(visit, world, axis):
    """Thick sagittal or coronal slices: the case goes along them, and what is drawn lands where it was drawn."""
    spacing = [1.0, 1.0, 1.0]
    spacing[axis] = 4.0
    page = visit(save_nifti(phantom(), world[3] / "thick.nii.gz", (*spacing[::-1], 1.0)))
    plane = {1: "coronal", 2: "sagittal"}[axis]
    page.look_at(BALL)
    page.click(plane, BALL)
    state = page.settled(1)
    assert state["objects"][0]["prompted"] == [BALL[axis]]
    assert shown(page) == MASK.sum()
    start, end = [4, 32, 40], [4, 32, 40]
    other = ({1, 2} - {axis}).pop()
    end[other] += 5
    page.look_at(start)
    page.press("e")
    page.press("d")
    while page.state["size"] > 1:
        page.press("[")
    page.drag(plane, [start, end])
    state = page.settled(2)
    assert state["objects"][1]["voxels"] == shown(page, 2) == 6
    [opened] = world[0].workspace.cases.values()
    labels = opened.case.labels
    line = tuple(slice(a, b + 1) for a, b in zip(start, end, strict=True))
    assert (labels[line] == 2).all()
    assert (labels == 2).sum() == 6


@pytest.mark.parametrize(("mm", "shown_as", "unit"), [(1.0, 1, "mm"), (2e-4, 0.2, "µm"), (1e-5, 10, "nm")])
def test_values_lengths_and_volumes_as_text(visit, world, mm, shown_as, unit):
    """What is under a still pointer is told anew after a click; lengths are in the unit that suits the voxels."""
    spots = np.where(phantom() > 0, 1230.04, 1.5).astype(np.float32)
    page = visit(save_nifti(spots, world[3] / "spots.nii.gz", (mm, mm, 3 * mm, 1.0)))
    page.look_at(BALL)
    page.click("axial", BALL)
    page.settled(1)
    page.wait("document.querySelector('#under').innerText.includes('object 1')")
    assert page.text("#under").startswith("1230 ")
    right, front, top = (f"{shown_as * voxels:.1f}" for voxels in (BALL[2], BALL[1], 3 * BALL[0]))
    assert f"{right} R  {front} A  {top} S {unit}" in page.text("#under")
    volume = 3 * MASK.sum() * shown_as**3  # from 1000 mm³ on in ml
    assert (f"{volume / 1000:.1f} ml" if unit == "mm" else f"{volume:.0f} {unit}³") in page.text("#objects")
    page.press("k")
    page.drag("axial", [BALL, (BALL[0], BALL[1], BALL[2] + 10)])
    page.wait(f"document.querySelector('#under').innerText.includes('x {BALL[2] + 10}')")
    length, given = page.text("#under").split("ruler ")[1].split()
    assert (float(length), given) == (pytest.approx(10 * shown_as, rel=0.05), unit)


def test_colour_frames(world):
    server, address, context, _ = world
    frames = np.zeros((6, 40, 50, 3), np.uint8)
    frames[:, 10:30, 15:35] = (250, 60, 20)
    opened = server.workspace.open(frames)
    page = ViewerPage(context)
    page.goto(f"{address}/#case={server.name_of(opened)}")
    page.wait_ready()
    page.look_at((3, 20, 25))
    page.press("h")
    page.wait("limnet.colorAt('axial', [3, 20, 25])[0] === 250")
    assert page.color_at("axial", (3, 20, 25)) == [250, 60, 20]
    assert page.text("section[data-plane=axial] b") == "Frames"
    page.click("axial", (3, 20, 25))
    page.settled(1)
    assert page.label_at((3, 20, 25)) == 1
    page.wait("document.querySelector('#under').innerText.includes('250 60 20')")
    assert f"{shown(page)} voxels" in page.text("#objects"), "nobody said how large a pixel is"
    page.press("k")
    page.drag("axial", [(3, 20, 10), (3, 20, 20)])
    page.wait("/ruler (9|10).* px/.test(document.querySelector('#under').innerText)")
    page.close()
    server.workspace.close_case(opened.key, forget=True)
