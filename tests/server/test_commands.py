"""`limnet view` as a program, killed without warning: nothing is lost. `limnet serve`: what it refuses, and its end."""

from __future__ import annotations

import json
import os
import re
import signal
import socket
import subprocess
import sys
from pathlib import Path

import httpx
import pytest
from typer.testing import CliRunner

import limnet
from limnet.cli import app
from limnet.commands.view import chosen
from limnet.errors import MissingFileError
from limnet.hub.model import list_zoo
from tests.helpers.browser import ViewerPage
from tests.helpers.small_segmenter import small_segmenter
from tests.helpers.view_server import BALL, write_phantom

PACKAGE = str(Path(limnet.__file__).parents[1])


def start(folder: Path, port: int) -> tuple[subprocess.Popen[str], str]:
    """The program on the phantom, and the address it prints."""
    command = [sys.executable, "-c", "from limnet.cli import main; main()", "view", "ct.nii.gz", "--no-browser"]
    command += ["--port", str(port), "--model", str(folder / "model")]
    environment = {
        **os.environ,
        "PYTHONPATH": PACKAGE,
        "LIMNET_SESSIONS": str(folder / "sessions"),
        "OMP_NUM_THREADS": "1",
    }
    process = subprocess.Popen(
        command, cwd=folder, env=environment, stdout=subprocess.PIPE, stderr=subprocess.DEVNULL, text=True
    )
    assert process.stdout is not None
    found = re.search(r"http://\S+", process.stdout.readline())
    assert found, process.poll()
    return process, found.group()


def test_a_killed_server_loses_nothing_and_the_open_page_goes_on(tmp_path, context):
    write_phantom(tmp_path / "ct.nii.gz")
    small_segmenter().save_pretrained(tmp_path / "model")
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        port = probe.getsockname()[1]
    process, address = start(tmp_path, port)
    try:
        page = ViewerPage(context, expected=["ERR_CONNECTION", "ERR_EMPTY", "WebSocket", "does not answer"])
        page.goto(address)
        page.wait_ready()
        page.look_at(BALL)
        page.click("axial", BALL)
        before, shown = page.settled(1), page.evaluate("limnet.shown()")
        page.wait("limnet.state().saved === 'All steps saved'")
        process.send_signal(signal.SIGKILL)
        process.wait(30)
        page.wait("!document.querySelector('#banner').hidden")
        assert "nothing is lost" in page.text("#banner")
        process, _ = start(tmp_path, port)
        page.wait("document.querySelector('#banner').hidden")
        after = page.settled(1)
        assert after["objects"] == before["objects"]
        assert page.evaluate("limnet.shown()") == shown
        page.press("Control+z")
        page.settled(0)
        assert page.label_at(BALL) == 0
        page.close()
        process.send_signal(signal.SIGINT)
        assert process.wait(30) in (0, 130)
    finally:
        process.kill()
        process.wait(30)


def test_what_the_argument_means(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    ct = write_phantom(tmp_path / "ct.nii.gz")
    assert chosen(None) == (tmp_path, None)
    assert chosen(Path("ct.nii.gz")) == (tmp_path, ct)
    assert chosen(tmp_path) == (tmp_path, None)
    (tmp_path / "results.json").write_text(json.dumps({"image": "ct.nii.gz"}))
    assert chosen(tmp_path) == (tmp_path, ct)
    (tmp_path / "results.json").write_text(json.dumps({"image": "/etc/passwd"}))
    assert chosen(tmp_path) == (tmp_path, None)
    with pytest.raises(MissingFileError):
        chosen(Path("nothing.nii.gz"))


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (["--host", "0.0.0.0"], "give a key"),
        (["--host", "0.0.0.0", "--allow-keyless"], "give a key"),
        (["--key", "short"], "at least 8"),
        (["--model", "no-such-model"], "no-such-model"),
        (["--datastore", "no-such-folder", "--port", "0"], "is no folder"),
    ],
)
def test_what_serve_refuses(arguments: list[str], message: str) -> None:
    done = CliRunner().invoke(app, ["serve", *arguments])
    assert done.exit_code == 2
    assert message in " ".join(done.output.split())


@pytest.mark.skipif("limnet-tiny" not in list_zoo(), reason="limnet-tiny is not in the zoo")
@pytest.mark.skipif(os.name == "nt", reason="signals of POSIX")
def test_a_server_answers_and_ends(tmp_path: Path) -> None:
    command = [sys.executable, "-c", "from limnet.cli import main; main()", "serve", "--port", "0"]
    environment = {**os.environ, "PYTHONPATH": PACKAGE, "LIMNET_SESSIONS": str(tmp_path)}
    with subprocess.Popen(command, stdout=subprocess.PIPE, text=True, env=environment) as process:
        assert process.stdout is not None
        try:
            first = process.stdout.readline()
            found = re.search(r"http://127\.0\.0\.1:\d+", first)
            assert found, first
            assert httpx.get(f"{found[0]}/healthz", timeout=30).json() == {"ok": True}
            assert "limnet-tiny" in httpx.get(f"{found[0]}/capabilities").json()["license"]
        finally:
            process.send_signal(signal.SIGINT)
            process.wait(30)
