"""A network with XMem's interface and few channels."""

from __future__ import annotations

import torch
import torch.nn.functional as functional
from torch import Tensor, nn

from limnet.propagation.networks.xmem import MEAN, STD, KeyProjection, SensoryReinforcer, XMem, per_object

PLACE = "tests.helpers.small_xmem:SmallXMem"  # for the table of networks


class Keys(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.conv4 = nn.Conv2d(3, 16, 4, 4)
        self.norm = nn.BatchNorm2d(16)
        self.conv8, self.conv16 = nn.Conv2d(16, 16, 2, 2), nn.Conv2d(16, 16, 2, 2)

    def forward(self, image: Tensor) -> tuple[Tensor, Tensor, Tensor]:
        f4 = torch.relu(self.norm(self.conv4(image)))
        f8 = torch.relu(self.conv8(f4))
        return self.conv16(f8), f8, f4


class Values(nn.Module):
    def __init__(self, value_dim: int, hidden_dim: int) -> None:
        super().__init__()
        self.conv = nn.Conv2d(5, value_dim, 16, 16)
        self.hidden_reinforce = SensoryReinforcer(value_dim, hidden_dim)

    def forward(self, image: Tensor, f16: Tensor, masks: Tensor) -> Tensor:
        others = masks.sum(1, keepdim=True) - masks
        pair = torch.stack([masks, others], 2).flatten(0, 1)
        return self.conv(torch.cat([per_object(image, masks.shape[1]), pair], 1))


class Masks(nn.Module):
    def __init__(self, value_dim: int, hidden_dim: int) -> None:
        super().__init__()
        self.mix = nn.Conv2d(16 + value_dim + hidden_dim, 32, 3, padding=1)
        self.update = nn.Conv2d(32, hidden_dim, 1)
        self.head = nn.Conv2d(32 + 16, 16, 1)

    def forward(
        self, f16: Tensor, f8: Tensor, f4: Tensor, readout: Tensor, state: Tensor, objects: int, update: bool
    ) -> tuple[Tensor, Tensor]:
        x = torch.relu(self.mix(torch.cat([per_object(f16, objects), readout, state], 1)))
        wide = functional.interpolate(x, scale_factor=4.0, mode="bilinear")
        logits = functional.pixel_shuffle(self.head(torch.cat([wide, per_object(f4, objects)], 1)), 4)
        return (torch.tanh(self.update(x) + state) if update else state), logits


class SmallXMem(XMem):
    def __init__(self, key_dim: int = 8, value_dim: int = 16, hidden_dim: int = 8) -> None:
        nn.Module.__init__(self)
        self.config = {"key_dim": key_dim, "value_dim": value_dim, "hidden_dim": hidden_dim}
        self.key_encoder = Keys()  # type: ignore[assignment]
        self.value_encoder = Values(value_dim, hidden_dim)  # type: ignore[assignment]
        self.key_proj = KeyProjection(16, key_dim)
        self.decoder = Masks(value_dim, hidden_dim)  # type: ignore[assignment]
        self.register_buffer("_mean", torch.tensor(MEAN).view(1, 3, 1, 1), persistent=False)
        self.register_buffer("_std", torch.tensor(STD).view(1, 3, 1, 1), persistent=False)
