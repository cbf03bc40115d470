from __future__ import annotations

import pytest
import torch

from limnet.tasks.augment import augment_clips
from tests.helpers.tiny_networks import disk


def clips(count: int = 12, length: int = 2, size: int = 64) -> tuple[torch.Tensor, torch.Tensor]:
    mask = torch.cat([disk(size, size, (24 + 6 * t, 34), 12) for t in range(length)], 1).expand(count, -1, -1, -1)
    return (mask * 200 + 20).to(torch.uint8), mask.to(torch.uint8)


def augment(seed: int = 0, **options: tuple[float, float]) -> tuple[torch.Tensor, torch.Tensor]:
    return augment_clips(*clips(), torch.Generator().manual_seed(seed), **options)


def test_image_and_mask_stay_aligned() -> None:
    """An image made from the mask still shows the mask, whatever was done to its grey levels."""
    image, mask = augment()
    assert image.shape == mask.shape == (12, 2, 64, 64)
    assert image.dtype == torch.float32
    assert mask.dtype == torch.bool
    assert 0 <= float(image.min()) <= float(image.max()) <= 1
    for picture, inside in zip(image.flatten(0, 1), mask.flatten(0, 1), strict=True):
        assert bool(inside.any())
        first, second = picture[inside].median(), picture[~inside].median()
        middle = (first + second) / 2
        shown = (picture > middle) == (first > second)
        assert float((shown == inside).float().mean()) > 0.97


def test_slices_of_a_clip_move_together() -> None:
    _, mask = augment()
    for first, second in mask:
        centres = [torch.nonzero(m).float().mean(0) for m in (first, second)]
        # the second disk is six pixels further; 6 * 0.7 .. 6 * 1.5 with the zoom and shear of the clip, clipped or not
        assert 2 < float((centres[0] - centres[1]).norm()) < 11


def test_seeds() -> None:
    first, again, other = augment(1), augment(1), augment(2)
    assert torch.equal(first[0], again[0])
    assert torch.equal(first[1], again[1])
    assert not torch.equal(first[1], other[1])
    assert len({m.numpy().tobytes() for m in first[1]}) == 12  # every clip its own


@pytest.mark.parametrize(("scale", "low", "high"), [((0.5, 0.5), 0.15, 0.4), ((1.5, 1.5), 1.6, 3.0)])
def test_scale_is_a_zoom_factor(scale: tuple[float, float], low: float, high: float) -> None:
    image, mask = clips()
    area = augment_clips(image, mask, torch.Generator().manual_seed(0), scale=scale)[1].sum((1, 2, 3))
    ratio = area.float() / mask[:1].sum()
    assert low < float(ratio.median()) < high


def test_float_images_are_fine() -> None:
    image, mask = clips()
    generator = torch.Generator().manual_seed(0)
    result = augment_clips(image.float(), mask.bool(), generator)
    assert torch.equal(result[0], augment()[0])
    assert torch.equal(result[1], augment()[1])
