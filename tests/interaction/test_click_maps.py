from __future__ import annotations

import pytest
import torch

from limnet.errors import InputError
from limnet.interaction.click_maps import add_disks, draw_disks, pack_points
from tests.helpers.golden import golden_arrays


@pytest.mark.parametrize("stem", ["ritm_hrnet18s_ocr", "ritm_hrnet32_ocr"])
@pytest.mark.parametrize("case", ["a", "b"])
def test_disks_equal_the_reference(stem: str, case: str) -> None:
    arrays, _ = golden_arrays(stem)
    expected = arrays[f"{case}_disks"]
    disks = draw_disks(torch.from_numpy(arrays[f"{case}_points"]), expected.shape[2:], 5.0)
    assert disks.dtype == torch.float32
    assert (disks.numpy() == expected).all()


def test_an_integer_click_covers_81_pixels() -> None:
    disks = draw_disks(torch.tensor([[[20, 30, 0], [-1, -1, -1]]]), (64, 64), 5.0)
    assert disks[0, 0].sum() == 81
    assert disks[0, 0, 15, 30] == 1
    assert disks[0, 0, 14, 30] == 0
    assert disks[0, 1].sum() == 0


def test_fraction_counts_and_one_negative_coordinate_still_draws() -> None:
    points = torch.tensor([[[20.5, 30.5, 0.0], [-2.0, 17.5, 0.0]]])
    disks = draw_disks(points, (64, 64), 5.0)
    assert disks[0, 0].sum() == 80  # centred between four pixels
    assert disks[0, 1, 0, 17] == 1
    dropped = draw_disks(torch.tensor([[[-2.0, -0.5, 0.0], [-1.0, 0.0, 0.0]]]), (8, 8), 5.0)
    assert dropped[0, 0].sum() == 0  # both coordinates negative: unused
    assert dropped[0, 1].sum() > 0


def test_union_of_clicks_is_binary() -> None:
    points = torch.tensor([[[10.0, 10.0, 0.0], [12.0, 10.0, 1.0], [-1.0, -1.0, -1.0], [-1.0, -1.0, -1.0]]])
    disks = draw_disks(points, (32, 32), 5.0)
    assert set(disks.unique().tolist()) == {0.0, 1.0}
    assert 81 < disks[0, 0].sum() < 162


def test_packing_fills_both_halves() -> None:
    unused = (-1.0, -1.0, -1.0)
    assert pack_points([], []) == [unused, unused]
    assert pack_points([(1, 2, 0), (3, 4, 2)], [(5, 6, 1)]) == [(1, 2, 0), (3, 4, 2), (5, 6, 1), unused]


@pytest.mark.parametrize("shape", [(4, 3), (1, 3, 3), (1, 4, 1)])
def test_wrong_shape_is_refused(shape: tuple[int, ...]) -> None:
    with pytest.raises(InputError, match="expected"):
        draw_disks(torch.zeros(shape), (32, 32), 5.0)


def test_disks_added_to_maps() -> None:
    positive, negative = torch.zeros(3, 1, 20, 20), torch.zeros(3, 1, 20, 20)
    add_disks(positive, negative, torch.tensor([[5, 6], [0, 19], [10, 10]]), torch.tensor([1, 0, -1]), 2.0)
    assert [float(p.sum()) for p in positive] == [13, 0, 0]
    assert [float(n.sum()) for n in negative] == [0, 6, 0]
    assert bool(positive[0, 0, 7, 6])
    assert not bool(positive[0, 0, 7, 7])
    add_disks(positive, negative, torch.tensor([[5, 7]] * 3), torch.tensor([1, 1, 1]), 2.0)
    assert float(positive[0].sum()) == 18  # earlier clicks stay
