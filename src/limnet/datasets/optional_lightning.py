"""LightningDataModule where Lightning is installed; data sets are read, checked and benchmarked without it."""

from __future__ import annotations

from typing import Any

from limnet.errors import InputError

try:
    from lightning.pytorch import LightningDataModule
except ModuleNotFoundError as _error:
    if (_error.name or "").split(".")[0] != "lightning":
        raise

    class LightningDataModule:  # type: ignore[no-redef]
        """What stands in its place: data modules are there by name and cannot be made."""

        def __init__(self, *arguments: Any, **options: Any) -> None:
            raise InputError("a data module needs Lightning, which is not installed; run: pip install 'limnet[train]'")


__all__ = ["LightningDataModule"]
