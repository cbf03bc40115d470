"""Process of the speed suite: reads a job as JSON from its standard input, writes a row of JSON per measurement.

python -m benchmarks.timing.worker < job.json
"""

from __future__ import annotations

import json
import os
import subprocess
import sys
from collections.abc import Iterator
from typing import Any

from benchmarks.timing.holding import HoldJob, run_hold
from benchmarks.timing.laps import LapJob, run_laps
from benchmarks.timing.round_time import RoundJob, run_round
from limnet.errors import LimnetError

Row = dict[str, Any]
Job = LapJob | HoldJob | RoundJob
_MARK = "row: "


def in_own_process(job: Job) -> Iterator[Row]:
    """Rows of a job, measured in a fresh process; they come as they are measured.

    Raises:
        LimnetError: the process failed.
    """
    threads = str(max(job.threads) if isinstance(job, LapJob) else job.threads)
    content = {"kind": type(job).__name__, "job": job.to_json() if isinstance(job, LapJob) else vars(job)}
    environment = {**os.environ, "OMP_NUM_THREADS": threads, "MKL_NUM_THREADS": threads}
    command = [sys.executable, "-m", "benchmarks.timing.worker"]
    with subprocess.Popen(
        command, env=environment, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True, encoding="utf-8"
    ) as process:
        assert process.stdin is not None
        assert process.stdout is not None
        process.stdin.write(json.dumps(content))
        process.stdin.close()
        try:
            for line in process.stdout:
                if line.startswith(_MARK):
                    yield json.loads(line[len(_MARK) :])
        except BaseException:
            process.kill()
            raise
    if process.returncode:
        raise LimnetError(
            f"the measuring process ended with status {process.returncode}; see its message above. "
            "What was finished is kept: the same command goes on from there"
        )


def work(content: Row) -> Iterator[Row]:
    """Rows of the job in `content`, measured in this process."""
    kind, job = content["kind"], content["job"]
    if kind == "LapJob":
        yield from run_laps(LapJob.from_json(job))
    elif kind == "HoldJob":
        yield run_hold(HoldJob(**job))
    else:
        yield run_round(RoundJob(**job))


def main() -> None:
    """Do the job on standard input."""
    for row in work(json.load(sys.stdin)):
        sys.stdout.write(_MARK + json.dumps(row) + "\n")
        sys.stdout.flush()


if __name__ == "__main__":
    main()
