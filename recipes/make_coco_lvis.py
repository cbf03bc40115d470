"""Make the annotations of `coco-lvis` from LVIS v1 and COCO panoptic, in place of RITM's download.

    python recipes/make_coco_lvis.py --lvis lvis_v1_train.json --panoptic panoptic_train2017.json \\
        --segments panoptic_train2017 --out ROOT/train
    python recipes/make_coco_lvis.py --lvis lvis_v1_val.json --panoptic panoptic_val2017.json \\
        --segments panoptic_val2017 --out ROOT/val

Then put the pictures of train2017 into ROOT/train/images and those of val2017 into ROOT/val/images, and check with
`limnet data check coco-lvis ROOT`. The rules are those of RITM.

For every picture that both describe: polygons of LVIS are filled, objects below 80 pixels dropped; things of COCO join
unless LVIS has them (box and mask IoU above 0.7); of two LVIS objects that agree (box IoU above 0.7, mask IoU above
0.85) the later one stays. Stuff is COCO's stuff without any object, dropped up to 500 pixels. Crowds are not told apart
from other things. An object is part of another if 0.7 of its box and more than 0.8 of its pixels lie inside. All are
laid into as few layers as they need, largest first.
"""

from __future__ import annotations

import argparse
import io
import pickle
from collections.abc import Sequence
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path, PurePosixPath
from typing import Any

import numpy as np
from numpy.typing import NDArray

from limnet.data.files import read_json
from limnet.errors import FileFormatError
from limnet.image.io.atomic import atomic_write, save_error
from limnet.image.io.pictures import read_picture
from limnet.image.io.reading import explained

SMALLEST_OBJECT, SMALLEST_STUFF = 80, 501
_LAYER = 255  # objects of a layer


def build_parser() -> argparse.ArgumentParser:
    """Options of this recipe."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--lvis", type=Path, required=True, help="LVIS v1 JSON")
    parser.add_argument("--panoptic", type=Path, required=True, help="COCO panoptic JSON")
    parser.add_argument("--segments", type=Path, required=True, help="folder of the panoptic PNG files")
    parser.add_argument("--out", type=Path, required=True, help="folder of the split: ROOT/train or ROOT/val")
    return parser


def main(argv: Sequence[str] | None = None) -> None:
    """Merge, write, say how many."""
    args = build_parser().parse_args(argv)
    number = build_split(args.lvis, args.panoptic, args.segments, args.out)
    print(f"{number} pictures in {args.out}")


@dataclass(frozen=True, eq=False)
class Region:
    """Pixels of an object, bool (H, W), at least one."""

    mask: NDArray[np.bool_]

    @cached_property
    def area(self) -> int:
        """Number of pixels."""
        return int(self.mask.sum())

    @cached_property
    def box(self) -> tuple[int, int, int, int]:
        """First row, row behind the last, first column, column behind the last."""
        rows, columns = (np.flatnonzero(self.mask.any(axis)) for axis in (1, 0))
        return int(rows[0]), int(rows[-1]) + 1, int(columns[0]), int(columns[-1]) + 1

    @cached_property
    def box_area(self) -> int:
        """Pixels of the box."""
        top, bottom, left, right = self.box
        return (bottom - top) * (right - left)

    def box_overlap(self, other: Region) -> int:
        """Pixels that both boxes hold."""
        tall = min(self.box[1], other.box[1]) - max(self.box[0], other.box[0])
        wide = min(self.box[3], other.box[3]) - max(self.box[2], other.box[2])
        return max(tall, 0) * max(wide, 0)

    def overlap(self, other: Region) -> int:
        """Pixels that both hold."""
        top, bottom, left, right = self.box
        return int((self.mask[top:bottom, left:right] & other.mask[top:bottom, left:right]).sum())

    def agrees(self, other: Region, least: float) -> bool:
        """Whether box IoU is above 0.7 and mask IoU above `least`."""
        common = self.box_overlap(other)
        if common <= 0.7 * (self.box_area + other.box_area - common):
            return False
        common = self.overlap(other)
        return common > least * (self.area + other.area - common)

    def inside(self, other: Region) -> bool:
        """Whether this is part of the other."""
        return self.box_overlap(other) >= 0.7 * self.box_area and self.overlap(other) > 0.8 * self.area


def build_split(lvis: Path, panoptic: Path, segments: Path, out: Path, progress: bool = True) -> int:
    """Write `out`/masks/*.pickle and, last, `out`/hannotation.pickle.

    Reading the JSON of the training part takes some gigabytes of memory; pictures are then done one after the other.

    Args:
        lvis: lvis_v1_train.json or lvis_v1_val.json.
        panoptic: panoptic_train2017.json or panoptic_val2017.json.
        segments: folder of the panoptic PNG files.
        out: folder of the split, such as ROOT/train; pictures belong into `out`/images.
        progress: show a progress bar.

    Returns:
        Number of pictures.

    Raises:
        MissingFileError: a file is not there.
        FileFormatError: a file is damaged or not what it should be.
        SaveError: the disk is full or not writable.
    """
    from rich.progress import track

    pictures, things, coco = _read_lvis(lvis), *_read_panoptic(panoptic)
    wanted = sorted(set(pictures) & set(coco))
    listed = {}
    for image in track(wanted, description="merging annotations", disable=not progress, transient=True):
        name, height, width, polygons = pictures[image]
        file, kinds = coco[image]
        found = [Region(mask) for mask in (fill(p, height, width) for p in polygons) if mask.any()]
        ids = _segment_ids(segments / file, (height, width))
        shown = [Region(mask) for key, kind in kinds if kind in things and (mask := ids == key).any()]
        stuff = [Region(mask) for key, kind in kinds if kind not in things and (mask := ids == key).any()]
        objects = merge(found, shown)
        if not objects:
            continue
        regions = [*objects, *without(stuff, objects)]
        layers, places = lay(regions)
        _save((([_encode(layer) for layer in layers]), places), out / "masks" / f"{name}.pickle")
        listed[name] = {"num_instance_masks": len(objects), "hierarchy": hierarchy(objects)}
    _save(listed, out / "hannotation.pickle")
    return len(listed)


def fill(polygons: Sequence[Sequence[float]], height: int, width: int) -> NDArray[np.bool_]:
    """Pixels of polygons, each a list x, y, x, y, ...; corners are rounded, their outline belongs to them."""
    from PIL import Image, ImageDraw

    picture = Image.new("L", (width, height))
    draw = ImageDraw.Draw(picture)
    for polygon in polygons:
        points = [(round(x), round(y)) for x, y in zip(polygon[::2], polygon[1::2], strict=True)]
        if len(points) >= 3:
            draw.polygon(points, fill=1, outline=1)
    return np.array(picture, bool)


def merge(lvis: Sequence[Region], coco: Sequence[Region]) -> list[Region]:
    """Objects of LVIS, each once, and the things of COCO that LVIS lacks."""
    large = [region for region in lvis if region.area >= SMALLEST_OBJECT]
    kept = [r for i, r in enumerate(large) if not any(r.agrees(later, 0.85) for later in large[i + 1 :])]
    new = [r for r in coco if r.area >= SMALLEST_OBJECT and not any(r.agrees(other, 0.7) for other in large)]
    return kept + new


def without(stuff: Sequence[Region], objects: Sequence[Region]) -> list[Region]:
    """Stuff where no object is, as far as enough is left."""
    taken = np.logical_or.reduce([region.mask for region in objects])
    left = (region.mask & ~taken for region in stuff)
    return [Region(mask) for mask in left if mask.sum() >= SMALLEST_STUFF]


def hierarchy(objects: Sequence[Region]) -> dict[int, dict[str, Any] | None]:
    """Which object is part of which: number -> {"children", "parent", "node_level"}, None for an object by itself."""
    order = sorted(range(len(objects)), key=lambda i: (-objects[i].area, i))
    parents: dict[int, int | None] = {}
    for place, number in enumerate(order):
        around = [i for i in order[:place] if objects[number].inside(objects[i])]
        parents[number] = around[-1] if around else None  # the smallest of them
    levels: dict[int, int] = {}
    for number in order:
        above = parents[number]
        levels[number] = 0 if above is None else levels[above] + 1
    children = {number: [i for i in range(len(objects)) if parents[i] == number] for number in range(len(objects))}
    return {
        number: {"children": children[number], "parent": parents[number], "node_level": levels[number]}
        if children[number] or parents[number] is not None
        else None
        for number in range(len(objects))
    }


def lay(regions: Sequence[Region]) -> tuple[list[NDArray[np.uint8]], list[tuple[int, int]]]:
    """Layers uint8 (H, W), and for every region its layer and its value there; largest first, none overlaps."""
    layers: list[NDArray[np.uint8]] = []
    counts: list[int] = []
    places: dict[int, tuple[int, int]] = {}
    for number in sorted(range(len(regions)), key=lambda i: (-regions[i].area, i)):
        mask = regions[number].mask
        free = (k for k, layer in enumerate(layers) if counts[k] < _LAYER and not layer[mask].any())
        layer = next(free, len(layers))
        if layer == len(layers):
            layers.append(np.zeros(mask.shape, np.uint8))
            counts.append(0)
        counts[layer] += 1
        layers[layer][mask] = counts[layer]
        places[number] = (layer, counts[layer])
    return layers, [places[number] for number in range(len(regions))]


def _read_lvis(path: Path) -> dict[int, tuple[str, int, int, list[Any]]]:
    """Image id -> name without suffix, height, width, polygons of each object."""
    content = read_json(path)
    found: dict[int, tuple[str, int, int, list[Any]]] = {}
    with explained(path, "It should be an LVIS v1 file"):
        for image in content["images"]:
            name = PurePosixPath(image["coco_url"]).stem
            found[int(image["id"])] = (name, int(image["height"]), int(image["width"]), [])
        for entry in content["annotations"]:
            found[int(entry["image_id"])][3].append(entry["segmentation"])
    return found


def _read_panoptic(path: Path) -> tuple[set[int], dict[int, tuple[str, list[tuple[int, int]]]]]:
    """Categories that are things; image id -> file name, (id, category) of each segment."""
    content = read_json(path)
    with explained(path, "It should be a COCO panoptic file"):
        things = {int(entry["id"]) for entry in content["categories"] if entry["isthing"]}
        found = {
            int(entry["image_id"]): (
                str(entry["file_name"]),
                [(int(segment["id"]), int(segment["category_id"])) for segment in entry["segments_info"]],
            )
            for entry in content["annotations"]
        }
    return things, found


def _segment_ids(path: Path, shape: tuple[int, int]) -> NDArray[np.int64]:
    pixels = read_picture(path)[0].astype(np.int64)
    if pixels.shape != (*shape, 3):
        raise FileFormatError(
            f"{path} is {pixels.shape}, the LVIS file says {(*shape, 3)}. They do not belong together"
        )
    return pixels[..., 0] + 256 * pixels[..., 1] + 65536 * pixels[..., 2]


def _encode(layer: NDArray[np.uint8]) -> NDArray[np.uint8]:
    from PIL import Image

    buffer = io.BytesIO()
    Image.fromarray(layer).save(buffer, "PNG")
    return np.frombuffer(buffer.getvalue(), np.uint8).copy()


def _save(content: Any, path: Path) -> None:
    def write(place: Path) -> None:
        with open(place, "wb") as file:
            pickle.dump(content, file, protocol=4)

    try:
        path.parent.mkdir(parents=True, exist_ok=True)
    except OSError as error:
        raise save_error(path, error) from error
    atomic_write(path, write)


if __name__ == "__main__":
    main()
