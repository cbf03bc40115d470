"""Defective masks as a MONAI dictionary transform.

Needs MONAI: `pip install 'limnet[train]'`. Masks are channel first (C, H, W) or plain (H, W), arrays or tensors; every
channel is one object. What was drawn is put beside the mask under `<key>_corruption`, as one JSON string: strings make
batches in any data loader, whatever was drawn (`json.loads` gives the parameters).
"""

from __future__ import annotations

import json
from collections.abc import Hashable, Mapping
from typing import Any

import numpy as np
from monai.config import KeysCollection
from monai.transforms import MapTransform, RandomizableTransform
from monai.utils import convert_data_type, convert_to_dst_type

from limnet.errors import InputError
from limnet.simulation.corruptions import PAPER, Probabilities, checked_probabilities, corrupt, to_json


class CorruptMaskd(RandomizableTransform, MapTransform):
    """Damages masks in the six ways of the paper; their dtype, type and device stay as they are.

    Args:
        keys: of the masks, (C, H, W) or (H, W), non-zero is the object.
        probabilities: of the six kinds, see `limnet.simulation.corruptions.draw_corruption`.
        prob: how often anything is done at all.
        postfix: the parameters are stored under `key + "_" + postfix`: a JSON string of a list with one object per
            channel, null for a channel left as it was (empty, full, or by `prob`), for
            `limnet.simulation.corruptions.from_json`.
        allow_missing_keys: skip keys that are not there.
        literal: see `limnet.simulation.corruptions.draw_corruption`.
    """

    def __init__(
        self,
        keys: KeysCollection,
        probabilities: Probabilities = PAPER,
        prob: float = 1.0,
        postfix: str = "corruption",
        allow_missing_keys: bool = False,
        literal: bool = False,
    ) -> None:
        MapTransform.__init__(self, keys, allow_missing_keys)
        RandomizableTransform.__init__(self, prob)
        self.probabilities, self.literal = probabilities, literal
        self.postfix = postfix
        checked_probabilities(probabilities)  # bad ones are told here, not in a worker

    def __call__(self, data: Mapping[Hashable, Any]) -> dict[Hashable, Any]:
        """Damage the masks of one sample."""
        result = dict(data)
        self.randomize(None)
        for key in self.key_iterator(result):
            seed = int(self.R.randint(2**31))
            value = result[key]
            array = np.asarray(convert_data_type(value, np.ndarray)[0])
            if array.ndim not in (2, 3):
                raise InputError(f"{key} has shape {array.shape}; give a mask (C, H, W) or (H, W)")
            masks = (array if array.ndim == 3 else array[None]) != 0
            records: list[dict[str, Any] | None] = [None] * len(masks)
            for channel, mask in enumerate(masks if self._do_transform else ()):
                if mask.any() and not mask.all():
                    masks[channel], parameters = corrupt(mask, (seed, channel), self.probabilities, self.literal)
                    records[channel] = to_json(parameters)
            if self._do_transform:
                result[key] = convert_to_dst_type(masks if array.ndim == 3 else masks[0], value)[0]
            result[f"{key}_{self.postfix}"] = json.dumps(records)
        return result
