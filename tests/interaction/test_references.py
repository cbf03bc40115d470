from __future__ import annotations

import pytest
import torch
import torch.nn.functional as functional
from torch import nn

from limnet.blocks.tiny import MapDecoder
from limnet.errors import InputError
from limnet.interaction.references import MAPS, SIMILARITIES, ReferenceMaps
from limnet.interaction.tiny import TinyInteraction, with_references
from tests.helpers.tiny_networks import ENCODER, disk, small_interaction


def unit(*shape: int, seed: int = 0) -> torch.Tensor:
    return functional.normalize(torch.randn(*shape, generator=torch.Generator().manual_seed(seed)), dim=1)


def test_a_moved_slice_is_matched_anywhere() -> None:
    known = unit(1, 16, 8, 8)
    mask = torch.zeros(1, 1, 64, 64)
    mask[..., 16:32, 8:32] = 1
    image = torch.rand(1, 1, 64, 64, generator=torch.Generator().manual_seed(1))
    maps = ReferenceMaps(sharpness=60.0, nearby=0.04).requires_grad_(False)
    full, coarse = maps(image.roll(24, -1), known.roll(3, -1), image, known, mask)
    assert full.shape == (1, MAPS, 64, 64)
    assert coarse.shape == (1, SIMILARITIES, 8, 8)
    wanted = functional.avg_pool2d(mask.roll(24, -1), 8)
    assert float((coarse[:, 3:] - wanted).abs().max()) < 0.05
    assert float((coarse[:, 2:3] - wanted).abs().max()) > 0.5, "not near by"
    assert torch.equal(full[:, :1], mask)


def test_mean_gray_values_of_object_and_surroundings() -> None:
    there = 0.2 + 0.5 * disk(64, 64, (32, 32), 10)
    maps, _ = ReferenceMaps()(there, unit(1, 4, 8, 8), there, unit(1, 4, 8, 8), disk(64, 64, (32, 32), 10))
    assert float(maps[0, 2, 32, 32]) == pytest.approx(0, abs=1e-5)
    assert float(maps[0, 2, 2, 2]) == pytest.approx(-2, abs=1e-5)
    assert float(maps[0, 3, 2, 2]) == pytest.approx(-4 * 0.5 * 0.12, abs=0.25), "surroundings hold little object"
    assert not maps[0, 1].any(), "the same image"


def test_no_prompted_slice_gives_zeros_for_its_samples_only() -> None:
    image, embedding = torch.rand(2, 1, 64, 64), unit(2, 4, 8, 8)
    mask = disk(64, 64, (30, 30), 9).repeat(2, 1, 1, 1)
    mask[1] = 0
    both = ReferenceMaps()(image, embedding, image.flip(2), embedding.flip(2), mask)
    assert all(not part[1].any() and part[0].any() for part in both)


def test_a_corrector_begins_as_the_decoder_and_leaves_it_alone() -> None:
    network = TinyInteraction(**ENCODER).eval()  # blocks start as the identity, so none is missed
    nn.init.normal_(network.decoder.head.weight)  # type: ignore[union-attr, arg-type]
    larger = with_references(network).eval()
    assert larger.config == {**network.config, "references": True}
    image, other = torch.rand(2, 2, 1, 64, 64, generator=torch.Generator().manual_seed(0))
    prompts = torch.zeros(2, 4, 64, 64)
    prompts[:, 1] = disk(64, 64, (30, 30), 3)[0]
    masks = prompts[:, 1:2].clone()
    masks[1] = 0
    with torch.no_grad():
        wanted = network(image, prompts)["instances"]
        features, reference = larger.encode_image(image), (larger.encode_image(other), masks)
        assert torch.equal(larger(image, prompts)["instances"], wanted)
        torch.testing.assert_close(larger.decode(features, prompts, reference)["instances"], wanted)
        nn.init.normal_(larger.corrector.maps.weight)
        both = larger.decode(features, prompts, reference)["instances"]
        assert not torch.allclose(both[0], wanted[0]), "the corrector answers where there is a reference"
        torch.testing.assert_close(both[1], wanted[1])
        assert torch.equal(larger(image, prompts)["instances"], wanted)
        first, there = (tuple(part[:1] for part in parts) for parts in (features, reference[0]))
        alone = larger.decode(first, prompts[:1], (there, masks[:1]))
    torch.testing.assert_close(alone["instances"], both[:1])


def test_growing_a_network() -> None:
    larger = with_references(small_interaction())
    assert with_references(larger) is larger
    assert isinstance(with_references(small_interaction(decoder="light")).decoder, MapDecoder)
    with pytest.raises(InputError, match="Linear cannot look at prompted slices"):
        with_references(nn.Linear(1, 1))
