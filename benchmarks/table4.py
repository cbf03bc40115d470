"""Table IV of the paper: six abdominal organs of BTCV.

    python benchmarks/table4.py --data ROOT --out benchmarks/results

The same as `limnet bench table4`; `--help` shows the options.
"""

from __future__ import annotations

import sys

from limnet.cli import main

if __name__ == "__main__":
    main(["bench", "table4", *sys.argv[1:]])
