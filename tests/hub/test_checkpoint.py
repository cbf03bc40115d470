from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
import torch

from limnet.errors import MissingFileError, ModelFormatError
from limnet.hub.convert import read_pth
from limnet.hub.folder import misfits, some


class _Evil:
    def __init__(self, marker: Path):
        self.marker = str(marker)

    def __reduce__(self) -> Any:
        return (open, (self.marker, "w"))


@pytest.mark.parametrize("zipped", [True, False])
def test_plain_values_come_back(tmp_path: Path, zipped: bool) -> None:
    content = {"a": torch.arange(3), "b": [1, "x"]}
    torch.save(content, tmp_path / "x.pth", _use_new_zipfile_serialization=zipped)
    found = read_pth(tmp_path / "x.pth", "x.pth")
    assert found["b"] == content["b"]
    assert torch.equal(found["a"], torch.arange(3))


@pytest.mark.parametrize("zipped", [True, False])
def test_code_is_not_run(tmp_path: Path, zipped: bool) -> None:
    torch.save({"a": _Evil(tmp_path / "ran")}, tmp_path / "x.pth", _use_new_zipfile_serialization=zipped)
    with pytest.raises(ModelFormatError, match="was not opened"):
        read_pth(tmp_path / "x.pth", "x.pth")
    assert not (tmp_path / "ran").exists()


@pytest.mark.parametrize("content", [b"", b"not a model", b"\x80\x02garbage", b"PK\x03\x04broken"])
def test_damage_and_absence(tmp_path: Path, content: bytes) -> None:
    (tmp_path / "x.pth").write_bytes(content)
    with pytest.raises(ModelFormatError, match=r"x\.pth"):
        read_pth(tmp_path / "x.pth", "XMem.pth")
    with pytest.raises(MissingFileError, match=r"such as XMem\.pth"):
        read_pth(tmp_path / "y.pth", "XMem.pth")
    with pytest.raises(MissingFileError):
        read_pth(tmp_path, "XMem.pth")


def test_every_misfit_is_named() -> None:
    expected = {name: torch.empty(2, device="meta") for name in ("gone", "shape", "kind", "nan", "fine")}
    expected["count"] = torch.empty((), dtype=torch.int64, device="meta")
    found = {
        "shape": torch.zeros(3),
        "kind": torch.zeros(2, dtype=torch.int64),
        "nan": torch.tensor([0.0, float("inf")]),
        "fine": torch.zeros(2, dtype=torch.float16),
        "count": torch.tensor(5),
        "more": torch.zeros(1),
    }
    problems = misfits(expected, found)
    assert [p.split()[0] for p in problems] == ["gone", "more", "shape", "kind", "nan"]
    assert "(3,) instead of (2,)" in problems[2]
    assert "int64 instead of torch.float32" in problems[3]
    assert misfits(expected, {k: torch.zeros(v.shape, dtype=v.dtype) for k, v in expected.items()}) == []


def test_some() -> None:
    assert some("abc") == "a, b, c"
    assert some(range(7)) == "0, 1, 2, 3, 4 and 2 more"
