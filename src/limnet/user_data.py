"""Folders of the user's own data: sessions, adapters."""

from __future__ import annotations

import os
from pathlib import Path


def user_folder(kind: str) -> Path:
    """Folder for one kind of data, not made yet: LIMNET_KIND, or `limnet/kind` among the user's own data.

    Args:
        kind: "sessions" or "adapters".
    """
    if chosen := os.environ.get(f"LIMNET_{kind.upper()}"):
        return Path(chosen).absolute()
    from platformdirs import user_data_path

    return user_data_path("limnet", appauthor=False) / kind
