"""The peer "nninteractive" with its package itself: a tiny network with random weights, nothing is downloaded."""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import pytest
import torch

from benchmarks.baselines import nninteractive
from benchmarks.baselines.nninteractive import NnInteractivePeer
from benchmarks.core.method import predictor_config
from tests.helpers.bench import run_object
from tests.helpers.peer_scenes import ball

pytest.importorskip("nnInteractive.inference.inference_session", reason="needs nnInteractive")

NETWORK = {
    "network_class_name": "dynamic_network_architectures.architectures.unet.ResidualEncoderUNet",
    "arch_kwargs": {
        "n_stages": 2,
        "features_per_stage": [4, 8],
        "conv_op": "torch.nn.modules.conv.Conv3d",
        "kernel_sizes": [[3, 3, 3], [3, 3, 3]],
        "strides": [[1, 1, 1], [2, 2, 2]],
        "n_blocks_per_stage": [1, 1],
        "n_conv_per_stage_decoder": [1],
        "conv_bias": True,
        "norm_op": "torch.nn.modules.instancenorm.InstanceNorm3d",
        "norm_op_kwargs": {"eps": 1e-5, "affine": True},
        "dropout_op": None,
        "dropout_op_kwargs": None,
        "nonlin": "torch.nn.LeakyReLU",
        "nonlin_kwargs": {"inplace": True},
    },
    "_kw_requires_import": ["conv_op", "norm_op", "dropout_op", "nonlin"],
}


@pytest.fixture
def weights(tmp_path: Path) -> str:
    """A trained model folder as nnU-Net and nnInteractive leave it."""
    from dynamic_network_architectures.architectures.unet import ResidualEncoderUNet

    architecture = NETWORK["arch_kwargs"] | {
        "conv_op": torch.nn.Conv3d,
        "norm_op": torch.nn.InstanceNorm3d,
        "nonlin": torch.nn.LeakyReLU,
    }
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(0)
        network = ResidualEncoderUNet(input_channels=8, num_classes=2, deep_supervision=False, **architecture)
    configuration = {
        "data_identifier": "x",
        "preprocessor_name": "DefaultPreprocessor",
        "batch_size": 2,
        "patch_size": [32, 32, 32],
        "spacing": [1.0, 1.0, 1.0],
        "normalization_schemes": ["ZScoreNormalization"],
        "use_mask_for_norm": [False],
        "architecture": NETWORK,
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
        (tmp_path / f"{name}.json").write_text(json.dumps(content))
    (tmp_path / "fold_0").mkdir()
    checkpoint = {
        "trainer_name": "nnInteractiveTrainer_stub",
        "init_args": {"configuration": "3d_fullres"},
        "network_weights": network.state_dict(),
    }
    torch.save(checkpoint, tmp_path / "fold_0/checkpoint_final.pth")
    return str(tmp_path)


@pytest.fixture(autouse=True)
def _fresh():
    nninteractive.nninteractive_model.cache_clear()
    yield
    nninteractive.nninteractive_model.cache_clear()


@pytest.mark.parametrize("axis", [0, 2])
def test_clicks_and_boxes(weights: str, axis: int):
    volume, truth = ball((2.0, 1.0, 1.0))
    peer = NnInteractivePeer(weights, threads=1)
    last: list[np.ndarray] = []
    rows = run_object(peer, volume, truth, axis, 3, on_end=last.append)
    assert [row.round for row in rows] == [1, 2, 3]
    assert all(0 <= row.dice <= 1 for row in rows)
    assert last[0].dtype == bool
    assert last[0].shape == volume.shape
    assert len(predictor_config(peer)["sha256"]) == 16
    session = peer.start(volume, axis)
    zyx = tuple(int(v) for v in np.argwhere(truth).mean(0))
    first = session.click(zyx, True).copy()  # type: ignore[arg-type]
    assert np.array_equal(first, peer.start(volume, axis).click(zyx, True)), "the same click, the same mask"  # type: ignore[arg-type]
    box = peer.start(volume, axis).box((8, 15, 15), (11, 22, 22))
    assert box.shape == volume.shape
