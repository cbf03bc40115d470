"""Damaged inputs, any number of them: python -m tests.hostile --inputs 10000 --seed 1.

A process of its own reads them, so that one that dies is seen and the rest goes on. Prints a table of kinds and
outcomes, then every fault with what repeats it; the exit code is 1 if there is one.
"""

from __future__ import annotations

import argparse
import json
import os
import subprocess
import sys
import tempfile
from collections import Counter
from pathlib import Path

OUTCOMES = ("refused", "right", "as the file says", "FAULT")


def work(seed: int, start: int, stop: int, current: str) -> None:
    """Print one JSON line for each trial; whatever libraries in C say goes nowhere."""
    out = os.fdopen(os.dup(1), "w")
    nowhere = os.open(os.devnull, os.O_WRONLY)
    os.dup2(nowhere, 1)
    os.dup2(nowhere, 2)
    from tests.hostile.trials import run

    for result in run(seed, start, stop, Path(current)):
        out.write(json.dumps(result) + "\n")
        out.flush()


def survey(inputs: int, seed: int, start: int = 0) -> list[tuple[int, str, str, str]]:
    """Run all trials in child processes; one that dies is a fault of the input it died of."""
    results: list[tuple[int, str, str, str]] = []
    stop = start + inputs
    with tempfile.TemporaryDirectory() as folder:
        current = Path(folder) / "current"
        while start < stop:
            command = [sys.executable, "-m", "tests.hostile", "--work", str(current), "--seed", str(seed)]
            command += ["--start", str(start), "--inputs", str(stop - start)]
            done = subprocess.run(command, capture_output=True, text=True, check=False)
            results += [tuple(json.loads(line)) for line in done.stdout.splitlines()]
            if done.returncode == 0:
                break
            if not current.exists():
                raise RuntimeError(
                    f"the trials did not begin (exit code {done.returncode}): {done.stdout}{done.stderr}"
                )
            died = int(current.read_text())
            current.unlink()
            results.append((died, "?", "FAULT", f"the process died with {done.returncode}"))
            start = died + 1
    return results


def main() -> int:
    """Command line."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--inputs", type=int, default=2000)
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--start", type=int, default=0, help="first number: --start N --inputs 1 repeats one trial")
    parser.add_argument("--work", help=argparse.SUPPRESS)
    options = parser.parse_args()
    if options.work:
        work(options.seed, options.start, options.start + options.inputs, options.work)
        return 0
    results = survey(options.inputs, options.seed, options.start)
    counts = Counter((kind, outcome) for _, kind, outcome, _ in results)
    print(f"| input | {' | '.join(OUTCOMES)} |\n|---|{'---|' * len(OUTCOMES)}")
    for kind in dict.fromkeys(kind for _, kind, _, _ in results):
        print(f"| {kind} | {' | '.join(str(counts[kind, outcome]) for outcome in OUTCOMES)} |")
    total = Counter(outcome for _, _, outcome, _ in results)
    print(f"| all | {' | '.join(str(total[outcome]) for outcome in OUTCOMES)} |")
    for number, kind, outcome, what in results:
        if outcome == "FAULT":
            print(f"--seed {options.seed} --start {number} --inputs 1: {kind}: {what}")
    return int(total["FAULT"] > 0)


if __name__ == "__main__":
    sys.exit(main())
