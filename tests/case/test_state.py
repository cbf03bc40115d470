from __future__ import annotations

from dataclasses import replace

import pytest

from limnet.case.state import Book, ObjectState
from limnet.errors import HistoryError


def state(mark: int) -> ObjectState:
    return replace(ObjectState.empty(4), anchor=mark)


def book() -> Book:
    start = Book().with_object("a", state(0)).with_object("b", state(0))
    return start.push("a", state(1)).push("b", state(2)).push("a", state(3))


def marks(of: Book) -> tuple[int | None, int | None]:
    return of.histories["a"].current.anchor, of.histories["b"].current.anchor


def test_undo_and_redo_over_all_objects() -> None:
    now = book()
    seen = [marks(now)]
    for _ in range(3):
        now = now.undo()
        seen.append(marks(now))
    assert seen == [(3, 2), (1, 2), (1, 0), (0, 0)]
    with pytest.raises(HistoryError, match="nothing to undo"):
        now.undo()
    for expected in reversed(seen[:-1]):
        now = now.redo()
        assert marks(now) == expected
    with pytest.raises(HistoryError, match="nothing to redo"):
        now.redo()


def test_undo_of_one_object() -> None:
    now = book().undo("b")
    assert marks(now) == (3, 0)
    with pytest.raises(HistoryError, match="'b'"):
        now.undo("b")
    assert marks(now.redo("b")) == (3, 2)
    assert marks(now.undo().undo()) == (0, 0)


def test_new_step_drops_undone_steps_of_its_object_only() -> None:
    now = book().undo("a").undo("b").push("a", state(9))
    assert marks(now) == (9, 0)
    with pytest.raises(HistoryError):
        now.redo("a")
    assert marks(now.redo()) == (9, 2)


def test_states_are_shared_not_copied() -> None:
    now = book()
    first = now.histories["a"].states[1]
    assert now.undo("a").histories["a"].current is first
    assert now.undo("a").redo("a").histories["a"].current is now.histories["a"].current
