from __future__ import annotations

import numpy as np

from benchmarks.core.reference_clicker import next_click
from tests.helpers.golden import golden_arrays


def test_every_case_equals_the_reference() -> None:
    arrays, _ = golden_arrays("ritm_clicker")
    for index, name in enumerate(arrays["case_names"]):
        prefix = f"c{index:02d}"
        clicked = [(row, column) for row, column, _ in arrays[f"{prefix}_clicked"].tolist()]
        click = next_click(arrays[f"{prefix}_gt"], arrays[f"{prefix}_pred"], clicked)
        assert list(click) == arrays[f"{prefix}_next"].tolist(), name


def test_the_chain_of_clicks_equals_the_reference() -> None:
    arrays, _ = golden_arrays("ritm_clicker")
    chain = [(row, column, bool(positive)) for row, column, positive, _ in arrays["chain_clicks"].tolist()]
    assert len(chain) == 12
    for number, click in enumerate(chain):
        before = [(row, column) for row, column, _ in chain[:number]]
        assert next_click(arrays["chain_gt"], arrays["chain_pred"], before) == click


def test_first_click_is_the_centre_and_the_image_border_is_an_edge() -> None:
    truth = np.zeros((20, 30), int)
    truth[5:10, 7:12] = 1
    assert next_click(truth, np.zeros((20, 30))) == (7, 9, True)
    assert next_click(np.ones((5, 5)), np.zeros((5, 5))) == (2, 2, True)


def test_ties_are_negative_and_perfection_clicks_the_corner() -> None:
    truth, predicted = np.zeros((9, 20), int), np.zeros((9, 20), int)
    truth[3:6, 2:5] = 1
    predicted[3:6, 12:15] = 1
    assert next_click(truth, predicted) == (4, 13, False)
    assert next_click(truth, truth) == next_click(truth, truth, [(0, 0)]) == (0, 0, False)


def test_ignored_pixels_are_no_errors() -> None:
    truth = np.full((8, 8), -1)
    assert next_click(truth, np.ones((8, 8))) == (0, 0, False)
