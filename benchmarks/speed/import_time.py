"""How long `import limnet` takes beside `import torch`, in fresh interpreters: medians and their ratios.

    python -m benchmarks.speed.import_time [--repeats 15] [--out FILE.json]

Three imports are timed in turn, so that a busy machine slows all alike: torch; limnet alone; limnet with everything a
segmentation needs.
"""

from __future__ import annotations

import argparse
import json
import platform
import statistics
import subprocess
import sys
from collections.abc import Sequence
from pathlib import Path

CODES = {
    "torch": "import torch",
    "limnet": "import limnet",
    "limnet.InteractiveSegmenter": "from limnet import InteractiveSegmenter",
}


def seconds(code: str) -> float:
    """Time of one import in a fresh interpreter, measured inside it."""
    program = f"import time; t = time.perf_counter()\n{code}\nprint(time.perf_counter() - t)"
    done = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True, check=True)
    return float(done.stdout.split()[-1])


def main(argv: Sequence[str] | None = None) -> None:
    """Measure and print; write JSON when asked."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--repeats", type=int, default=15)
    parser.add_argument("--out", type=Path)
    args = parser.parse_args(argv)
    times: dict[str, list[float]] = {name: [] for name in CODES}
    for code in CODES.values():
        seconds(code)  # fills the disk cache
    for _ in range(args.repeats):
        for name, code in CODES.items():
            times[name].append(seconds(code))
    medians = {name: statistics.median(values) for name, values in times.items()}
    for name, value in medians.items():
        print(f"import {name:30} {value:6.3f} s   {value / medians['torch']:5.2f} x torch")
    if args.out:
        record = {"python": platform.python_version(), "machine": platform.machine(), "median_seconds": medians}
        args.out.write_text(json.dumps({**record, "seconds": times}, indent=2) + "\n")


if __name__ == "__main__":
    main()
