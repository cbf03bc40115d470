"""limnet: interactive 3D medical image segmentation on an ordinary computer.

>>> from limnet import InteractiveSegmenter
>>> segmenter = InteractiveSegmenter.from_pretrained("limnet-tiny")
>>> case = segmenter.open(volume, spacing=(5.0, 0.57, 0.57))
>>> mask = case.click((12, 240, 180))
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from limnet._version import __version__

if TYPE_CHECKING:
    from limnet.case import Case
    from limnet.prompts import Box, Click, Lasso, MaskPrompt, Scribble
    from limnet.segmenter import InteractiveSegmenter
    from limnet.volume import Volume

_HOMES = {
    "InteractiveSegmenter": "limnet.segmenter",
    "Case": "limnet.case",
    "Volume": "limnet.volume",
    "Click": "limnet.prompts",
    "Scribble": "limnet.prompts",
    "Box": "limnet.prompts",
    "Lasso": "limnet.prompts",
    "MaskPrompt": "limnet.prompts",
}

__all__ = ["Box", "Case", "Click", "InteractiveSegmenter", "Lasso", "MaskPrompt", "Scribble", "Volume", "__version__"]


def __getattr__(name: str) -> Any:
    """Import a public name on first use, so that `import limnet` stays light."""
    if name in _HOMES:
        from importlib import import_module

        return getattr(import_module(_HOMES[name]), name)
    raise AttributeError(f"module 'limnet' has no attribute {name!r}; public names: {', '.join(__all__)}")
