"""Make the golden masks anew and say what changed.

    LIMNET_SHARED=folder python -m tests.golden            # only say what changed
    LIMNET_SHARED=folder python -m tests.golden --write    # and keep the new masks

Masks that change on purpose are written in the commit that changes them, with the measured reason in its message.
"""

from __future__ import annotations

import argparse
import os
from pathlib import Path

from tests.golden.rounds import TABLE, difference, play_all, processor, store, stored


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--write", action="store_true", help="keep the new masks")
    args = parser.parse_args()
    root = Path(os.environ.get("LIMNET_SHARED", Path(__file__).resolve().parents[3] / "shared")) / "data"
    if not root.exists():
        parser.error(f"{root} does not exist: set LIMNET_SHARED to the folder that holds data/")
    found = play_all(root)
    old, made_on = stored() if TABLE.exists() else ({}, None)
    if made_on not in (None, processor()):
        print(f"stored on {made_on}\nthis is  {processor()}: masks may differ by rounding")
    for name, steps in found.items():
        print(name)
        before = old.get(name, [])
        for i, step in enumerate(steps):
            change = difference(step, before[i]) if i < len(before) else f"{step.what}: new, Dice {step.dice:.4f}"
            print(f"  {change or f'{step.what}: the same, Dice {step.dice:.4f}'}")
    if args.write:
        store(found)


if __name__ == "__main__":
    main()
