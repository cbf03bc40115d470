"""Defective masks as MONAI dictionary transforms.

Needs MONAI: `pip install 'limnet[train]'`. Masks are channel first (C, H, W) or plain (H, W), arrays or tensors; every
channel is one object. What was drawn is put beside the mask under `<key>_corruption`, as one JSON string: strings make
batches in any data loader, whatever was drawn (`json.loads` gives the parameters).
"""

from __future__ import annotations

import json
from collections.abc import Callable, Hashable, Mapping, Sequence
from dataclasses import asdict
from typing import Any

import numpy as np
from monai.config import KeysCollection
from monai.transforms import MapTransform, RandomizableTransform
from monai.utils import convert_data_type, convert_to_dst_type
from numpy.typing import NDArray

from limnet.errors import InputError
from limnet.simulation.corruption import PAPER, corrupt, to_json
from limnet.simulation.superpixel_damage import damage_superpixels

Record = dict[str, Any]


class CorruptMaskd(RandomizableTransform, MapTransform):
    """Damages masks in the six ways of the paper.

    Args:
        keys: of the masks, (C, H, W) or (H, W), non-zero is the object.
        probabilities: of the six kinds, see `limnet.simulation.corruption.draw_corruption`.
        prob: how often anything is done at all.
        postfix: the parameters are stored under `key + "_" + postfix`: a JSON string of a list with one object per
            channel, null for a channel left as it was (empty, full, or by `prob`). `json.loads` reads it, and
            `limnet.simulation.corruption.from_json` one of its objects.
        allow_missing_keys: skip keys that are not there.
        literal: see `limnet.simulation.corruption.draw_corruption`.

    The dtype, type and device of a mask stay as they are.
    """

    def __init__(
        self,
        keys: KeysCollection,
        probabilities: Mapping[str, float] | Sequence[float] = PAPER,
        prob: float = 1.0,
        postfix: str = "corruption",
        allow_missing_keys: bool = False,
        literal: bool = False,
    ) -> None:
        MapTransform.__init__(self, keys, allow_missing_keys)
        RandomizableTransform.__init__(self, prob)
        self.probabilities, self.literal = probabilities, literal
        self.postfix = postfix
        corrupt(np.eye(3), 0, probabilities)  # bad probabilities are told here, not in a worker

    def __call__(self, data: Mapping[Hashable, Any]) -> dict[Hashable, Any]:
        """Damage the masks of one sample."""
        result = dict(data)
        self.randomize(None)
        for key in self.key_iterator(result):
            seed = int(self.R.randint(2**31))

            def damage(mask: NDArray[np.bool_], channel: int, seed: int = seed) -> tuple[NDArray[np.bool_], Record]:
                defective, parameters = corrupt(mask, (seed, channel), self.probabilities, self.literal)
                return defective, to_json(parameters)

            mask, record = _by_channel(result[key], damage if self._do_transform else None, str(key))
            result[key], result[f"{key}_{self.postfix}"] = mask, record
        return result


class DamageSuperpixelsd(RandomizableTransform, MapTransform):
    """Damages masks superpixel by superpixel to an IoU in a range.

    Args:
        keys: of the masks, (C, H, W) or (H, W), non-zero is the object.
        image_key: of the image whose edges the defects follow: (H, W), or the first channel of (C, H, W).
        iou: least and greatest IoU with the undamaged mask.
        prob: how often anything is done at all.
        postfix: see `CorruptMaskd`.
        allow_missing_keys: skip keys that are not there.
    """

    def __init__(
        self,
        keys: KeysCollection,
        image_key: str = "image",
        iou: tuple[float, float] = (0.75, 0.85),
        prob: float = 1.0,
        postfix: str = "corruption",
        allow_missing_keys: bool = False,
    ) -> None:
        MapTransform.__init__(self, keys, allow_missing_keys)
        RandomizableTransform.__init__(self, prob)
        if len(iou) != 2 or not 0 < iou[0] < iou[1] < 1:
            raise InputError(f"iou is {iou}; give (low, high) with 0 < low < high < 1")
        self.image_key, self.iou, self.postfix = image_key, iou, postfix

    def __call__(self, data: Mapping[Hashable, Any]) -> dict[Hashable, Any]:
        """Damage the masks of one sample."""
        result = dict(data)
        self.randomize(None)
        for key in self.key_iterator(result):
            seed = int(self.R.randint(2**31))
            image = convert_data_type(result[self.image_key], np.ndarray)[0]
            gray = image[0] if image.ndim == 3 else image

            def damage(
                mask: NDArray[np.bool_], channel: int, seed: int = seed, gray: NDArray[Any] = gray
            ) -> tuple[NDArray[np.bool_], Record]:
                rng = np.random.default_rng((seed, channel))
                defective, parameters = damage_superpixels(mask, gray, rng, *self.iou)
                changes = [list(change) for change in parameters.changes]
                return defective, {"kind": "superpixels", **asdict(parameters), "changes": changes}

            mask, record = _by_channel(result[key], damage if self._do_transform else None, str(key))
            result[key], result[f"{key}_{self.postfix}"] = mask, record
        return result


def _by_channel(
    value: Any, damage: Callable[[NDArray[np.bool_], int], tuple[NDArray[np.bool_], Record]] | None, key: str
) -> tuple[Any, str]:
    """Damage every channel; the result has the type and dtype of `value`. Also what was done, as one JSON string."""
    array = np.asarray(convert_data_type(value, np.ndarray)[0])
    if array.ndim not in (2, 3):
        raise InputError(f"{key} has shape {array.shape}; give a mask (C, H, W) or (H, W)")
    masks = (array if array.ndim == 3 else array[None]) != 0
    records: list[Record | None] = [None] * len(masks)
    if damage is None:
        return value, json.dumps(records)
    result = masks.copy()
    for channel, mask in enumerate(masks):
        if mask.any() and not mask.all():
            result[channel], records[channel] = damage(mask, channel)
    return convert_to_dst_type(result if array.ndim == 3 else result[0], value)[0], json.dumps(records)
