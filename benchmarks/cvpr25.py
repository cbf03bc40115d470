"""CVPR 2025 challenge on interactive 3D segmentation: a box and five clicks, DSC_AUC, NSD_AUC and final values.

    python benchmarks/cvpr25.py --data ROOT --out benchmarks/results

The same as `limnet bench cvpr25`; `--help` shows the options.
"""

from __future__ import annotations

import sys

from limnet.cli import main

if __name__ == "__main__":
    main(["bench", "cvpr25", *sys.argv[1:]])
