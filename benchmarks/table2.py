"""Table II and figure 3 of the paper: Dice per round with and without multi-round result fusion.

    python benchmarks/table2.py --data ROOT --out benchmarks/results

The same as `limnet bench table2` and `limnet bench figure3`; `--help` shows the options.
"""

from __future__ import annotations

import sys

from limnet.cli import main

if __name__ == "__main__":
    main(["bench", "table2", *sys.argv[1:]])
