"""Clicks to an IoU of .85 and .90 on GrabCut, Berkeley, SBD, DAVIS and DAVIS-585, beside published ones.

    python benchmarks/interaction2d_pictures.py --data ROOT --out benchmarks/results

The same as `limnet bench interaction2d`; `--help` shows the options. `interaction2d.py` asks the click network for
slices of volumes.
"""

from __future__ import annotations

import sys

from limnet.cli import main

if __name__ == "__main__":
    main(["bench", "interaction2d", *sys.argv[1:]])
