"""The peer "sam" with the transformers package itself: a tiny SAM with random weights, nothing is downloaded."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
import torch

from benchmarks.baselines import sam_points
from benchmarks.baselines.sam_points import SamPointsPeer
from benchmarks.core.method import predictor_config
from tests.helpers.bench import run_object
from tests.helpers.peer_scenes import ball

transformers = pytest.importorskip("transformers", reason="transformers is not installed; pip install transformers")


@pytest.fixture
def weights(tmp_path: Path) -> str:
    """Folder in the layout of facebook/sam-vit-base."""
    try:
        vision = transformers.SamVisionConfig(
            hidden_size=32, num_hidden_layers=1, num_attention_heads=2, mlp_dim=64, global_attn_indexes=[0]
        )
        decoder = {"mlp_dim": 64, "num_hidden_layers": 1, "num_attention_heads": 2}
        config = transformers.SamConfig(
            vision_config=vision.to_dict(), prompt_encoder_config={}, mask_decoder_config=decoder
        )
        with torch.random.fork_rng(devices=[]):
            torch.manual_seed(0)
            model = transformers.SamModel(config)
        processor = transformers.SamProcessor(transformers.SamImageProcessor())
    except (ImportError, RuntimeError) as error:  # such as a torchvision made for another torch
        pytest.skip(f"transformers has no SAM here: {error}")
    model.save_pretrained(tmp_path)
    processor.save_pretrained(tmp_path)
    return str(tmp_path)


def test_points_on_every_slice(weights: str):
    sam_points.sam_model.cache_clear()
    volume, truth = ball((2.0, 1.0, 1.0), 4.0)
    peer = SamPointsPeer(weights, points=2)
    last: list[np.ndarray] = []
    rows = run_object(peer, volume, truth, 0, on_end=last.append)
    sam_points.sam_model.cache_clear()
    assert peer.name == "SAM, 2N points"
    assert len(predictor_config(peer)["sha256"]) == 16
    assert [row.round for row in rows] == [1, 2]
    assert all(0 <= row.dice <= 1 for row in rows)
    assert last[0].dtype == bool
    assert last[0].shape == volume.shape
    assert not last[0][~truth.any((1, 2))].any(), "only slices with points have a mask"
    session = peer.start(volume, 0)
    zyx = tuple(int(v) for v in np.argwhere(truth)[0])
    first = session.click(zyx, True)  # type: ignore[arg-type]
    assert np.array_equal(first, peer.start(volume, 0).click(zyx, True)), "the same points, the same mask"  # type: ignore[arg-type]
    assert not session.click(zyx, False)[: zyx[0]].any()
    sam_points.sam_model.cache_clear()
