"""Eight clients at once, some of them cut off in the middle; `python -m tests.server.soak` does it for minutes."""

from __future__ import annotations

from pathlib import Path

import pytest

from tests.helpers.view_server import SlowPropagator
from tests.server.serving import served
from tests.server.soak import soak

pytest.importorskip("nnInteractive.inference.remote", reason="needs nninteractive-client")


def test_eight_clients_at_once(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(SlowPropagator, "seconds", 0.002)  # rounds that last a while and leave the processor to others
    with served(tmp_path, networks=False) as (url, serve):
        tally = soak(url, 0, 8, least=3)
        assert tally.wrong == []
        assert tally.rounds >= 24
        assert not serve.nninteractive.clients
        assert not serve.workspace.cases
