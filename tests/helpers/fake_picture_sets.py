"""Tiny data sets of pictures and films in their owners' layouts, each with the oddities of the real one.

DAVIS 2017 and YouTube-VOS: palette masks, undecided pixels, objects that come late, frames in steps of 5. EndoVis18:
four releases, doubled folders, macOS shadows, two forms of labels.json, RGB and RGBA, repairs. In-house slices: CT of
16 bits, ultrasound in colour, a mask file an object, 128 at the edge. Static sets: XMem's folder and the owners', masks
soft at the edges. iShape: six kinds, 16-bit instance maps, JSON with colliding ids, links. DAVIS-585: masks of three
equal channels, two kinds of flawed ones. GrabCut, Berkeley, DAVIS-345 and SBD as RITM reads them. COCO + LVIS: RITM's
pickles with numpy's old module names, and the sources they are made from.
"""

from __future__ import annotations

import contextlib
import io
import json
import pickle
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray
from PIL import Image
from scipy import ndimage
from scipy.io import savemat

from limnet.datasets.endovis18 import CLASSES, COLOURS
from tests.helpers.fake_nifti import write_side_file
from tests.helpers.fake_pictures import SHAPE, disc, photo, write_palette, write_picture


def shown(path: Path, labels: NDArray[Any], seed: int = 0) -> Path:
    """Write a photo of labels, and what macOS leaves beside it."""
    write_side_file(write_picture(path, photo(labels, seed)))
    return path


def white(mask: NDArray[np.bool_]) -> NDArray[np.uint8]:
    """255 on the object."""
    return (mask * 255).astype(np.uint8)


DAVIS_FILMS = {"train": ("bear", "bike-trial"), "val": ("goat",)}
YOUTUBE_FILMS = ("003234408d", "0043f083b5", "0044fa5fba", "005a527edd")
FRAMES = 9


def moving(frame: int, shape: tuple[int, int], late: bool = True) -> NDArray[np.uint8]:
    """Object 1 moves; object 2 is there from frame 2 on."""
    labels = np.zeros(shape, np.uint8)
    labels[disc(16, 14 + frame, 9, shape)] = 1
    if frame >= 2 or not late:
        labels[disc(28, 44 - frame, 7, shape)] = 2
    return labels


def build_davis(root: Path, year: int = 2017) -> Path:
    """`root`/DAVIS with lists of both years; films are of different width, object borders undecided."""
    base = root / "DAVIS"
    for number, film in enumerate([*DAVIS_FILMS["train"], *DAVIS_FILMS["val"]]):
        shape = (40, 56 + 4 * number)
        for frame in range(FRAMES):
            labels = moving(frame, shape)
            shown(base / "JPEGImages/480p" / film / f"{frame:05d}.jpg", labels, number)
            mask = base / "Annotations/480p" / film / f"{frame:05d}.png"
            if year == 2017:
                labels[0, :3] = 255
                write_palette(mask, labels)
            else:
                write_picture(mask, white(labels == 1))
    for split, films in DAVIS_FILMS.items():
        listed = base / "ImageSets" / str(year) / f"{split}.txt"
        listed.parent.mkdir(parents=True, exist_ok=True)
        lines: list[str] = list(films)
        if year == 2016:
            lines = [
                f"/JPEGImages/480p/{film}/{n:05d}.jpg /Annotations/480p/{film}/{n:05d}.png"
                for film in films
                for n in range(FRAMES)
            ]
        listed.write_text("\n".join(lines) + "\n")
    return root


def build_youtube(root: Path, folder: str = "train") -> Path:
    """`root`/train with meta.json, films of two objects; the second one comes late."""
    base = root / folder
    videos = {}
    for number, film in enumerate(YOUTUBE_FILMS):
        names = [f"{5 * frame:05d}" for frame in range(FRAMES)]
        for frame, name in enumerate(names):
            labels = moving(frame, (40, 56))
            shown(base / "JPEGImages" / film / f"{name}.jpg", labels, number)
            write_palette(base / "Annotations" / film / f"{name}.png", labels)
        objects = {
            "1": {"category": "penguin", "frames": names},
            "2": {"category": "penguin" if number else "zebra", "frames": names[2:]},
        }
        videos[film] = {"objects": objects}
    (root / "train").mkdir(exist_ok=True)
    (root / "train" / "meta.json").write_text(json.dumps({"videos": videos}))
    return root


RELEASES = {1: range(1, 5), 2: range(5, 8), 3: range(9, 13), 4: range(13, 17)}
ENDOVIS_NAMES = {0: "background-tissue", **CLASSES}
COLOUR_OF = {number: colour for colour, number in reversed(COLOURS.items())}


def build_endovis18(root: Path, frames: int = FRAMES) -> Path:
    """All 15 training and 4 test sequences; release 2 is doubled, the test folder is a drive download."""
    for release, numbers in RELEASES.items():
        name = f"miccai_challenge_2018_release_{release}"
        base = root / name / name if release == 2 else root / name
        for number in numbers:
            _write_sequence(base / f"seq_{number}", number, frames)
        (base / "labels.json").write_text(json.dumps(endovis_table()))
        write_side_file(root / name / "__MACOSX" / name / f"seq_{numbers[0]}" / "left_frames" / "frame000.png")
    for number in range(1, 5):
        _write_sequence(root / "test_data" / f"seq_{number}-20200101T-001" / f"seq_{number}", number, frames, rgba=True)
    classes = [
        {"name": "intestine" if n == 10 else name, "color": [*COLOUR_OF[n], 128], "active": True, "classid": n}
        for n, name in ENDOVIS_NAMES.items()
    ]
    (root / "test_data" / "labels.json").write_text(json.dumps({"classes": classes}))
    write_side_file(write_picture(root / "repairs" / "seq_1_frame003.png", endovis_colours(endovis_scene(3, 0))))
    return root


def endovis_table() -> list[dict]:
    return [{"name": name, "color": list(COLOUR_OF[n]), "classid": n} for n, name in ENDOVIS_NAMES.items()]


def endovis_scene(frame: int, number: int) -> NDArray[np.uint8]:
    """Parenchyma (4), shaft (1) and, in odd sequences, thread (6); sequence 0 is the repaired one."""
    labels = np.zeros(SHAPE, np.uint8)
    labels[disc(20, 28, 15)] = 4
    labels[disc(14, 14 + frame, 8)] = 1
    if number % 2:
        labels[30:33, 10:40] = 6
    return labels


def endovis_colours(labels: NDArray[np.uint8]) -> NDArray[np.uint8]:
    return np.array([COLOUR_OF[n] for n in range(12)], np.uint8)[labels]


def _write_sequence(folder: Path, number: int, frames: int, rgba: bool = False) -> None:
    for frame in range(frames):
        labels = endovis_scene(frame, number)
        for eye in ("left_frames", "right_frames")[: 2 if frame == 0 else 1]:
            write_picture(folder / eye / f"frame{frame:03d}.png", photo(labels, number))
        mask = endovis_colours(labels)
        if rgba:
            mask = np.concatenate([mask, np.full((*labels.shape, 1), 128, np.uint8)], -1)
        write_side_file(write_picture(folder / "labels" / f"frame{frame:03d}.png", mask))
    (folder / "camera_calibration.txt").write_text("fx 1\n")


def build_slices(root: Path) -> Path:
    """`root`/ct and `root`/us, three patients with two slices each; two objects on the second slice."""
    for modality in ("ct", "us"):
        for patient in range(3):
            for number in (1, 2):
                stem = f"p{patient:02d}_slice{number:02d}"
                columns = (16 + patient, 40)[:number]
                inside = np.sum([disc(20, column, 9) for column in columns], 0)
                image = (1000 + 200 * inside + np.indices(SHAPE)[0]).astype(np.uint16)
                image = image if modality == "ct" else photo(inside, patient)
                write_side_file(write_picture(root / modality / "images" / f"{stem}.png", image))
                for k, column in enumerate(columns, 1):
                    pixels = np.where(disc(20, column, 9), 255, np.where(disc(20, column, 10), 128, 0))
                    ending = "" if number == 1 else f"_{k}"
                    write_picture(root / modality / "masks" / f"{stem}{ending}.png", pixels.astype(np.uint8))
    return root


def soft(number: int, size: tuple[int, int] = SHAPE) -> NDArray[np.uint8]:
    """A blurred mask, 0..255."""
    return (ndimage.gaussian_filter(disc(20, 26 + number, 11, size).astype(float), 1) * 255).astype(np.uint8)


def _soft_pair(image: Path, mask: Path, number: int = 0) -> None:
    shown(image, soft(number) > 127, number)
    write_picture(mask, soft(number))


def build_static_sets(root: Path) -> Path:
    """`root`/static as XMem has it; one FSS picture with its suffix in capitals."""
    static = root / "static"
    for kind in ("ab_wheel", "zebra"):
        for number in (1, 2):
            suffix = "JPG" if (kind, number) == ("zebra", 2) else "jpg"
            _soft_pair(static / "fss" / kind / f"{number}.{suffix}", static / "fss" / kind / f"{number}.png", number)
    for part in ("ecssd", "DUTS-TR", "DUTS-TE", "BIG_small", "HRSOD_small"):
        for number in range(2):
            _soft_pair(static / part / f"im_{number}.jpg", static / part / f"im_{number}.png", number)
    return root


def build_original_static_sets(root: Path) -> Path:
    """The sets side by side as their owners ship them."""
    for image, mask in (
        ("FSS-1000/zebra/1.jpg", "FSS-1000/zebra/1.png"),
        ("DUTS-TR/DUTS-TR-Image/a.jpg", "DUTS-TR/DUTS-TR-Mask/a.png"),
        ("DUTS-TE/DUTS-TE-Image/a.jpg", "DUTS-TE/DUTS-TE-Mask/a.png"),
        ("ECSSD/images/0001.jpg", "ECSSD/ground_truth_mask/0001.png"),
        ("BIG/val/2007_im.jpg", "BIG/val/2007_gt.png"),
        ("HRSOD/HRSOD_train/x.jpg", "HRSOD/HRSOD_train_mask/x.png"),
    ):
        _soft_pair(root / image, root / mask)
    return root


ISHAPE_JSON = "coco_format-mask_encoding=rle-instances_2017.json"


def build_ishape(root: Path, count: int = 2) -> Path:
    """Write `root`/ishape_dataset; returns `root`. Values of the maps: 1000, 1001 objects, 7 background."""
    for k, kind in enumerate(("antenna", "branch", "fence", "hanger", "log", "wire")):
        for split in ("train", "val"):
            folder = root / "ishape_dataset" / kind / split
            images, annotations = [], []
            for number in range(count):
                values = np.full(SHAPE, 7, np.uint16)
                values[disc(14, 16 + number, 9)] = 1000
                values[disc(26, 40, 8 + k / 2)] = 1001
                path = folder / "image" / f"{number}.{'png' if kind == 'wire' else 'jpg'}"
                shown(path, (values >= 1000) * (values % 7 + 1), k)
                write_picture(folder / "instance_map" / f"{number}.png", values)
                identity = number + 1  # starts anew in every folder
                images.append({"id": identity if kind != "log" else str(identity), "file_name": path.name})
                annotations += [{"image_id": identity, "iscrowd": 0, "category_id": 1} for _ in range(2)]
            content = {"images": images, "annotations": annotations, "categories": [{"id": 1, "name": "cat1"}]}
            (folder / ISHAPE_JSON).write_text(json.dumps(content))
            (folder / "coco_format").mkdir()
            with contextlib.suppress(OSError):  # no links on some systems
                (folder / "coco_format" / f"{split}2017").symlink_to("../image")
                (folder / "coco_format" / "instances_train2017.json").symlink_to(f"../{ISHAPE_JSON}")
    return root


DAVIS585_FILMS = ("bike-packing", "blackswan", "breakdance_x", "india")
DAVIS585_OBJECTS = 12


def build_davis585(root: Path) -> Path:
    """Two frames a film; two objects in the first frame, one in the second."""
    for number, film in enumerate(DAVIS585_FILMS):
        folder = root / "davis585" / film
        for frame in (60, 75):
            masks = [disc(20, 16 + number, 10), disc(20, 40, 9)][: 2 if frame == 60 else 1]
            shown(folder / f"{frame:05d}.jpg", np.sum(masks, 0), number)
            for k, mask in enumerate(masks, 1):
                flawed = {"": mask, "init_stm_": mask & disc(16, 28, 20), "init_sp_": mask | disc(20, 28, 3)}
                for prefix, value in flawed.items():
                    pixels = np.repeat(white(value)[..., None], 3, -1)
                    write_picture(folder / f"{prefix}object{k}_{frame:05d}.png", pixels)
    return root


CLICK_OBJECTS = 3
"""Of each of GrabCut, Berkeley and DAVIS-345 here."""


def build_grabcut(root: Path) -> Path:
    """Pictures of several suffixes; masks with a band of 128 around the object."""
    for number, name in enumerate(("flower.jpg", "banana.JPG", "scissors.bmp")):
        inside, wide = disc(20, 28, 9 + number), disc(20, 28, 12 + number)
        shown(root / "data_GT" / name, inside, number)
        mask = np.where(inside, 255, np.where(wide, 128, 0)).astype(np.uint8)
        write_picture(root / "boundary_GT" / f"{Path(name).stem}.bmp", mask)
    return root


def build_berkeley(root: Path) -> Path:
    """One picture with one mask, one with two."""
    for stem, masks in (("113044", ("113044",)), ("124084", ("124084#1", "124084#2"))):
        write_picture(root / "images" / f"{stem}.jpg", photo(disc(20, 28, 10)))
        for number, mask in enumerate(masks):
            write_picture(root / "masks" / f"{mask}.png", white(disc(20, 16 + 24 * number, 9)))
    return root


def build_davis345(root: Path) -> Path:
    """Masks in colour: any channel above 0."""
    for number in range(3):
        inside = disc(20, 28, 10 + number)
        write_picture(root / "img" / f"{number:05d}.jpg", photo(inside, number))
        mask = np.zeros((*SHAPE, 3), np.uint8)
        mask[inside] = (0, 0, 128) if number else (128, 0, 0)
        write_picture(root / "gt" / f"{number:05d}.png", mask)
    return root


def build_sbd(root: Path) -> Path:
    """Instances 1 and 2 of a person and a dog, as MATLAB structs."""
    base = root / "benchmark_RELEASE" / "dataset"
    for split, names in {"train": ("2008_000002", "2008_000003"), "val": ("2008_000008",)}.items():
        for number, name in enumerate(names):
            labels = np.zeros(SHAPE, np.uint8)
            labels[disc(20, 16 + number, 9)] = 1
            labels[disc(20, 40, 9)] = 2
            shown(base / "img" / f"{name}.jpg", labels, number)
            (base / "inst").mkdir(exist_ok=True)
            boundaries = np.empty((2, 1), object)
            boundaries[:, 0] = [np.zeros(SHAPE, bool), np.zeros(SHAPE, bool)]
            struct = {"Segmentation": labels, "Boundaries": boundaries, "Categories": np.array([[15], [12]], np.uint8)}
            savemat(base / "inst" / f"{name}.mat", {"GTinst": struct}, do_compression=True)
        (base / f"{split}.txt").write_text("\n".join(names) + "\n")
    return root


COCO_NAMES = {"train": ("000000000009", "000000000025", "000000000030"), "val": ("000000000139", "000000000285")}


def coco_objects() -> list[tuple[NDArray[np.bool_], int]]:
    """(mask, layer): a person, its tie on top of it, a dog, and grass (stuff)."""
    person, tie, dog = disc(20, 16, 13), disc(20, 16, 4), disc(20, 44, 8)
    return [(person, 0), (tie, 1), (dog, 0), (np.indices(SHAPE)[0] >= 34, 1)]


def encoded(layer: NDArray[np.uint8]) -> NDArray[np.uint8]:
    buffer = io.BytesIO()
    Image.fromarray(layer).save(buffer, "PNG")
    return np.frombuffer(buffer.getvalue(), np.uint8).copy().reshape(-1, 1)


def dump(path: Path, content: Any) -> None:
    """Pickle as numpy 1 under Python 3 did."""
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_bytes(pickle.dumps(content, protocol=2).replace(b"cnumpy._core.", b"cnumpy.core."))


def build_coco_lvis(root: Path) -> Path:
    """RITM's layout; three instances, of which one is part of another, and one stuff region a picture."""
    for split, names in COCO_NAMES.items():
        listed = {}
        for number, name in enumerate(names):
            layers, mapping = [np.zeros(SHAPE, np.uint8) for _ in range(2)], []
            for mask, layer in coco_objects():
                value = int(layers[layer].max()) + 1
                layers[layer][mask & (layers[layer] == 0)] = value
                mapping.append((layer, value))
            picture = photo(layers[0], number)
            picture = picture[..., 0] if number == 1 else picture  # some are gray
            write_side_file(write_picture(root / split / "images" / f"{name}.jpg", picture))
            dump(root / split / "masks" / f"{name}.pickle", ([encoded(layer) for layer in layers], mapping))
            hierarchy = {
                0: {"children": [1], "parent": None, "node_level": 0},
                1: {"children": [], "parent": 0, "node_level": 1},
                2: None,
            }
            listed[name] = {"num_instance_masks": 3, "hierarchy": hierarchy}
        dump(root / split / "hannotation.pickle", listed)
    return root


def rectangle(top: int, left: int, bottom: int, right: int) -> list[float]:
    """Polygon of a box, x and y in turn; the last row and column belong to it."""
    return [left + 0.2, top - 0.3, right + 0.4, top, right, bottom + 0.1, left, bottom]


def filled(top: int, left: int, bottom: int, right: int) -> NDArray[np.bool_]:
    """The pixels of `rectangle`."""
    mask = np.zeros((60, 80), bool)
    mask[top : bottom + 1, left : right + 1] = True
    return mask


def build_coco_sources(root: Path) -> Path:
    """LVIS JSON, COCO panoptic JSON and PNG for two pictures, of which COCO has one."""
    url = "http://images.cocodataset.org/train2017/{:012d}.jpg"
    images = [{"id": n, "height": 60, "width": 80, "coco_url": url.format(n)} for n in (9, 10)]
    boxes = [
        (9, 1, (5, 5, 44, 34)),  # person
        (9, 2, (15, 15, 29, 24)),  # part of it
        (9, 3, (50, 2, 54, 10)),  # 45 px: too small
        (9, 4, (10, 50, 29, 69)),  # again below
        (9, 5, (10, 50, 29, 70)),
        (10, 5, (10, 50, 29, 70)),
    ]
    annotations = [{"image_id": n, "category_id": c, "segmentation": [rectangle(*box)]} for n, c, box in boxes]
    ids = np.zeros((60, 80), np.uint32)
    ids[filled(5, 5, 44, 35)] = 700  # the person again
    ids[filled(35, 45, 48, 60)] = 70000  # a thing LVIS lacks
    ids[filled(45, 0, 59, 44)] = 300  # stuff of 675 px
    ids[filled(50, 50, 55, 70)] = 301  # stuff of 126 px
    png = np.stack([ids & 255, ids >> 8 & 255, ids >> 16], -1).astype(np.uint8)
    write_picture(root / "panoptic_train2017" / "000000000009.png", png)
    info = [{"id": 700, "category_id": 1}, {"id": 70000, "category_id": 2, "iscrowd": 1}]
    info += [{"id": 300, "category_id": 100}, {"id": 301, "category_id": 101}]
    panoptic = {
        "categories": [{"id": n, "isthing": int(n < 100), "name": str(n)} for n in (1, 2, 100, 101)],
        "annotations": [{"image_id": 9, "file_name": "000000000009.png", "segments_info": info}],
    }
    (root / "lvis_v1_train.json").write_text(json.dumps({"images": images, "annotations": annotations}))
    (root / "panoptic_train2017.json").write_text(json.dumps(panoptic))
    write_picture(root / "coco_lvis/train/images/000000000009.jpg", photo((ids > 0).astype(np.uint8)))
    return root
