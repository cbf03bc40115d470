from __future__ import annotations

import hashlib

import pytest

from limnet.data.dataset import patient_share, split_patients
from limnet.errors import InputError


def test_share_is_the_hash():
    digest = hashlib.sha256(b"3:anna").digest()
    assert patient_share("anna", 3) == int.from_bytes(digest[:8], "big") / 2**64


def test_fractions_are_about_kept():
    patients = [f"p{i}" for i in range(2000)]
    counts = list(split_patients(patients, ("train", "val", "test"), 0.1).values())
    assert 150 < counts.count("val") < 250
    assert 150 < counts.count("test") < 250
    assert len(counts) == 2000


def test_others_do_not_move_a_patient():
    many = [f"p{i}" for i in range(300)]
    before, after = split_patients(many[:150]), split_patients(many)
    assert all(after[p] == before[p] for p in before)
    assert before != split_patients(many[:150], seed=1)


@pytest.mark.parametrize("count", [2, 3, 4, 5])
def test_no_split_of_a_tiny_set_is_empty(count):
    for seed in range(30):
        splits = ("train", "val") if count == 2 else ("train", "val", "test")
        found = split_patients([f"p{i}" for i in range(count)], splits, seed=seed)
        assert set(found.values()) == set(splits)


@pytest.mark.parametrize(("count", "held"), [(5, 1), (6, 1), (10, 2), (39, 8)])
def test_few_patients_are_split_exactly(count, held):
    for seed in range(20):
        found = split_patients([f"p{i}" for i in range(count)], seed=seed)
        assert list(found.values()).count("val") == held


def test_one_patient_is_for_training():
    for seed in range(20):
        assert split_patients(["a", "a"], seed=seed) == {"a": "train"}
        assert sorted(split_patients(["a", "b"], ("train", "val", "test"), seed=seed).values()) == ["train", "val"]
    assert split_patients([]) == {}


@pytest.mark.parametrize("fraction", [0.0, 1.0, -0.1, 0.5])
def test_bad_fraction(fraction):
    with pytest.raises(InputError, match="fraction is"):
        split_patients(["a"], ("train", "val", "test"), fraction)
