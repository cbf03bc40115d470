"""One Chromium for all tests of the page that a process runs."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import pytest

from tests.helpers.browser import launched


@pytest.fixture(scope="session")
def browser() -> Iterator[Any]:
    with launched() as running:
        yield running


@pytest.fixture
def context(browser: Any) -> Iterator[Any]:
    """A browser without cookies, whose window is 1280 x 800."""
    made = browser.new_context(viewport={"width": 1280, "height": 800})
    yield made
    made.close()
