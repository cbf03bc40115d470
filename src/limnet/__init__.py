"""limnet: interactive 3D medical image segmentation on an ordinary computer.

>>> import numpy as np
>>> from limnet import InteractiveSegmenter
>>> z, y, x = np.ogrid[:7, :64, :64]
>>> ball = 25 * (z - 3) ** 2 + (y - 30) ** 2 + (x - 32) ** 2 < 20**2
>>> volume = np.random.default_rng(0).normal(np.where(ball, 140, 20), 5)
>>> segmenter = InteractiveSegmenter.from_pretrained("limnet-tiny")
>>> case = segmenter.open(volume, spacing=(5.0, 1.0, 1.0))
>>> mask = case.click((3, 30, 32))
>>> from limnet.metrics import dice
>>> dice(mask, ball) > 0.9
True
"""

from __future__ import annotations

import sys
from typing import TYPE_CHECKING, Any

from limnet._version import __version__

if TYPE_CHECKING:
    from limnet.case.case import Case
    from limnet.environment import use_threads
    from limnet.image.volume import Volume
    from limnet.prompts import Box, Click, Lasso, MaskPrompt, Scribble
    from limnet.segmenter import InteractiveSegmenter
    from limnet.server.notebook import view

_HOMES = {
    "InteractiveSegmenter": "limnet.segmenter",
    "Case": "limnet.case.case",
    "Volume": "limnet.image.volume",
    "Click": "limnet.prompts",
    "Scribble": "limnet.prompts",
    "Box": "limnet.prompts",
    "Lasso": "limnet.prompts",
    "MaskPrompt": "limnet.prompts",
    "use_threads": "limnet.environment",
    "view": "limnet.server.notebook",
}

__all__ = [
    "Box",
    "Case",
    "Click",
    "InteractiveSegmenter",
    "Lasso",
    "MaskPrompt",
    "Scribble",
    "Volume",
    "__version__",
    "use_threads",
    "view",
]


def __getattr__(name: str) -> Any:
    """Import a public name on first use, so that `import limnet` stays light."""
    if name in _HOMES:
        from importlib import import_module

        if "ipykernel" in sys.modules and "torch" not in sys.modules:  # a notebook
            from limnet.environment import use_threads

            use_threads()
        return getattr(import_module(_HOMES[name]), name)
    raise AttributeError(f"module 'limnet' has no attribute {name!r}; public names: {', '.join(__all__)}")
