"""Run time and peak memory at 480 x 480 pixels and 100 slices, beside what the paper states.

    python benchmarks/runtime.py --out benchmarks/results            # about 1 minute on two cores
    python benchmarks/runtime.py --out benchmarks/results --method tiny --method base --repeats 1    # base: 3 minutes
    python benchmarks/runtime.py --out benchmarks/results --method tiny --method base --device cuda

The same as `limnet bench runtime`; `--help` shows the options. Needs no data.
"""

from __future__ import annotations

import sys

from limnet.cli import main

if __name__ == "__main__":
    main(["bench", "runtime", *sys.argv[1:]])
