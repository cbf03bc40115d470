"""Table VI of the paper: the test sequences of EndoVis18, video.

    python benchmarks/table6.py --data ROOT --out benchmarks/results

The same as `limnet bench table6`; `--help` shows the options.
"""

from __future__ import annotations

import sys

from limnet.cli import main

if __name__ == "__main__":
    main(["bench", "table6", *sys.argv[1:]])
