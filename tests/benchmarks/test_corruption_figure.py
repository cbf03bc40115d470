from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest

pytest.importorskip("matplotlib")
pytest.importorskip("PIL")
from PIL import Image

from benchmarks.analyses import corruption_figure
from limnet.simulation.corruptions import CORRUPTIONS
from tests.helpers.blobs import disk


def test_the_figure_shows_every_kind_and_stays_small(tmp_path: Path):
    label = np.stack([disk((40, 44), (20, 22), 9 + z) for z in range(3)])
    image = (label * 100 + np.random.default_rng(0).normal(0, 10, label.shape)).astype(np.int16)
    np.savez(tmp_path / "volume.npz", image=image, label=label.astype(np.uint8), spacing=np.ones(3))
    out = tmp_path / "new" / "figure.png"
    options = ["--data", str(tmp_path), "--file", "volume.npz", "--label", "1", "--slice", "-1", "--zoom", "2"]
    corruption_figure.main([*options, "--out", str(out)])
    assert out.stat().st_size < 400_000
    with Image.open(out) as picture:
        assert picture.width > 1000
    shown = corruption_figure.panels(label[2], 0)
    titles = " ".join(panel.title for panel in shown)
    assert len(shown) == 8  # truth, six kinds of which one has two forms
    assert all(f"{number}  " in titles for number in range(1, len(CORRUPTIONS) + 1))
    assert all((panel.mask != shown[0].mask).any() for panel in shown[1:])
