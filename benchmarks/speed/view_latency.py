"""From a click in the viewer to its pixels: milliseconds, frames while a round runs, memory of server and browser.

A real Chromium (the system's, headless, without a graphics card) on `limnet view` with a real model, on made-up CTs
with ten balls. Times are the page's own: from the click to the first new mask of the clicked slice drawn, a pixel read
back. `computing_ms` is the processor time of that slice alone, on one core: it does not depend on what else runs.

    limnet bench view-latency --clicks 12 --out benchmarks/results
"""

from __future__ import annotations

import argparse
import contextlib
import os
import re
import shutil
import statistics
import subprocess
import sys
import tempfile
import time
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
import torch

from benchmarks.core.record import Record, Row
from benchmarks.core.report import markdown
from limnet.environment import command_line
from limnet.errors import Cancelled, InputError, LimnetError
from limnet.segmenter import InteractiveSegmenter

SIZES = {"128x128x128": (128, 128, 128), "512x512x100": (100, 512, 512), "512x512x500": (500, 512, 512)}
SPACING = {"128x128x128": (2.0, 2.0, 2.0), "512x512x100": (5.0, 0.8, 0.8), "512x512x500": (1.0, 0.8, 0.8)}


def volume(shape: tuple[int, int, int]) -> tuple[np.ndarray, np.ndarray]:
    """Int16 CT-like values with tubes and balls, and the centres of the balls (n, 3)."""
    rng = np.random.default_rng(0)
    array = rng.normal(40, 25, shape).astype(np.int16)
    z, y, x = (np.arange(n, dtype=np.float32) / n - 0.5 for n in shape)
    body = (y[:, None] / 0.42) ** 2 + (x[None] / 0.46) ** 2 > 1
    array[:, body] = -1000
    centres = []
    for i in range(10):
        angle, height = 0.63 * i * 2, -0.38 + 0.085 * i
        cy, cx, radius = 0.22 * np.sin(angle), 0.26 * np.cos(angle), 0.07 + 0.006 * i
        for k in np.flatnonzero(np.abs(z - height) < radius):
            flat = radius**2 - (z[k] - height) ** 2
            array[k][(y[:, None] - cy) ** 2 + (x[None] - cx) ** 2 < flat] += 110
        centres.append([int((c + 0.5) * n) for c, n in zip((height, cy, cx), shape, strict=True)])
    return array, np.array(centres)


def memory(process: int, children: bool = True) -> float:
    """Resident megabytes of a process and its children, shared pages counted once (proportional set size)."""
    total, queue = 0.0, [process]
    while queue:
        pid = queue.pop()
        tasks = Path(f"/proc/{pid}/task").glob("*/children") if children else ()
        queue += [int(child) for task in tasks for child in task.read_text().split()]
        for line in Path(f"/proc/{pid}/smaps_rollup").read_text().splitlines():
            if line.startswith("Pss:"):
                total += float(line.split()[1]) / 1024
    return total


def measure(name: str, clicks: int, model: str, browser_path: str) -> Row:
    """One size: open, click, scroll while it runs, weigh."""
    from playwright.sync_api import sync_playwright

    array, centres = volume(SIZES[name])
    with tempfile.TemporaryDirectory() as folder:
        file = Path(folder) / "volume.npz"
        np.savez(file, image=array, spacing=np.array(SPACING[name]))
        command = [sys.executable, "-c", "from limnet.cli import main; main()", "view", str(file), "--no-browser"]
        environment = {**os.environ, "LIMNET_SESSIONS": str(Path(folder) / "sessions")}
        server = subprocess.Popen(
            [*command, "--port", "0", "--model", model], stdout=subprocess.PIPE, text=True, env=environment
        )
        try:
            assert server.stdout is not None
            found = re.search(r"http://\S+", server.stdout.readline())
            assert found, "the server did not start"
            with sync_playwright() as playwright:
                arguments = ["--no-sandbox", "--disable-dev-shm-usage", "--enable-unsafe-swiftshader"]
                browser = playwright.chromium.launch(executable_path=browser_path, args=arguments)
                page = browser.new_page(viewport={"width": 1280, "height": 800})
                start = time.perf_counter()
                page.goto(found.group())
                wait(page, "Boolean(window.limnet && limnet.ready)")
                opened = time.perf_counter() - start
                page.evaluate("limnet.measure()")
                rounds, frames = [], []
                for i in range(clicks):
                    point = [int(v) for v in centres[i % len(centres)]]
                    point[0] = min(point[0] + i // len(centres), SIZES[name][0] - 1)
                    if i:
                        page.keyboard.press("e")  # every click is the first one of an object
                    page.evaluate("(p) => limnet.go(p)", point)
                    page.wait_for_timeout(100)
                    x, y = page.evaluate("(p) => limnet.toPixel('axial', p)", point)
                    start = time.perf_counter()
                    page.mouse.click(x, y)
                    wait(page, f"limnet.state().times.length > {i} || limnet.state().rounds > {i}")
                    frames.append(scrolling(page, i))
                    wait(page, f"limnet.state().rounds > {i} && !limnet.state().busy")
                    rounds.append(time.perf_counter() - start)
                times = page.evaluate("limnet.state().times")
                page.wait_for_timeout(1500)
                load = os.getloadavg()[0]
                cpu = computing(file, [[int(v) for v in c] for c in centres[:6]], model)
                result = {
                    "size": name,
                    "clicks": clicks,
                    "load": round(load, 1),
                    "computing_ms": round(statistics.median(cpu)),
                    "opened_s": round(opened, 1),
                    "first_ms": round(times[0]),
                    "p50_ms": round(statistics.median(times[1:])),
                    "p95_ms": round(float(np.percentile(times[1:], 95))),
                    "round_p50_s": round(statistics.median(rounds), 1),
                    "frames_per_s": round(statistics.median([f for f in frames if f]) if any(frames) else 0, 1),
                    "server_mb": round(memory(server.pid)),
                    "page_mb": round(memory(os.getpid()) - memory(server.pid) - memory(os.getpid(), children=False)),
                }
                browser.close()
                return result
        finally:
            server.terminate()
            server.wait(30)


def computing(file: Path, points: list[list[int]], model: str) -> list[float]:
    """Milliseconds of processor time from a first click to the mask of its slice, one per point."""
    torch.set_num_threads(1)
    case = InteractiveSegmenter.from_pretrained(model).open(file)
    taken = []
    for i, point in enumerate(points):
        start = time.thread_time()

        def on_update(*_: object, start: float = start) -> bool:
            taken.append(1000 * (time.thread_time() - start))
            return False

        with contextlib.suppress(Cancelled):
            case.object(str(i)).click(point, on_update=on_update)
    return taken


def scrolling(page: Any, i: int) -> float | None:
    """Frames a second drawn while slices are scrolled for half a second of a running round; None if it was over."""
    if page.evaluate("!limnet.state().busy"):
        return None
    before, start = page.evaluate("limnet.state().frames"), time.perf_counter()
    x, y = page.evaluate("limnet.toPixel('axial', limnet.state().cross)")
    page.mouse.move(x, y)
    step = 0
    while time.perf_counter() - start < 0.6:
        page.mouse.wheel(0, 100 if (step // 6) % 2 else -100)
        step += 1
    seconds = time.perf_counter() - start
    return (page.evaluate("limnet.state().frames") - before) / seconds


def wait(page: Any, expression: str, seconds: float = 300) -> None:
    """Until it holds."""
    end = time.monotonic() + seconds
    while not page.evaluate(expression):
        if time.monotonic() > end:
            raise LimnetError(f"waited in vain for {expression}")
        page.wait_for_timeout(5)


def main(argv: Sequence[str] | None = None) -> None:
    """Measure and write view_latency.json and a table."""
    parser = argparse.ArgumentParser(
        "limnet bench view-latency", description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--clicks", type=int, default=12)
    parser.add_argument("--size", action="append", choices=list(SIZES), help="only these sizes")
    parser.add_argument("--model", default="limnet-tiny")
    parser.add_argument("--out", type=Path, default=Path("results"))
    args = parser.parse_args(argv)
    browser = shutil.which("chromium") or shutil.which("google-chrome")
    if browser is None:
        raise InputError("no Chromium on this machine: install the package chromium")
    fixed = {"model": args.model, "clicks": args.clicks}
    record = Record(args.out / "view_latency.json", fixed, {"analysis": "view-latency"}, command_line())
    record.resume()
    with record.open():
        for name in args.size or SIZES:
            found = measure(name, args.clicks, args.model, browser)
            print(record.replace({"variant": args.model, "case": name, "object": "", **found}), flush=True)
    print(record.finish({}, table(record.rows)))


def table(rows: Sequence[Row]) -> str:
    """Markdown of the rows of a record."""
    head = [name for name in rows[0] if name.endswith(("_ms", "_s", "_mb")) or name in ("size", "clicks", "load")]
    return f"""## Click to pixels

{markdown(head, [[str(row[name]) for name in head] for row in rows])}
`load` is the system's load average meanwhile: where it is above the number of cores, other programs took
their share of all times but `computing_ms`, the processor time of the clicked slice on one core. `first_ms`
is the first click after opening, `p50_ms` and `p95_ms` are those after it, each the first of a new object;
`page_mb` are all processes of the browser.
"""
