"""Data sets are listed, checked and benchmarked without the packages of the extra "train"."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

import pytest

from tests.helpers.fake_volumes import build_btcv

CODE = """
import sys
for name in ("lightning", "pytorch_lightning", "torchmetrics", "monai", "wandb"):
    sys.modules[name] = None  # as if it were not installed
from limnet.cli import main
def run(*words):
    try:
        main(words)
    except SystemExit as end:
        print(words[0], words[1], "ends with", end.code or 0, flush=True)
root, out = sys.argv[1:]
bench = ("bench", "table4", "--data", root, "--out", out, "--per-group", "1", "--per-case", "1", "--rounds", "1")
bench += ("--baseline", "confidence-connected", "--no-views")
sys.stderr = sys.stdout
run("data", "list")
run("data", "check", "btcv", root)
run(*bench)
print("@@@ two processes")
run(*bench, "--devices", "2")
print("@@@ surface Dice")
run(*bench, "--nsd", "2")
print("@@@ a data module")
from limnet.data.module import CaseDataModule
from limnet.datasets.btcv import BtcvDataset
try:
    CaseDataModule(BtcvDataset(root))
except ValueError as error:
    print(type(error).__name__, error)
"""


@pytest.fixture(scope="module")
def said(tmp_path_factory: pytest.TempPathFactory) -> list[str]:
    """What the commands print, part by part."""
    root = build_btcv(tmp_path_factory.mktemp("data") / "BTCV")
    out = tmp_path_factory.mktemp("results")
    environment = {**os.environ, "PYTHONUTF8": "1"}
    words = [sys.executable, "-c", CODE, str(root), str(out)]
    done = subprocess.run(
        words, capture_output=True, encoding="utf-8", check=False, env=environment, cwd=Path(__file__).parents[2]
    )
    assert done.returncode == 0, done.stderr
    return done.stdout.split("@@@ ")


def test_one_process_needs_none_of_them(said: list[str]):
    assert said[0].count("ends with 0") == 3, said[0]
    assert "all is well" in said[0]
    assert "published" in said[0]


def test_what_needs_them_says_so(said: list[str]):
    assert "this needs lightning, which is not installed; run: pip install 'limnet[train]'" in said[1]
    assert "NSD), which needs MONAI; run: pip install 'limnet[train]'" in said[2]
    assert said[1].count("ends with 2") == said[2].count("ends with 2") == 1
    assert "InputError a data module needs Lightning" in said[3]
