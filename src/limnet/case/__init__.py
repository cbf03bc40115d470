"""A case and its rounds: prompts, constraints, fusion, states and sessions."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from limnet.case.case import Case

__all__ = ["Case"]


def __getattr__(name: str) -> Any:
    """Import `Case` on first use, so that one part of the folder does not load the others."""
    if name == "Case":
        from limnet.case.case import Case

        return Case
    raise AttributeError(f"module 'limnet.case' has no attribute {name!r}")
