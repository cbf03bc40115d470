"""`limnet serve` as a command: what it refuses, and a real process that answers and ends."""

from __future__ import annotations

import os
import re
import signal
import subprocess
import sys
from pathlib import Path

import httpx
import pytest
from typer.testing import CliRunner

from limnet.cli import app
from limnet.hub.model import list_zoo

ROOT = Path(__file__).resolve().parents[2]


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
def test_what_is_refused(arguments: list[str], message: str) -> None:
    done = CliRunner().invoke(app, ["serve", *arguments])
    assert done.exit_code == 2
    assert message in " ".join(done.output.split())


@pytest.mark.skipif("limnet-tiny" not in list_zoo(), reason="limnet-tiny is not in the zoo")
@pytest.mark.skipif(os.name == "nt", reason="signals of POSIX")
def test_a_server_answers_and_ends(tmp_path: Path) -> None:
    command = [sys.executable, "-c", "from limnet.cli import main; main()", "serve", "--port", "0"]
    environment = {**os.environ, "PYTHONPATH": str(ROOT / "src"), "LIMNET_SESSIONS": str(tmp_path)}
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
