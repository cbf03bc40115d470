"""Splits by patient from a stable hash: the same on every machine, whatever else lies in the folder."""

from __future__ import annotations

import hashlib
from collections.abc import Iterable

from limnet.errors import InputError

FEW = 40  # patients; with fewer the sizes of the splits are exact


def patient_share(patient: str, seed: int = 0) -> float:
    """A number in [0, 1) that depends on the patient's id and the seed alone (SHA-256)."""
    digest = hashlib.sha256(f"{seed}:{patient}".encode()).digest()
    return int.from_bytes(digest[:8], "big") / 2**64


def split_patients(
    patients: Iterable[str], splits: tuple[str, ...] = ("train", "val"), fraction: float = 0.2, seed: int = 0
) -> dict[str, str]:
    """Assign every patient to a split.

    A patient belongs where the hash falls, so it keeps its split when others are added. Below `FEW` patients that would
    give very uneven splits: there each held-out split gets its share in whole patients, at least one, in the order of
    the hash, and one patient at least is left to train.

    Args:
        patients: ids; repeated ones count once.
        splits: "train" first, then "val" and possibly "test".
        fraction: expected share of each split but the first.
        seed: another seed, another split.

    Returns:
        patient -> name of its split.

    Raises:
        InputError: a fraction that leaves nothing for training.
    """
    held = splits[1:]
    if not 0 < fraction * max(len(held), 1) < 1:
        raise InputError(f"fraction is {fraction}; the {len(held)} split(s) {', '.join(held)} must leave some to train")
    order = sorted(set(patients), key=lambda patient: (patient_share(patient, seed), patient))
    counts = dict.fromkeys(splits, 0)
    if len(order) < FEW:
        counts[splits[0]] = len(order)
        for name in held:
            counts[name] = max(min(max(round(fraction * len(order)), 1), counts[splits[0]] - 1), 0)
            counts[splits[0]] -= counts[name]
    else:
        for patient in order:
            counts[_place(patient_share(patient, seed), splits, fraction)] += 1
    sequence = [name for name in (*held, splits[0]) for _ in range(counts[name])]
    return dict(zip(order, sequence, strict=True))


def _place(share: float, splits: tuple[str, ...], fraction: float) -> str:
    number = int(share / fraction)
    return splits[number + 1] if number < len(splits) - 1 else splits[0]
