"""The peer "sam2-video" with the transformers package itself: a tiny SAM 2, random weights, nothing downloaded."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
import torch

from benchmarks.baselines import sam2_video
from benchmarks.baselines.sam2_video import Sam2VideoPeer, video_frames
from benchmarks.core.method import predictor_config
from limnet.image.slice_view import SliceView
from limnet.image.volume import Volume
from tests.helpers.bench import run_object
from tests.helpers.peer_scenes import ball

transformers = pytest.importorskip("transformers", reason="transformers is not installed; pip install transformers")
if not hasattr(transformers, "Sam2VideoModel"):
    pytest.skip("transformers is older than SAM 2 video", allow_module_level=True)

SIDE = 128


@pytest.fixture
def weights(tmp_path: Path) -> str:
    """Folder in the layout of facebook/sam2.1-hiera-tiny."""
    widths = [8, 16, 32, 64]
    backbone = {
        "model_type": "sam2_hiera_det_model",
        "hidden_size": widths[0],
        "image_size": [SIDE, SIDE],
        "embed_dim_per_stage": widths,
        "num_attention_heads_per_stage": [1, 1, 1, 1],
        "blocks_per_stage": [1, 1, 1, 1],
        "global_attention_blocks": [],
    }
    vision = {
        "model_type": "sam2_vision_model",
        "backbone_config": backbone,
        "backbone_channel_list": widths[::-1],
        "backbone_feature_sizes": [[SIDE // stride] * 2 for stride in (4, 8, 16)],
    }
    config = transformers.Sam2VideoConfig(
        vision_config=vision,
        prompt_encoder_config={"image_size": SIDE},
        image_size=SIDE,
        memory_attention_num_layers=1,
        memory_attention_rope_feat_sizes=[SIDE // 16] * 2,
    )
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(0)
        transformers.Sam2VideoModel(config).save_pretrained(tmp_path)
    return str(tmp_path)


@pytest.fixture(autouse=True)
def _fresh():
    sam2_video.sam2_model.cache_clear()
    yield
    sam2_video.sam2_model.cache_clear()


@pytest.mark.parametrize("axis", [0, 2])
def test_clicks_go_through_the_whole_volume(weights: str, axis: int):
    volume, truth = ball((4.0, 2.0, 2.0))
    peer = Sam2VideoPeer(weights)
    last: list[np.ndarray] = []
    rows = run_object(peer, volume, truth, axis, 3, on_end=last.append)
    again: list[np.ndarray] = []
    run_object(peer, volume, truth, axis, 3, on_end=again.append)
    assert [row.round for row in rows] == [1, 2, 3]
    assert all(0 <= row.dice <= 1 for row in rows)
    assert last[0].dtype == bool
    assert last[0].shape == volume.shape
    assert np.array_equal(last[0], again[0]), "the same clicks, the same mask"
    assert len(predictor_config(peer)["sha256"]) == 16


def test_frames_are_as_the_package_makes_them():
    """Its processor wants torchvision, which resizes as torch does; the numbers of a constant picture are known."""
    view = SliceView(Volume.from_array(np.full((2, 6, 10, 3), 255, np.uint8)))
    frames = video_frames(view, 16)
    assert frames.shape == (2, 3, 16, 16)
    white = [(1 - mean) / std for mean, std in zip((0.485, 0.456, 0.406), (0.229, 0.224, 0.225), strict=True)]
    assert torch.allclose(frames, torch.tensor(white)[None, :, None, None].expand_as(frames), atol=1e-6)
