from __future__ import annotations

from limnet.case.reach import between, separated, supported


def test_supported() -> None:
    assert supported({3: True}, 8) == set(range(8))
    assert supported({3: True, 5: False}, 8) == {0, 1, 2, 3, 4, 5}
    assert supported({5: False}, 8) == {5}
    assert supported({1: False, 3: True, 5: False, 7: True}, 9) == {1, 2, 3, 4, 5, 6, 7, 8}
    assert supported({5: False}, 8, anchor=2) == {0, 1, 2, 3, 4, 5}
    assert supported({3: True}, 8, bounds=(2, 4)) == {2, 3, 4}
    assert supported({}, 3) == set()


def test_separated() -> None:
    assert separated({3: True, 5: False, 1: False}, 3, 8) == range(2, 5)
    assert separated({3: True, 5: True}, 3, 8) == range(8)


def test_between() -> None:
    assert between({3: True, 5: False}, 3, 8) == range(5)
    assert between({2: True, 5: False}, 5, 8) == range(3, 6)
    assert between({5: False}, 5, 8) == range(5, 6)
