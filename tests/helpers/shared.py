"""Where the reference data lies, if it is there at all."""

from __future__ import annotations

import os
from pathlib import Path

import pytest


def shared_path(*parts: str) -> Path:
    """Path inside the shared folder; skips the calling test with a reason when it is absent."""
    root = Path(os.environ.get("LIMNET_SHARED", Path(__file__).resolve().parents[3] / "shared"))
    path = root.joinpath(*parts)
    if not path.exists():
        pytest.skip(f"reference data not found: {'/'.join(parts)} (set LIMNET_SHARED to the folder that holds it)")
    return path
