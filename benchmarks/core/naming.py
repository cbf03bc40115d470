"""Names of result files."""

from __future__ import annotations

import re
from pathlib import Path


def result_path(out: Path, suite: str, predictor: str) -> Path:
    """`out` itself if it ends in .json, else `out`/SUITE_METHOD.json with a method's name fit for a file name."""
    if out.suffix == ".json":
        return out
    method = re.sub(r"[^A-Za-z0-9.=-]+", "-", predictor).strip("-.")
    return out / f"{suite}_{method or 'method'}.json"
