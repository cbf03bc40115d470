"""Defective masks: ground truth damaged in the six ways of the LIM-Net paper, to train networks that mend masks.

Parameters are drawn first (`draw_corruption`), for the object at hand; a pure function of mask and parameters then
makes the defective mask (`apply`). Parameters can be written to JSON and read back, and give the identical mask.
`corrupt` does both for one seed. The result is never empty and never the whole slice.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import asdict, fields
from types import MappingProxyType
from typing import Any

import numpy as np
from numpy.typing import ArrayLike, NDArray
from scipy import ndimage

from limnet.errors import InputError
from limnet.simulation.corruption_draws import DRAWS
from limnet.simulation.corruption_kinds import CORRUPTIONS, Corruption, kind_of
from limnet.simulation.corruption_shapes import Shape
from limnet.simulation.object_scale import object_scale

# Probability of every kind, in the paper's order.
PAPER: Mapping[str, float] = MappingProxyType(
    dict(zip(CORRUPTIONS, (0.1, 0.1, 0.3, 0.2, 0.1, 0.2), strict=True)),
)


def draw_corruption(
    rng: np.random.Generator,
    mask: ArrayLike,
    probabilities: Mapping[str, float] | Sequence[float] = PAPER,
    literal: bool = False,
) -> Corruption:
    """Draw a kind of defect and its parameters for the object in a mask.

    Args:
        rng: source of randomness.
        mask: (H, W), non-zero is the object; neither empty nor full.
        probabilities: of the kinds by name, kinds left out have none; or six numbers in the order of `PAPER`.
        literal: take the paper's pixels as they are printed (10 to 30), whatever the object's size.

    Returns:
        Parameters, scaled to the object unless `literal`: what is 10 pixels on an object 120 pixels wide in a 480-pixel
        slice is 2.5 on one of 30.

    Raises:
        InputError: a mask that is not 2-D, empty or full; probabilities that are negative, do not sum to 1, or name
            an unknown kind.
    """
    chances = _checked(probabilities)
    truth = np.asarray(mask) != 0
    scale = object_scale(truth, literal)
    kind = str(rng.choice(list(CORRUPTIONS), p=chances))
    return DRAWS[kind](rng, truth, scale)


def apply(mask: ArrayLike, parameters: Corruption) -> NDArray[np.bool_]:
    """Damage a mask.

    Args:
        mask: (H, W), non-zero is the object; it is not changed.
        parameters: drawn for this mask, or for another one.

    Returns:
        bool (H, W). If nothing would be left, the deepest pixels of the object stay; if everything would be filled,
        the deepest pixels of the background stay.

    Raises:
        InputError: a mask that is not 2-D, empty or full.
    """
    truth = np.asarray(mask) != 0
    if truth.ndim == 2 and truth.all():
        raise InputError("the mask fills the whole slice; give a slice with some background")
    kind_of(parameters)
    result = parameters.apply(truth)
    if not result.any():
        return _deepest(truth)
    if result.all():
        return ~_deepest(~truth)
    return result


def corrupt(
    mask: ArrayLike,
    seed: int | Sequence[int],
    probabilities: Mapping[str, float] | Sequence[float] = PAPER,
    literal: bool = False,
) -> tuple[NDArray[np.bool_], Corruption]:
    """Draw and apply in one go: the same seed and mask give the same defective mask.

    Args:
        mask: (H, W), non-zero is the object; neither empty nor full.
        seed: one number, or several such as (seed, epoch, case, click).
        probabilities: see `draw_corruption`.
        literal: see `draw_corruption`.

    Returns:
        The defective mask, bool (H, W), and the parameters that made it.

    Raises:
        InputError: see `draw_corruption`.
    """
    parameters = draw_corruption(np.random.default_rng(seed), mask, probabilities, literal)
    return apply(mask, parameters), parameters


def to_json(parameters: Corruption) -> dict[str, Any]:
    """Parameters as plain JSON types, with their kind under "kind"."""
    return {"kind": kind_of(parameters), **_lists(asdict(parameters))}


def from_json(record: Mapping[str, Any]) -> Corruption:
    """Parameters from what `to_json` wrote, also after a trip through a JSON file.

    Raises:
        InputError: an unknown kind, or fields that do not belong to it.
    """
    kind = CORRUPTIONS.get(str(record.get("kind")))
    if kind is None:
        raise InputError(f"kind is {record.get('kind')!r}; known kinds are {', '.join(CORRUPTIONS)}")
    given, known = set(record) - {"kind"}, {f.name for f in fields(kind)}
    if given != known:
        raise InputError(
            f"{record['kind']} has the fields {sorted(known)}, came with {sorted(given)}; give all of them"
        )
    values = {name: _tuples(record[name]) for name in known}
    if "shapes" in values:
        try:
            values["shapes"] = tuple(Shape(**{k: _tuples(v) for k, v in shape.items()}) for shape in record["shapes"])
        except (TypeError, AttributeError) as error:
            raise InputError(f"shapes of {record['kind']} cannot be read ({error}); give what to_json wrote") from None
    return kind(**values)


def _checked(probabilities: Mapping[str, float] | Sequence[float]) -> NDArray[np.float64]:
    if isinstance(probabilities, Mapping):
        unknown = set(probabilities) - set(CORRUPTIONS)
        if unknown:
            raise InputError(f"unknown kinds of corruption {sorted(unknown)}; known are {', '.join(CORRUPTIONS)}")
        chances = np.array([float(probabilities.get(kind, 0.0)) for kind in CORRUPTIONS])
    else:
        chances = np.asarray(probabilities, float)
        if chances.shape != (len(CORRUPTIONS),):
            raise InputError(f"{chances.size} probabilities; give {len(CORRUPTIONS)}: {', '.join(CORRUPTIONS)}")
    if not (np.isfinite(chances).all() and (chances >= 0).all() and abs(chances.sum() - 1) < 1e-6):
        raise InputError(f"probabilities are {chances.tolist()}; give numbers of 0 or more that sum to 1")
    return chances / chances.sum()


def _deepest(region: NDArray[np.bool_]) -> NDArray[np.bool_]:
    depth = ndimage.distance_transform_edt(region)
    return region & (depth >= depth.max())


def _lists(value: Any) -> Any:
    if isinstance(value, dict):
        return {k: _lists(v) for k, v in value.items()}
    return [_lists(v) for v in value] if isinstance(value, (tuple, list)) else value


def _tuples(value: Any) -> Any:
    return tuple(_tuples(v) for v in value) if isinstance(value, (tuple, list)) else value
