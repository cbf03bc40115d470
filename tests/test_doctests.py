"""The examples in the docstrings of the library say what is so.

Each of them finds numpy as `np`, a ball of 140 HU in tissue of 20 HU as `ball` and `volume`, the bundled model as
`segmenter` and the volume opened by it as `case`.
"""

from __future__ import annotations

import doctest
from importlib import import_module
from pathlib import Path

import numpy as np
import pytest

from limnet import InteractiveSegmenter

SOURCE = Path(__file__).resolve().parents[1] / "src"
WITH_EXAMPLES = [
    ".".join(path.relative_to(SOURCE).with_suffix("").parts).removesuffix(".__init__")
    for path in sorted(SOURCE.rglob("*.py"))
    if ">>>" in path.read_text(encoding="utf-8")
]


@pytest.fixture(scope="module")
def segmenter() -> InteractiveSegmenter:
    return InteractiveSegmenter.from_pretrained("limnet-tiny", precision="fp32")


@pytest.mark.parametrize("name", WITH_EXAMPLES)
def test_examples(name: str, segmenter: InteractiveSegmenter, tmp_path: Path, monkeypatch: pytest.MonkeyPatch):
    monkeypatch.chdir(tmp_path)
    z, y, x = np.ogrid[:7, :64, :64]
    ball = 25 * (z - 3) ** 2 + (y - 30) ** 2 + (x - 32) ** 2 < 20**2
    volume = np.random.default_rng(0).normal(np.where(ball, 140, 20), 5)
    runner = doctest.DocTestRunner(optionflags=doctest.ELLIPSIS)
    for example in doctest.DocTestFinder(exclude_empty=True).find(import_module(name)):
        case = segmenter.open(volume, spacing=(5.0, 1.0, 1.0))
        example.globs.update(np=np, ball=ball, volume=volume, segmenter=segmenter, case=case)
        runner.run(example)
    assert runner.summarize(verbose=False).attempted
    assert not runner.failures, "an example fails; what it gives is above"
