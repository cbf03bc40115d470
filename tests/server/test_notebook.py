"""`limnet.view(case)`: the page in a frame of a notebook, on the notebook's own case."""

from __future__ import annotations

import re
import threading
from http.server import BaseHTTPRequestHandler, HTTPServer

import pytest

import limnet
from limnet.errors import InputTypeError
from limnet.server import notebook
from tests.helpers.browser import ViewerPage
from tests.helpers.fake_engine import fake_case, phantom

MIDDLE = (6, 20, 24)


@pytest.fixture
def case(monkeypatch, tmp_path):
    monkeypatch.setenv("LIMNET_SESSIONS", str(tmp_path))
    monkeypatch.setattr(notebook, "_running", None)
    made = fake_case()
    yield made
    if notebook._running is not None:
        notebook._end(notebook._running[0].workspace, notebook._running[1])


def test_the_frame_follows_the_case_both_ways(case, context):
    shown = limnet.view(case, height=700)
    assert limnet.view(case).address == shown.address  # one server, one page for a case
    html = f"<!doctype html><title>notebook</title>{shown._repr_html_()}"

    class Notebook(BaseHTTPRequestHandler):
        def do_GET(self) -> None:
            self.send_response(200)
            self.send_header("Content-Type", "text/html")
            self.end_headers()
            self.wfile.write(html.encode())

        def log_message(self, *_: object) -> None:
            pass

    with HTTPServer(("127.0.0.1", 0), Notebook) as server:
        threading.Thread(target=server.serve_forever, daemon=True).start()
        # a page on another site than the frame: browsers send no strict cookie from it
        outer = ViewerPage(context, expected=["401", "favicon", "404"])
        outer.goto(f"http://localhost:{server.server_port}/")
        frame = next(f for f in outer.page.frames if f.parent_frame)
        inner = ViewerPage.__new__(ViewerPage)
        inner.page = frame  # type: ignore[assignment]
        inner.wait_ready()
        case.click(MIDDLE)  # the notebook's own round
        inner.wait(f"limnet.labelAt({list(MIDDLE)}) === 1")
        assert inner.evaluate("limnet.shown()") == [case.mask.sum()]
        box = frame.frame_element().bounding_box()
        x, y = inner.at("axial", MIDDLE)
        inner.look_at(MIDDLE)
        outer.page.mouse.click(box["x"] + x, box["y"] + y, button="right")  # the page's round
        inner.wait("limnet.state().done === 2 && !limnet.state().busy")
        assert len(case.rounds) == 2
        assert not case.mask[MIDDLE]
        outer.close()
        server.shutdown()


def test_what_is_no_case_is_refused(case):
    with pytest.raises(InputTypeError, match="a case is shown"):
        limnet.view(phantom())  # type: ignore[arg-type]
    assert re.fullmatch(r"<limnet view of .*http://127\.0\.0\.1:\d+/#t=\S+&case=\S+>", repr(limnet.view(case)))
