"""Baselines with their packages themselves: tiny networks with random weights, nothing is downloaded."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch

from benchmarks.baselines import outside
from benchmarks.baselines.outside import NnInteractive, Sam2Video, SamPoints, video_frames
from benchmarks.core.rounds import predictor_config
from limnet.image.slice_view import SliceView
from limnet.image.volume import Volume
from tests.helpers.bench import ball, run_object

SIDE = 128  # of the square that SAM 2 sees


@pytest.fixture(autouse=True)
def _fresh():
    for cached in (outside.nninteractive_model, outside.sam2_model, outside.sam_model):
        cached.cache_clear()
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(0)
        yield


def sam(folder: Path) -> SamPoints:
    """A model in the layout of facebook/sam-vit-base."""
    transformers = pytest.importorskip("transformers")
    small = {"num_hidden_layers": 1, "num_attention_heads": 2, "mlp_dim": 64}
    try:
        vision = transformers.SamVisionConfig(hidden_size=32, global_attn_indexes=[0], **small)
        decoder = {"mlp_dim": 64, "num_hidden_layers": 1, "num_attention_heads": 2}
        model = transformers.SamModel(
            transformers.SamConfig(
                vision_config=vision.to_dict(), prompt_encoder_config={}, mask_decoder_config=decoder
            )
        )
        processor = transformers.SamProcessor(transformers.SamImageProcessor())
    except (ImportError, RuntimeError) as error:  # such as a torchvision made for another torch
        pytest.skip(f"transformers has no SAM here: {error}")
    model.save_pretrained(folder)
    processor.save_pretrained(folder)
    return SamPoints(str(folder), points=3)


def sam2(folder: Path) -> Sam2Video:
    """A model in the layout of facebook/sam2.1-hiera-tiny."""
    transformers = pytest.importorskip("transformers")
    if not hasattr(transformers, "Sam2VideoModel"):
        pytest.skip("transformers is older than SAM 2 video")
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
    transformers.Sam2VideoModel(config).save_pretrained(folder)
    return Sam2Video(str(folder))


def nn_interactive(folder: Path) -> NnInteractive:
    """A trained model folder as nnU-Net and nnInteractive leave it."""
    pytest.importorskip("nnInteractive.inference.inference_session", reason="needs nnInteractive")
    unet = pytest.importorskip("dynamic_network_architectures.architectures.unet")
    sizes: dict[str, Any] = {
        "n_stages": 2,
        "features_per_stage": [4, 8],
        "kernel_sizes": [[3, 3, 3], [3, 3, 3]],
        "strides": [[1, 1, 1], [2, 2, 2]],
        "n_blocks_per_stage": [1, 1],
        "n_conv_per_stage_decoder": [1],
        "conv_bias": True,
        "norm_op_kwargs": {"eps": 1e-5, "affine": True},
        "dropout_op": None,
        "dropout_op_kwargs": None,
        "nonlin_kwargs": {"inplace": True},
    }
    kinds = {"conv_op": torch.nn.Conv3d, "norm_op": torch.nn.InstanceNorm3d, "nonlin": torch.nn.LeakyReLU}
    names = {
        "conv_op": "torch.nn.modules.conv.Conv3d",
        "norm_op": "torch.nn.modules.instancenorm.InstanceNorm3d",
        "nonlin": "torch.nn.LeakyReLU",
    }
    network = unet.ResidualEncoderUNet(input_channels=8, num_classes=2, deep_supervision=False, **sizes, **kinds)
    configuration = {
        "data_identifier": "x",
        "preprocessor_name": "DefaultPreprocessor",
        "batch_size": 2,
        "patch_size": [32, 32, 32],
        "spacing": [1.0, 1.0, 1.0],
        "normalization_schemes": ["ZScoreNormalization"],
        "use_mask_for_norm": [False],
        "architecture": {
            "network_class_name": "dynamic_network_architectures.architectures.unet.ResidualEncoderUNet",
            "arch_kwargs": {**sizes, **names},
            "_kw_requires_import": ["conv_op", "norm_op", "dropout_op", "nonlin"],
        },
    }
    plans = {
        "dataset_name": "Dataset001_Tiny",
        "plans_name": "tiny",
        "configurations": {"3d_fullres": configuration},
        "transpose_forward": [0, 1, 2],
        "transpose_backward": [0, 1, 2],
    }
    labels = {"channel_names": {"0": "CT"}, "labels": {"background": 0, "object": 1}, "file_ending": ".nii.gz"}
    for name, content in (("plans", plans), ("dataset", labels), ("inference_session_class", {"point_radius": 2})):
        (folder / f"{name}.json").write_text(json.dumps(content))
    (folder / "fold_0").mkdir()
    checkpoint = {
        "trainer_name": "nnInteractiveTrainer_stub",
        "init_args": {"configuration": "3d_fullres"},
        "network_weights": network.state_dict(),
    }
    torch.save(checkpoint, folder / "fold_0/checkpoint_final.pth")
    return NnInteractive(str(folder), threads=1)


@pytest.mark.parametrize("axis", [0, 2])
@pytest.mark.parametrize("make", [sam, sam2, nn_interactive])
def test_an_object_by_the_robot_user(make: Callable[[Path], Any], axis: int, tmp_path: Path):
    volume, truth = ball((4.0, 2.0, 2.0))
    baseline = make(tmp_path)
    rows, again = (run_object(baseline, volume, truth, axis, 3) for _ in range(2))
    assert len(predictor_config(baseline)["sha256"]) == 16
    assert [row.round for row in rows] == [1, 2, 3]
    assert all(0 <= row.dice <= 1 for row in rows)
    assert all(np.array_equal(a.mask, b.mask) for a, b in zip(rows, again, strict=True)), "the same clicks"
    if make is sam:
        elsewhere = ~truth.any(tuple(a for a in range(3) if a != axis))
        assert not np.moveaxis(rows[-1].mask, axis, 0)[elsewhere].any(), "only slices with points have a mask"
    if make is nn_interactive:
        assert baseline.start(volume, axis).box((4, 7, 7), (5, 11, 11)).shape == volume.shape


def test_frames_are_as_the_package_of_sam2_makes_them():
    """Its processor wants torchvision, which resizes as torch does; the numbers of a constant picture are known."""
    view = SliceView(Volume.from_array(np.full((2, 6, 10, 3), 255, np.uint8)))
    frames = video_frames(view, 16)
    assert frames.shape == (2, 3, 16, 16)
    white = [(1 - mean) / std for mean, std in zip((0.485, 0.456, 0.406), (0.229, 0.224, 0.225), strict=True)]
    assert torch.allclose(frames, torch.tensor(white)[None, :, None, None].expand_as(frames), atol=1e-6)
