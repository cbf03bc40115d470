"""A real Chromium for tests of the page, driven by Playwright; the system's own, none is ever downloaded."""

from __future__ import annotations

import os
import shutil
import time
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from typing import Any

import pytest

NAMES = ("chromium", "chromium-browser", "google-chrome", "chrome")
ARGUMENTS = [
    "--no-sandbox",  # containers run as root
    "--disable-dev-shm-usage",
    "--use-angle=swiftshader",  # WebGL without a graphics card
    "--enable-unsafe-swiftshader",
    "--ignore-gpu-blocklist",
    # nothing but this machine can be reached
    "--host-resolver-rules=MAP * ~NOTFOUND , EXCLUDE 127.0.0.1 , EXCLUDE localhost",
]
PATIENCE = 60.0  # seconds; on a quiet machine everything takes less than one


def find_chromium() -> str:
    """Path of a browser; skips the calling test with a reason where there is none."""
    pytest.importorskip("playwright", reason="playwright is not installed")
    found = os.environ.get("LIMNET_CHROMIUM") or next((p for name in NAMES if (p := shutil.which(name))), None)
    if found is None:
        pytest.skip("no Chromium on this machine: install the package chromium, or set LIMNET_CHROMIUM to its path")
    return found


@contextmanager
def launched() -> Iterator[Any]:
    """A running browser."""
    path = find_chromium()
    from playwright.sync_api import sync_playwright

    with sync_playwright() as playwright:
        browser = playwright.chromium.launch(executable_path=path, headless=True, args=ARGUMENTS)
        try:
            yield browser
        finally:
            browser.close()


class ViewerPage:
    """The page of `limnet view` in a browser tab, as a person uses it."""

    def __init__(self, context: Any, expected: Sequence[str] = ()) -> None:
        self.problems: list[str] = []
        self.requests: list[str] = []
        self.expected = ["willReadFrequently", *expected]  # the tests look at pixels, the page does not
        self.page = context.new_page()
        self.page.on("request", lambda r: self.requests.append(r.url))
        self.page.on("pageerror", lambda e: self.problems.append(f"error: {e}"))
        self.page.on("requestfailed", self._failed)
        self.page.on("console", lambda m: self.problems.append(m.text) if m.type in ("error", "warning") else None)

    def _failed(self, request: Any) -> None:
        if "ERR_ABORTED" not in str(
            request.failure
        ):  # the page itself gave it up: reloaded, closed, or no longer needed
            self.problems.append(f"failed: {request.url} {request.failure}")

    def goto(self, url: str) -> None:
        self.page.goto(url)

    def evaluate(self, expression: str, argument: Any = None) -> Any:
        return self.page.evaluate(expression, argument)

    def wait(self, expression: str) -> None:
        """Until an expression holds. Playwright's own wait evaluates text in the page, which our policy forbids."""
        end = time.monotonic() + PATIENCE
        while not self.page.evaluate(expression):
            assert time.monotonic() < end, f"waited in vain for {expression}; the page says {self.text('#toasts')!r}"
            self.page.wait_for_timeout(10)

    def wait_ready(self) -> None:
        self.wait("Boolean(window.limnet && limnet.ready)")

    @property
    def state(self) -> dict[str, Any]:
        return self.page.evaluate("limnet.state()")

    def text(self, selector: str) -> str:
        return self.page.inner_text(selector)

    def settled(self, steps: int) -> dict[str, Any]:
        """The state once that many steps are done and nothing runs."""
        self.wait(f"limnet.state().done === {steps} && !limnet.state().busy")
        return self.state

    def at(self, plane: str, point: Sequence[int]) -> tuple[float, float]:
        """Page coordinates of a voxel on a plane that shows it."""
        x, y = self.page.evaluate("([plane, point]) => limnet.toPixel(plane, point)", [plane, list(point)])
        return x, y

    def look_at(self, point: Sequence[int]) -> None:
        self.page.evaluate("(point) => limnet.go(point)", list(point))
        self.page.wait_for_timeout(30)

    def click(self, plane: str, point: Sequence[int], **options: Any) -> None:
        self.page.mouse.click(*self.at(plane, point), **options)

    def drag(self, plane: str, points: Sequence[Sequence[int]], button: str = "left") -> None:
        """Press at the first voxel, pass the others, release at the last."""
        self.page.mouse.move(*self.at(plane, points[0]))
        self.page.mouse.down(button=button)
        for point in points[1:]:
            self.page.mouse.move(*self.at(plane, point), steps=4)
        self.page.mouse.up(button=button)

    def press(self, key: str) -> None:
        self.page.keyboard.press(key)

    def label_at(self, point: Sequence[int]) -> int:
        return int(self.page.evaluate("(point) => limnet.labelAt(point)", list(point)))

    def color_at(self, plane: str, point: Sequence[int]) -> list[int]:
        return list(self.page.evaluate("([plane, point]) => limnet.colorAt(plane, point)", [plane, list(point)]))

    def close(self) -> None:
        """Close the tab; nothing may have gone wrong in it, and nothing may have left the machine."""
        self.page.close()
        unexpected = [p for p in self.problems if not any(e in p for e in self.expected)]
        assert not unexpected, unexpected
        elsewhere = [
            u for u in self.requests if not u.startswith(("http://127.0.0.1:", "http://localhost:", "data:", "blob:"))
        ]
        assert not elsewhere, elsewhere
