"""Begin a propagation network as a click network that corrects the mask of the slice before.

A click network already turns a poor mask of a slice into a better one, and the mask of the neighbouring slice is a poor
mask of this one. So an untrained propagation network that has its weights carries masks from the first step (Dice .49
on clips of eight slices, against .02 with a decoder of random weights), and learns only what memory adds.
"""

from __future__ import annotations

import torch

from limnet.errors import InputError
from limnet.interaction.networks.tiny import TinyInteraction
from limnet.propagation.networks.tiny import TinyPropagation

PIXELS = 16  # pixels of one map behind each weight of the first layer (4x4 unshuffled)
PREVIOUS, CORRECTED = 0, 3  # similarity maps of the click network: the previous mask, and without what clicks refused


def warm_start(network: TinyPropagation, interaction: TinyInteraction) -> None:
    """Give `network`, in place, both halves of a click network.

    Of the click network's maps the previous mask is read from the mask of the slice before. Everything it has no map
    for (gray values, likelihoods, memory) starts with weights of zero, except what memory says the object looks like:
    that takes the place of the click network's mask without its negative clicks.

    Raises:
        InputError: image halves of other sizes, or networks of the base family.
    """
    if not isinstance(network, TinyPropagation) or not isinstance(interaction, TinyInteraction):
        raise InputError(
            f"a {type(network).__name__} cannot start from a {type(interaction).__name__}; only TinyPropagation from "
            "TinyInteraction can"
        )
    try:
        network.encoder.load_state_dict(interaction.encoder.state_dict())
    except RuntimeError as error:
        raise InputError(
            f"the image halves differ ({network.config['widths']} and {interaction.config['widths']} wide, depths "
            f"{network.config['depths']} and {interaction.config['depths']}); start from one of the same size"
        ) from error
    mine = network.decoder
    source, state = interaction.decoder.state_dict(), mine.state_dict()
    for name in state:
        if name in source and source[name].shape == state[name].shape:
            state[name] = source[name].clone()
        else:
            state[name] = torch.zeros_like(state[name])
    previous = source["maps.weight"][:, :PIXELS] / 2  # there a mask lies in [0, 1], here in [-1, 1]
    state["maps.weight"] = torch.zeros_like(mine.maps.weight)
    state["maps.weight"][:, :PIXELS] = previous
    state["maps.bias"] = source["maps.bias"] + previous.sum((1, 2, 3))
    similar = source["similar.weight"]
    state["similar.weight"] = torch.zeros_like(similar)
    state["similar.weight"][:, 0] = similar[:, CORRECTED]  # the object in memory
    state["similar.weight"][:, 2] = similar[:, PREVIOUS]  # the object on the slice before
    mine.load_state_dict(state)
    with torch.no_grad():
        network.copy_gain.fill_(1.0)
