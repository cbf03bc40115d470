"""Table I of the paper: KiTS19 kidney and tumour, MSD lung and colon, after six rounds.

    python benchmarks/table1.py --data ROOT --out benchmarks/results

The same as `limnet bench table1`; `--help` shows the options.
"""

from __future__ import annotations

import sys

from limnet.cli import main

if __name__ == "__main__":
    main(["bench", "table1", *sys.argv[1:]])
