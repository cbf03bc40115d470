"""A small XMem in the table of networks."""

from __future__ import annotations

import pytest

from limnet.hub.folder import TABLE
from tests.helpers.small_xmem import PLACE


@pytest.fixture(autouse=True)
def small_xmem(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(TABLE["propagation"], "SmallXMem", PLACE)
