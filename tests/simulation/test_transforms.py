from __future__ import annotations

import json

import numpy as np
import pytest
import torch

pytest.importorskip("monai")
from monai.data import DataLoader, Dataset, MetaTensor
from monai.transforms import Compose, CopyItemsd, EnsureChannelFirstd

from limnet.errors import InputError
from limnet.simulation.corruptions import apply, from_json
from limnet.simulation.transforms import CorruptMaskd
from tests.helpers.blobs import blob, disk


def sample() -> dict:
    mask = disk((64, 64), (30, 34), 13)
    image = mask * 100 + np.random.default_rng(0).normal(0, 15, mask.shape)
    return {"image": image.astype(np.float32), "mask": mask.astype(np.uint8)}


def chain() -> Compose:
    return Compose(
        [
            EnsureChannelFirstd(("image", "mask"), channel_dim="no_channel"),
            CopyItemsd("mask", names="previous"),
            CorruptMaskd("previous"),
        ]
    )


def test_in_a_compose_the_parameters_are_recorded_and_repeat_the_mask():
    steps = chain()
    steps.set_random_state(seed=4)
    kinds = set()
    for _ in range(20):
        out = steps(sample())
        assert torch.equal(out["mask"][0], torch.from_numpy(sample()["mask"]))
        assert out["previous"].shape == (1, 64, 64)
        (record,) = json.loads(out["previous_corruption"])
        kinds.add(record["kind"])
        again = apply(sample()["mask"], from_json(record))
        np.testing.assert_array_equal(np.asarray(out["previous"])[0] != 0, again)
    assert len(kinds) >= 3


def test_the_random_state_decides():
    def run(seed: int) -> list[np.ndarray]:
        steps = chain()
        steps.set_random_state(seed=seed)
        return [np.asarray(steps(sample())["previous"]) for _ in range(5)]

    first, again, other = run(1), run(1), run(2)
    np.testing.assert_array_equal(first, again)
    assert any((a != b).any() for a, b in zip(first, other, strict=True))
    assert any((a != first[0]).any() for a in first[1:])


@pytest.mark.parametrize(
    "form", [np.asarray, torch.from_numpy, lambda a: MetaTensor(torch.from_numpy(a)), lambda a: a.astype(bool)]
)
@pytest.mark.parametrize("channels", [None, 3])
def test_type_dtype_and_shape_stay(form, channels):
    mask = blob(3).astype(np.float32) if channels is None else np.stack([blob(s).astype(np.float32) for s in range(3)])
    value = form(mask)
    out = CorruptMaskd("mask").set_random_state(seed=0)({"mask": value})
    assert type(out["mask"]) is type(value)
    assert out["mask"].dtype == value.dtype
    assert out["mask"].shape == value.shape
    records = json.loads(out["mask_corruption"])
    assert len(records) == (channels or 1)
    damaged = np.asarray(out["mask"]) != 0
    if channels:  # every channel has a draw of its own
        for c in range(channels):
            np.testing.assert_array_equal(damaged[c], apply(mask[c], from_json(records[c])))
    np.testing.assert_array_equal(np.asarray(value), mask)


def test_prob_and_masks_without_object_leave_things_alone():
    out = CorruptMaskd("mask", prob=0.0)(sample())
    np.testing.assert_array_equal(out["mask"], sample()["mask"])
    assert json.loads(out["mask_corruption"]) == [None]
    out = CorruptMaskd("mask")({"mask": np.stack([np.zeros((8, 8)), np.ones((8, 8))])})
    assert out["mask"].sum() == 64
    assert json.loads(out["mask_corruption"]) == [None, None]
    assert CorruptMaskd("other", allow_missing_keys=True)({"mask": 1}) == {"mask": 1}


def test_kinds_and_bad_settings():
    transform = CorruptMaskd("mask", {"remove_parts": 1.0}).set_random_state(seed=0)
    assert json.loads(transform(sample())["mask_corruption"])[0]["kind"] == "remove_parts"
    with pytest.raises(InputError, match="sum to 1"):
        CorruptMaskd("mask", {"smooth": 0.5})
    with pytest.raises(InputError, match="mask has shape"):
        CorruptMaskd("mask")({"mask": np.ones((2, 2, 2, 2))})


def test_records_of_a_batch():
    """Kinds with other parameters, masks left alone and empty ones make one batch."""
    samples = [{**sample(), "before": sample()["mask"]} for _ in range(8)]
    samples[3] = {**samples[3], "mask": samples[3]["mask"] * 0}
    chosen = CorruptMaskd("mask", prob=0.6).set_random_state(seed=2)
    seen = []
    for batch in DataLoader(Dataset(samples, chosen), batch_size=4):
        assert batch["mask"].shape == batch["before"].shape == (4, 64, 64)
        for record, mask, before in zip(batch["mask_corruption"], batch["mask"], batch["before"], strict=True):
            (found,) = json.loads(record)
            seen.append(found and found["kind"])
            if found is None:
                assert not mask.any() or torch.equal(mask, before)
            else:
                np.testing.assert_array_equal(mask.numpy() != 0, apply(before.numpy(), from_json(found)))
    assert len(seen) == 8
    assert seen[3] is None
    assert len(set(seen)) >= 3
