"""napari's own plugin against `limnet serve`, with mouse and keys: run by hand, since napari and Qt are large.

    python -m venv NAPARI && NAPARI/bin/pip install napari PyQt6 napari-nninteractive
    apt-get install xvfb libegl1 libgl1 libxkbcommon-x11-0 libxcb-cursor0 libxcb-icccm4 libxcb-keysyms1 libxcb-shape0
    python tests/server/napari_by_hand.py NAPARI/bin/python ct.nii.gz labels.nii.gz 3 --picture napari.png

starts `limnet serve`, starts itself once more with napari's Python under Xvfb, and there types the address, presses
Connect and Initialize, clicks, clicks negatively, draws a box and a scribble, and takes them back one after the other.
The places are taken from a label map. After every step the mask in napari is compared with that of the same prompts
given to the library, voxel by voxel.
"""

from __future__ import annotations

import argparse
import json
import os
import subprocess
import sys
import tempfile
import time
from pathlib import Path
from typing import Any

import numpy as np

UNDONE = 4  # steps that are taken back
WAIT = 60.0  # seconds for the server, and for every answer


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("napari", type=Path, help="Python of an environment with napari and its plugin")
    parser.add_argument("volume", type=Path, help="image, whose slices lie along its first axis")
    parser.add_argument("labels", type=Path, help="label map of it")
    parser.add_argument("value", type=int, help="value of the object in it that is marked")
    parser.add_argument("--model", default="limnet-tiny")
    parser.add_argument("--picture", type=Path, help="where the picture of the window goes")
    options = parser.parse_args()
    with tempfile.TemporaryDirectory() as folder:
        return by_hand(options, Path(folder))


# limnet's side


def by_hand(options: argparse.Namespace, folder: Path) -> int:
    """Serve, let napari work, compare."""
    from limnet import InteractiveSegmenter, Volume
    from limnet.image.io.masks import read_labels

    volume = Volume.read(options.volume)
    places = prompts_for(read_labels(options.labels, volume) == options.value)
    np.savez(folder / "image.npz", image=volume.array, spacing=volume.spacing)
    (folder / "places.json").write_text(json.dumps(places))
    command = [sys.executable, "-m", "limnet", "serve", "--port", "0", "--model", options.model]
    with subprocess.Popen(command, stdout=subprocess.PIPE, text=True) as server:
        try:
            assert server.stdout is not None
            url = next(word for word in server.stdout.readline().split() if word.startswith("http://"))
            screen = ["xvfb-run", "-a", "-s", "-screen 0 1280x900x24"]
            settings = {**os.environ, "XDG_CONFIG_HOME": str(folder), "NAPARI_CONFIG": str(folder / "settings.yaml")}
            settings.pop("PYTHONPATH", None)
            subprocess.run(
                [*screen, str(options.napari), __file__, "--in-napari", url, str(folder)], env=settings, check=True
            )
        finally:
            server.terminate()
    if options.picture is not None:
        options.picture.write_bytes((folder / "napari.png").read_bytes())
    seen = np.load(folder / "seen.npz")
    case = InteractiveSegmenter.from_pretrained(options.model).open(volume.array, spacing=volume.spacing, axis=0)
    wrong = 0
    for number, sent in enumerate(json.loads((folder / "sent.json").read_text())):
        give(case, sent, seen)
        mask = seen[f"mask{number}"]
        differ = int((mask.astype(bool) != case.mask).sum())
        wrong += differ
        text = f"{sent['what']:<28} {sent['seconds']:5.2f} s, {int(mask.sum()):6d} voxels, {differ} differ"
        sys.stdout.write(f"{text} from the library's\n")
    return int(wrong > 0)


def prompts_for(truth: np.ndarray) -> dict[str, Any]:
    """Places of prompts on an object, as (slice, row, column)."""
    from scipy import ndimage

    areas = truth.sum((1, 2))
    middle = int(areas.argmax())
    used = np.flatnonzero(areas)
    inside = ndimage.distance_transform_edt(truth[middle])
    row, column = (int(v) for v in np.unravel_index(inside.argmax(), inside.shape))
    outside = ndimage.distance_transform_edt(~truth[middle])
    ring = np.argwhere((outside >= 4) & (outside < 5))
    away = ring[len(ring) // 2]
    low, high = (int((middle + 2 * end) // 3) for end in (used[0], used[-1]))
    boxed = np.argwhere(truth[low])
    centre = int(truth[high].sum(1).argmax())
    columns = np.flatnonzero(truth[high][centre])
    left, right = (int(columns[len(columns) * part // 4]) for part in (1, 3))
    return {
        "positive": [middle, row, column],
        "negative": [middle, int(away[0]), int(away[1])],
        "box": [[low, *map(int, boxed.min(0))], [low, *map(int, boxed.max(0))]],
        "scribble": [[high, centre, left], [high, centre, right]],
    }


def give(case: Any, sent: dict[str, Any], arrays: Any) -> None:
    """What napari's plugin sent, given to the library."""
    from limnet.prompts import Box, Click, Scribble

    if sent["kind"] == "point":
        case.prompt(Click(tuple(round(v) for v in sent["data"]), sent["positive"]))
    elif sent["kind"] == "bbox":
        lo, end = zip(*([round(v) for v in side] for side in sent["data"]), strict=True)
        case.prompt(Box(lo, tuple(v - 1 for v in end)))
    elif sent["kind"] == "scribble":
        drawn = np.zeros(case.mask.shape, bool)
        drawn[tuple(slice(*side) for side in sent["data"])] = arrays[sent["array"]] > 0
        case.prompt(Scribble.of(drawn, sent["positive"]))
    else:
        case.undo()


# napari's side: here is no limnet


def in_napari(url: str, folder: Path) -> None:
    """Work with the plugin; leaves masks, prompts and a picture in the folder."""
    import napari
    from napari_nninteractive import widget_gui
    from napari_nninteractive.widget_main import nnInteractiveWidget
    from qtpy.QtCore import QEvent, QPointF, Qt
    from qtpy.QtGui import QMouseEvent
    from qtpy.QtTest import QTest
    from qtpy.QtWidgets import QApplication

    widget_gui.VersionChecker.start = lambda self: None  # it would ask the network
    stored, places = np.load(folder / "image.npz"), json.loads((folder / "places.json").read_text())
    viewer = napari.Viewer(show=True)
    viewer.window.resize(1240, 860)
    image = viewer.add_image(stored["image"], name="ct", scale=stored["spacing"], contrast_limits=(-160, 240))
    plugin = nnInteractiveWidget(viewer)
    viewer.window.add_dock_widget(plugin, name="nnInteractive", area="right")

    def until(true: Any, what: str) -> None:
        end = time.monotonic() + WAIT
        while not true():
            assert time.monotonic() < end, f"waited in vain until {what}"
            QApplication.processEvents()
            time.sleep(0.01)

    def press(button: Any) -> None:
        QTest.mouseClick(button, Qt.LeftButton)

    QTest.keyClicks(plugin.server_url_edit, url)
    QTest.keyClick(plugin.server_url_edit, Qt.Key_Return)
    press(plugin.connect_btn)
    until(lambda: plugin._remote_connected, "it is connected")
    press(plugin.init_button)
    until(lambda: plugin.label_layer_name in viewer.layers, "the image is sent")
    until(lambda: plugin.undo_button.isEnabled(), "prompts can be given")
    sys.stdout.write(f"{plugin.remote_status_label.text()}; {plugin.model_license_label.text()}\n")

    sent: list[dict[str, Any]] = []
    arrays: dict[str, np.ndarray] = {}
    last: dict[str, Any] = {}

    def recorded(kind: str) -> None:
        call = getattr(plugin.session, f"add_{kind}_interaction")

        def add(data: Any, positive: bool, *args: Any, **more: Any) -> Any:
            last.update(kind=kind, positive=positive)
            if kind == "scribble":
                last["array"] = f"drawn{len(sent)}"
                arrays[last["array"]] = np.array(data)
                data_sent: Any = more["interaction_bbox"]
            else:
                data_sent = data
            last["data"] = np.asarray(data_sent).tolist()
            return call(data, positive, *args, **more)

        setattr(plugin.session, f"add_{kind}_interaction", add)

    for kind in ("point", "bbox", "scribble"):
        recorded(kind)
    canvas = viewer.window._qt_viewer.canvas.native

    def on_canvas(voxel: list[int]) -> QPointF:
        world = np.array(image.data_to_world(voxel))[-2:] - np.array(viewer.scene.camera.center)[-2:]
        return QPointF(
            canvas.width() / 2 + world[1] * viewer.scene.camera.zoom,
            canvas.height() / 2 + world[0] * viewer.scene.camera.zoom,
        )

    def mouse(kind: QEvent.Type, at: QPointF, held: bool) -> None:
        button = Qt.NoButton if kind == QEvent.MouseMove else Qt.LeftButton
        buttons = Qt.LeftButton if held else Qt.NoButton
        place = QPointF(canvas.mapToGlobal(at.toPoint()))
        QApplication.sendEvent(canvas, QMouseEvent(kind, at, place, button, buttons, Qt.NoModifier))
        QApplication.processEvents()

    def drag(start: list[int], end: list[int]) -> None:
        first, final = on_canvas(start), on_canvas(end)
        mouse(QEvent.MouseMove, first, False)
        mouse(QEvent.MouseButtonPress, first, True)
        for part in np.linspace(0.1, 1, 10) if start != end else ():
            mouse(QEvent.MouseMove, first + (final - first) * float(part), True)
            time.sleep(0.02)
        mouse(QEvent.MouseButtonRelease, final, False)

    def step(what: str, act: Any) -> None:
        last.clear()
        start = time.monotonic()
        act()
        until(lambda: bool(last), f"the plugin has sent: {what}")
        label = viewer.layers[plugin.label_layer_name].data
        arrays[f"mask{len(sent)}"] = np.array(label)
        sent.append({"what": what, "seconds": time.monotonic() - start, **last})

    def tool(number: int, positive: bool, plane: int) -> None:
        press(plugin.interaction_button.buttons[number])
        press(plugin.prompt_button.buttons[0 if positive else 1])
        viewer.dims.set_current_step(0, plane)
        QApplication.processEvents()

    def undo() -> None:
        press(plugin.undo_button)
        last.update(kind="undo")

    tool(0, True, places["positive"][0])
    step("click", lambda: drag(places["positive"], places["positive"]))
    tool(0, False, places["negative"][0])
    step("negative click", lambda: drag(places["negative"], places["negative"]))
    tool(1, True, places["box"][0][0])
    step("box", lambda: drag(*places["box"]))
    tool(2, True, places["scribble"][0][0])
    step("scribble", lambda: drag(*places["scribble"]))
    viewer.dims.set_current_step(0, places["positive"][0])
    QApplication.processEvents()
    viewer.screenshot(str(folder / "napari.png"), canvas_only=False, flash=False)
    for number in range(UNDONE):
        step(f"undo {number + 1}", undo)
    np.savez(folder / "seen.npz", **arrays)
    (folder / "sent.json").write_text(json.dumps(sent))
    viewer.close()


if __name__ == "__main__":
    if sys.argv[1:2] == ["--in-napari"]:
        in_napari(sys.argv[2], Path(sys.argv[3]))
    else:
        sys.exit(main())
