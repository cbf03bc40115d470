"""Make the annotations of `coco-lvis` from LVIS v1 and COCO panoptic, in place of RITM's download.

    python recipes/make_coco_lvis.py --lvis lvis_v1_train.json --panoptic panoptic_train2017.json \\
        --segments panoptic_train2017 --out ROOT/train
    python recipes/make_coco_lvis.py --lvis lvis_v1_val.json --panoptic panoptic_val2017.json \\
        --segments panoptic_val2017 --out ROOT/val

Then put the pictures of train2017 into ROOT/train/images and those of val2017 into ROOT/val/images, and check with
`limnet data check coco-lvis ROOT`. The rules stand in `limnet.datasets.coco_lvis_build`.
"""

from __future__ import annotations

import argparse
from collections.abc import Sequence
from pathlib import Path


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
    from limnet.datasets.coco_lvis_build import build_split

    number = build_split(args.lvis, args.panoptic, args.segments, args.out)
    print(f"{number} pictures in {args.out}")


if __name__ == "__main__":
    main()
