from __future__ import annotations

import json
import pickle
from pathlib import Path

import pytest
import torch
from safetensors.torch import load_file, save_file

from limnet.errors import InputError, MissingFileError, ModelFormatError
from limnet.hub.folder import ROLES, TABLE, load_component, resolve, save_component
from tests.helpers import standins
from tests.helpers.fake_folders import change
from tests.helpers.small_segmenter import small_segmenter


@pytest.fixture
def folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    standins.register(monkeypatch)
    save_component(standins.build()["interaction"], tmp_path / "net")
    return tmp_path / "net"


def test_roundtrip_is_exact(folder: Path) -> None:
    state = torch.get_rng_state()
    loaded = load_component(folder, "interaction")
    assert torch.equal(state, torch.get_rng_state())
    assert isinstance(loaded, standins.MiniInteraction)
    assert not loaded.training
    assert loaded.steps == (1, 2, 3)
    assert not any(p.requires_grad for p in loaded.parameters())
    for key, value in standins.build()["interaction"].state_dict().items():
        assert torch.equal(loaded.state_dict()[key], value), key
    found = json.loads((folder / "config.json").read_text())
    assert found["class"] == "MiniInteraction"
    assert found["format_version"] == 1
    assert found["config"]["steps"] == [1, 2, 3]
    assert sorted(path.name for path in folder.iterdir()) == ["config.json", "model.safetensors"]


def test_half_stores_matrices_as_float16_and_loads_float32(folder: Path) -> None:
    net = standins.build()["interaction"]
    with torch.no_grad():
        net.head.weight[0, 0] = 1e6  # would be infinite as float16
    save_component(net, folder, half=True)
    stored = load_file(folder / "model.safetensors")
    assert stored["image.weight"].dtype == torch.float16
    assert stored["head.weight"].dtype == torch.float32
    assert stored["norm.running_var"].dtype == torch.float32
    assert stored["norm.num_batches_tracked"].dtype == torch.int64
    loaded = load_component(folder, "interaction")
    assert {p.dtype for p in loaded.parameters()} == {torch.float32}
    torch.testing.assert_close(loaded.image.weight, net.image.weight, atol=1e-3, rtol=1e-3)


def test_missing_files(folder: Path) -> None:
    with pytest.raises(MissingFileError, match="not a folder"):
        load_component(folder / "nowhere", "interaction")
    (folder / "model.safetensors").rename(folder / "pytorch_model.bin")
    with pytest.raises(ModelFormatError, match="never opens pickled weights"):
        load_component(folder, "interaction")
    (folder / "pytorch_model.bin").unlink()
    with pytest.raises(MissingFileError, match=r"model\.safetensors is missing; .*download"):
        load_component(folder, "interaction")
    (folder / "config.json").unlink()
    with pytest.raises(FileNotFoundError, match=r"config\.json is missing"):
        load_component(folder, "interaction")


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"class": "MiniInteractoin"}, "Did you mean MiniInteraction"),
        ({"class": "MiniQuality"}, "swapped"),
        ({"class": "os.system"}, "allowed: "),
        ({"class": "limnet.interaction.networks.tiny:TinyInteraction"}, "allowed: "),
        ({"class": ""}, "upgrade"),
        ({"format_version": 2, "limnet_version": "9.0"}, r"limnet 9\.0.*pip install --upgrade limnet"),
        *(({"format_version": version}, "format_version") for version in (None, "1", 0, True, 1.0)),
        ({"config": {"widht": 4}}, "unexpected keyword argument 'widht'"),
        ({"config": {"width": "5"}}, "expected int"),
        ({"config": {"width": 5.0}}, "expected int"),
        ({"config": {"width": True}}, "expected int"),
        ({"config": {"rate": "fast"}}, "expected float"),
        ({"config": {"steps": 3}}, "expected tuple"),
        ({"config": {"steps": [1, "2"]}}, "expected int"),
        ({"config": {"name": 3}}, "expected str | None"),
        ({"config": {"width": 0}}, "refuses its configuration.*must be positive"),
        ({"config": {"width": 6}}, "does not fit.*has shape"),
    ],
)
def test_wrong_config(folder: Path, changes: dict, message: str) -> None:
    change(folder / "config.json", **changes)
    with pytest.raises(ModelFormatError, match=message):
        load_component(folder, "interaction")


@pytest.mark.parametrize("text", ["", "{", "[]", '{"format_version": NaN}', "\xff", "[" * 100_000, "1"])
def test_damaged_config(folder: Path, text: str) -> None:
    (folder / "config.json").write_bytes(text.encode("latin-1"))
    with pytest.raises(ModelFormatError, match=r"config\.json"):
        load_component(folder, "interaction")


@pytest.mark.parametrize("keep", [0, 5, 8, 40, 700, -1, None])
def test_damaged_weights(folder: Path, keep: int | None) -> None:
    path = folder / "model.safetensors"
    data = path.read_bytes()
    path.write_bytes(data[:20] + bytes(10) + data[30:] if keep is None else data[:keep])
    with pytest.raises(ModelFormatError, match=r"damaged.*again"):
        load_component(folder, "interaction")


class Payload:
    def __init__(self, path: Path) -> None:
        self.path = path

    def __reduce__(self) -> tuple:
        return (Path.touch, (self.path,))


@pytest.mark.parametrize("kind", ["zip", "legacy", "raw", "protocol0"])
def test_pickle_posing_as_weights_is_not_run(folder: Path, tmp_path: Path, kind: str) -> None:
    victim, target = tmp_path / "victim", folder / "model.safetensors"
    if kind in ("zip", "legacy"):
        torch.save({"weight": Payload(victim)}, target, _use_new_zipfile_serialization=kind == "zip")
    else:
        target.write_bytes(pickle.dumps(Payload(victim), protocol=0 if kind == "protocol0" else 4))
    with pytest.raises(ModelFormatError, match="again" if kind == "protocol0" else "is a pickle.*not opened"):
        load_component(folder, "interaction")
    assert not victim.exists()
    if kind == "raw":  # the payload itself works
        pickle.loads(target.read_bytes())
        assert victim.exists()


def test_strict_keys_dtypes_and_finite(folder: Path) -> None:
    path = folder / "model.safetensors"
    good = load_file(path)

    def refused(tensors: dict[str, torch.Tensor], message: str) -> None:
        save_file(tensors, path)
        with pytest.raises(ModelFormatError, match=message):
            load_component(folder, "interaction")

    refused({k: v for k, v in good.items() if k != "head.bias"}, "head.bias is missing")
    refused({**good, "extra": torch.zeros(1)}, "extra is unknown")
    refused({**good, "head.bias": torch.tensor([float("nan")])}, r"head.bias holds NaN")
    refused({**good, "head.bias": torch.tensor([1])}, r"head.bias has dtype torch.int64 instead of torch.float32")
    refused({**good, "head.bias": torch.zeros(2)}, r"head.bias has shape \(2,\) instead of \(1,\)")


def test_save_refuses_what_could_not_be_loaded(folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    before = {path.name: path.read_bytes() for path in folder.iterdir()}
    net = standins.build()["interaction"]
    with pytest.raises(InputError, match="cannot be saved as part of a model"):
        save_component(torch.nn.Conv2d(1, 1, 1), folder)
    net.config = {"width": Path("x")}
    with pytest.raises(InputError, match="not plain JSON"):
        save_component(net, folder)
    net.config = {"depth": 3}
    with pytest.raises(InputError, match="unexpected keyword argument 'depth'"):
        save_component(net, folder)
    net = standins.build()["interaction"]
    with torch.no_grad():
        net.head.bias.fill_(float("inf"))
    with pytest.raises(InputError, match=r"head\.bias holds NaN"):
        save_component(net, folder)
    assert {path.name: path.read_bytes() for path in folder.iterdir()} == before


def test_registry_table_and_roles() -> None:
    assert set(TABLE) == set(ROLES)
    assert TABLE["interaction"]["HRNetOCR"] == "limnet.interaction.networks.hrnet:HRNetOCR"
    with pytest.raises(InputError, match="unknown role 'fusion'"):
        resolve("fusion", "XMem")
    with pytest.raises(ModelFormatError, match="allowed"):
        resolve("quality", ["ResNetQuality"])


def test_configurations_of_giants_take_no_memory(tmp_path: Path) -> None:
    folder = small_segmenter().save_pretrained(tmp_path / "model") / "propagation"
    config = json.loads((folder / "config.json").read_text())["config"]
    for wrong in ({"depths": [10**9, 1, 1, 1]}, {"widths": [16, 16, 16, 10**6]}, {"key_dim": 10**12}):
        change(folder / "config.json", config={**config, **wrong})
        with pytest.raises(ModelFormatError, match="larger than any size in"):
            load_component(folder, "propagation")
    change(folder / "config.json", config={**config, "widths": [4096] * 4, "depths": [9] * 4})  # 5 GB of numbers
    with pytest.raises(ModelFormatError, match="describes a network of"):
        load_component(folder, "propagation")
