"""Three very small networks that stand in for real ones where only files matter."""

from __future__ import annotations

import pytest
import torch
from torch import Tensor, nn

from limnet.hub.folder import TABLE


class MiniInteraction(nn.Module):
    image_channels = 1
    prompt_channels = ("previous", "positive", "negative", "bounds")
    click_radius = 3.0

    def __init__(self, width: int = 4, name: str | None = None, steps: tuple[int, ...] = (1, 2), rate: float = 0.5):
        super().__init__()
        if width < 1:
            raise ValueError(f"width {width} must be positive")
        self.config = {"width": width, "name": name, "steps": list(steps), "rate": rate}
        self.steps = steps
        self.image = nn.Conv2d(1, width, 3, padding=1)
        self.norm = nn.BatchNorm2d(width)
        self.prompts = nn.Conv2d(4, width, 3, padding=1)
        self.head = nn.Conv2d(width, 1, 1)

    def encode_image(self, image: Tensor) -> tuple[Tensor, ...]:
        return (self.norm(self.image(image)),)

    def decode(self, features: tuple[Tensor, ...], prompts: Tensor) -> dict[str, Tensor]:
        return {"instances": self.head(torch.relu(features[0] + self.prompts(prompts)))}

    def forward(self, image: Tensor, prompts: Tensor) -> dict[str, Tensor]:
        return self.decode(self.encode_image(image), prompts)


class MiniPropagation(nn.Module):
    def __init__(self, width: int = 4):
        super().__init__()
        self.config = {"width": width}
        self.key = nn.Conv2d(1, width, 3, padding=1)

    def examine(self, first: Tensor, second: Tensor, mask: Tensor) -> dict[str, Tensor]:
        key, following = self.key(first), self.key(second)
        logits = (following[:, None] * key[:, None] * mask[:, :, None]).sum(2)
        return {"key": key, "probability": torch.softmax(torch.cat([torch.zeros_like(logits), logits], 1), 1)}


class MiniQuality(nn.Module):
    def __init__(self, width: int = 4):
        super().__init__()
        self.config = {"width": width}
        self.body = nn.Conv2d(3, width, 3, padding=1)

    def forward(self, image: Tensor, previous: Tensor, current: Tensor) -> Tensor:
        return self.body(torch.cat([image, previous, current], 1)).mean((1, 2, 3))


def register(monkeypatch: pytest.MonkeyPatch) -> None:
    """Put the three classes into the table for one test."""
    for role in TABLE:
        monkeypatch.setitem(TABLE, role, dict(TABLE[role]))
    register_for_good(TABLE)


def register_for_good(table: dict[str, dict[str, str]]) -> None:
    """Put the three classes into a table."""
    for role, cls in (("interaction", MiniInteraction), ("propagation", MiniPropagation), ("quality", MiniQuality)):
        table[role][cls.__name__] = f"{cls.__module__}:{cls.__qualname__}"


def build() -> dict[str, nn.Module]:
    """One of each role, with weights that are the same every time."""
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(7)
        return {
            "interaction": MiniInteraction(width=5, name="a", steps=(1, 2, 3)),
            "propagation": MiniPropagation(width=3),
            "quality": MiniQuality(width=3),
        }
