"""Table V of the paper: MSD pancreas tumour and colon cancer.

    python benchmarks/table5.py --data ROOT --out benchmarks/results

The same as `limnet bench table5`; `--help` shows the options.
"""

from __future__ import annotations

import sys

from limnet.cli import main

if __name__ == "__main__":
    main(["bench", "table5", *sys.argv[1:]])
