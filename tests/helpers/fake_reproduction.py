"""What recipes/reproduce.sh needs, in small: all data sets of the paper, and the public weights it starts from.

python -m tests.helpers.fake_reproduction DATA WEIGHTS
"""

from __future__ import annotations

import sys
from pathlib import Path

import torch

from limnet.blocks.resnet import ResNetTrunk
from limnet.propagation.networks.xmem import XMem
from tests.helpers import fake_picture_sets as pictures
from tests.helpers import fake_volumes as volumes
from tests.helpers.every_set import table_root
from tests.hub.test_convert import public, saved


def write_data(root: Path) -> None:
    """The folders that docs/reproduce.md names."""
    table_root(root, (0, 1, 2, 7, 160, 208, 210))
    volumes.build_amos22(root)
    pictures.build_ishape(root)
    pictures.build_coco_lvis(root / "COCO_LVIS")
    pictures.build_davis585(root / "DAVIS585")
    pictures.build_slices(root / "in_house")


def write_weights(folder: Path) -> None:
    """Narrow networks in the form of the public files; ResNet-18 is as wide as it is."""
    folder.mkdir(parents=True, exist_ok=True)
    torch.manual_seed(0)
    saved(folder / "coco_lvis_h32_itermask.pth", public("ritm"))
    for name in ("XMem.pth", "XMem-s012.pth"):
        torch.save(XMem(key_dim=16, value_dim=32, hidden_dim=16).state_dict(), folder / name)
    trunk = ResNetTrunk(18)
    classifier = {"fc.weight": torch.zeros(1000, trunk.channels[-1]), "fc.bias": torch.zeros(1000)}
    torch.save({**trunk.state_dict(), **classifier}, folder / "resnet18-f37072fd.pth")


if __name__ == "__main__":
    write_data(Path(sys.argv[1]))
    write_weights(Path(sys.argv[2]))
