from __future__ import annotations

from collections import OrderedDict
from pathlib import Path
from typing import Any

import pytest
import torch
from torch import Tensor

from limnet.errors import MissingFileError, ModelFormatError
from limnet.hub.convert import convert_xmem, xmem_from_state
from limnet.hub.folder import load_component
from limnet.propagation.networks.xmem import XMem
from tests.helpers.golden import golden_arrays, golden_weights, max_difference


def saved(path: Path, content: Any) -> Path:
    torch.save(content, path)
    return path


@pytest.fixture(scope="module")
def state() -> dict[str, Tensor]:
    """A small file of the public layout."""
    torch.manual_seed(0)
    return dict(XMem(8, 32, 16).state_dict())


@pytest.mark.parametrize("half", [False, True])
def test_a_public_file_gives_the_golden_outputs(tmp_path: Path, half: bool) -> None:
    arrays, meta = golden_arrays("xmem_modules")
    source = saved(tmp_path / "XMem.pth", OrderedDict(golden_weights("xmem", meta["overrides"])))
    convert_xmem(source, tmp_path / "out", half=half)
    network = load_component(tmp_path / "out", "propagation")
    assert isinstance(network, XMem)
    assert network.config == {"key_dim": 64, "value_dim": 512, "hidden_dim": 64}
    image = (torch.from_numpy(arrays["image"]).float() / 255).permute(2, 0, 1)[None]
    hidden, masks, readout = (torch.from_numpy(arrays[name]) for name in ("hidden_in", "masks", "readout"))
    with torch.no_grad():
        features = network.encode_image(image)
        value, _ = network.encode_value(image, features, hidden, masks)
        _, _, prob = network.segment(features, readout, hidden)
    assert max_difference(features.key, arrays["key"]) < (0.1 if half else 2e-4)
    assert max_difference(value, arrays["value_2obj"]) < (0.2 if half else 2e-4)
    assert max_difference(prob, arrays["segment_prob_2obj"]) < (0.05 if half else 2e-4)


@pytest.mark.parametrize("zipped", [True, False])
def test_sizes_come_from_the_file(tmp_path: Path, state: dict[str, Tensor], zipped: bool) -> None:
    torch.save(state, tmp_path / "x.pth", _use_new_zipfile_serialization=zipped)
    assert convert_xmem(tmp_path / "x.pth", tmp_path / "out") == tmp_path / "out"
    again = load_component(tmp_path / "out", "propagation")
    assert again.config == {"key_dim": 8, "value_dim": 32, "hidden_dim": 16}
    assert all(torch.equal(value, state[key]) for key, value in again.state_dict().items())


def test_a_stage_0_file_gets_a_zero_channel(state: dict[str, Tensor]) -> None:
    old = dict(state)
    old["value_encoder.conv1.weight"] = state["value_encoder.conv1.weight"][:, :4]
    weight = xmem_from_state(old).value_encoder.conv1.weight
    assert torch.equal(weight[:, :4], state["value_encoder.conv1.weight"][:, :4])
    assert (weight[:, 4] == 0).all()


def test_a_file_without_sensory_memory() -> None:
    torch.manual_seed(0)
    network = xmem_from_state(XMem(8, 32, 0).state_dict())
    assert network.config["hidden_dim"] == 0


def test_half_precision_files_and_missing_counters(state: dict[str, Tensor]) -> None:
    old = {
        key: value.half() if value.is_floating_point() else value
        for key, value in state.items()
        if not key.endswith("num_batches_tracked")
    }
    network = xmem_from_state(old)
    assert all(value.dtype == torch.float32 for value in network.parameters())


def test_the_random_state_is_left_alone(state: dict[str, Tensor]) -> None:
    torch.manual_seed(3)
    expected = torch.rand(2)
    torch.manual_seed(3)
    xmem_from_state(state)
    assert torch.equal(torch.rand(2), expected)


@pytest.mark.parametrize(
    ("change", "message"),
    [
        (lambda s: s.pop("decoder.pred.bias"), "decoder.pred.bias is missing"),
        (lambda s: s.update({"extra.weight": torch.zeros(1)}), "extra.weight is unknown"),
        (lambda s: s.update({"decoder.pred.weight": torch.zeros(2, 256, 3, 3)}), "instead of"),
        (lambda s: s.update({"decoder.pred.bias": torch.zeros(1, dtype=torch.int64)}), "dtype"),
        (lambda s: s.update({"value_encoder.conv1.weight": torch.zeros(64, 3, 7, 7)}), "instead of"),
        (lambda s: s.pop("key_proj.key_proj.weight"), "no usable key_proj"),
        (lambda s: s.pop("decoder.hidden_update.transform.weight"), "g16_conv.weight is unknown"),
        (lambda s: s.update({"decoder.pred.bias": torch.tensor([float("nan")])}), "NaN"),
        (lambda s: s.update({"note": "hello"}), "flat dict"),
        (lambda s: s.clear(), "dict of tensors"),
    ],
)
def test_foreign_files_are_refused(tmp_path: Path, state: dict[str, Tensor], change: Any, message: str) -> None:
    other = dict(state)
    change(other)
    with pytest.raises(ModelFormatError, match=message):
        convert_xmem(saved(tmp_path / "x.pth", other), tmp_path / "out")
    assert not (tmp_path / "out").exists()


class _Evil:
    def __reduce__(self) -> Any:
        return (exec, ("raise SystemExit('the file was executed')",))


def test_code_in_a_file_is_not_run(tmp_path: Path) -> None:
    with pytest.raises(ModelFormatError, match="more than tensors"):
        convert_xmem(saved(tmp_path / "evil.pth", {"a": _Evil()}), tmp_path / "out")


@pytest.mark.parametrize("content", [b"", b"not a model", b"\x80\x02garbage", b"PK\x03\x04broken"])
def test_damaged_files_are_refused(tmp_path: Path, content: bytes) -> None:
    path = tmp_path / "x.pth"
    path.write_bytes(content)
    with pytest.raises(ModelFormatError):
        convert_xmem(path, tmp_path / "out")


def test_truncated_file(tmp_path: Path, state: dict[str, Tensor]) -> None:
    path = saved(tmp_path / "x.pth", state)
    path.write_bytes(path.read_bytes()[: path.stat().st_size // 2])
    with pytest.raises(ModelFormatError):
        convert_xmem(path, tmp_path / "out")


def test_a_tensor_a_training_checkpoint_and_no_file(tmp_path: Path, state: dict[str, Tensor]) -> None:
    with pytest.raises(ModelFormatError, match="holds a Tensor"):
        convert_xmem(saved(tmp_path / "t.pth", torch.zeros(3)), tmp_path / "out")
    with pytest.raises(ModelFormatError, match="training checkpoint"):
        convert_xmem(saved(tmp_path / "c.pth", {"it": 1, "network": state}), tmp_path / "out")
    with pytest.raises(MissingFileError, match=r"XMem\.pth"):
        convert_xmem(tmp_path / "absent.pth", tmp_path / "out")
