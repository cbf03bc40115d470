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
    label = np.zeros((corruption_figure.SLICE + 1, 40, 44), np.uint8)
    label[-1] = corruption_figure.LABEL * disk((40, 44), (20, 22), 11)
    image = (label * 20 + np.random.default_rng(0).normal(0, 10, label.shape)).astype(np.int16)
    (tmp_path / corruption_figure.FILE).parent.mkdir()
    np.savez(tmp_path / corruption_figure.FILE, image=image, label=label, spacing=np.ones(3))
    out = tmp_path / "new" / "figure.png"
    corruption_figure.main(["--data", str(tmp_path), "--out", str(out)])
    assert out.stat().st_size < 400_000
    with Image.open(out) as picture:
        assert picture.width > 1000
    shown = corruption_figure.panels(label[-1] > 0, 0)
    titles = " ".join(panel.title for panel in shown)
    assert len(shown) == 8  # truth, six kinds of which one has two forms
    assert all(f"{number}  " in titles for number in range(1, len(CORRUPTIONS) + 1))
    assert all((panel.mask != shown[0].mask).any() for panel in shown[1:])
