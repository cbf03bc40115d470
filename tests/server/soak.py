"""Many clients of `limnet serve` at once, some of which are killed in the middle: `python -m tests.server.soak -h`."""

from __future__ import annotations

import argparse
import random
import socket
import sys
import tempfile
import threading
import time
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import httpx
import numpy as np

from tests.server.serving import SHAPE, image, served


@dataclass
class Tally:
    """What happened: rounds that were right, clients killed in the middle, and whatever went wrong."""

    rounds: int = 0
    killed: int = 0
    wrong: list[str] = field(default_factory=list)
    slowest: float = 0.0
    lock: Any = field(default_factory=threading.Lock)


def client(url: str, until: float, least: int, seed: int, tally: Tally) -> None:
    """One client after another until the time is over: an image, prompts, undo; now and then one is cut off."""
    from nnInteractive.inference.remote import nnInteractiveRemoteInferenceSession as Session

    rng = random.Random(seed)
    rounds = 0
    while time.monotonic() < until or rounds < least:
        try:
            with Session(url) as session:
                session.set_image(image()[None], {"spacing": [3.0, 1.0, 1.0]})
                buffer = np.zeros(SHAPE, np.uint8)
                session.set_target_buffer(buffer)
                for _ in range(3):
                    at = [rng.randrange(n) for n in SHAPE]
                    positive = rng.random() < 0.7
                    start = time.monotonic()
                    session.add_point_interaction(at, positive)
                    spent = time.monotonic() - start
                    with tally.lock:
                        tally.rounds += 1
                        tally.slowest = max(tally.slowest, spent)
                        if buffer[tuple(at)] != positive:
                            tally.wrong.append(f"the click at {at} does not hold")
                    rounds += 1
                before = buffer.copy()
                session.add_point_interaction([rng.randrange(n) for n in SHAPE], True)
                session.undo()
                if not np.array_equal(buffer, before):
                    with tally.lock:
                        tally.wrong.append("undo gave another mask")
                if rng.random() < 0.3:
                    hang_up(url, session._lease_token, rng.random() < 0.5)
                    with tally.lock:
                        tally.killed += 1
        except Exception as error:
            with tally.lock:
                tally.wrong.append(f"{type(error).__name__}: {error}")
            rounds += 1


def hang_up(url: str, lease: str, upload: bool) -> None:
    """Begin an upload or a round and hang up in the middle of it."""
    host, port = url.removeprefix("http://").split(":")
    body = b'{"coordinates":[3,16,20],"include_interaction":true}'
    head = (
        f"POST /set_image HTTP/1.1\r\nHost: {host}\r\nX-Lease-Token: {lease}\r\nX-Meta: {{}}\r\n"
        "Content-Length: 99999\r\n"
        if upload
        else f"POST /add_point_interaction HTTP/1.1\r\nHost: {host}\r\nX-Lease-Token: {lease}\r\n"
        f"Content-Length: {len(body)}\r\n"
    )
    with socket.create_connection((host, int(port))) as raw:
        raw.sendall(head.encode() + b"\r\n" + (b"NNIA" if upload else body))


def soak(url: str, seconds: float, clients: int, least: int = 0) -> Tally:
    """Let clients work for so many seconds, and until each has made `least` rounds."""
    tally, until = Tally(), time.monotonic() + seconds
    threads = [threading.Thread(target=client, args=(url, until, least, seed, tally)) for seed in range(clients)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert httpx.get(f"{url}/healthz").status_code == 200
    return tally


def main() -> int:
    parser = argparse.ArgumentParser(description="Clients of limnet serve at once, with very small networks.")
    parser.add_argument("--minutes", type=float, default=5.0)
    parser.add_argument("--clients", type=int, default=8)
    options = parser.parse_args()
    wrong: list[str] = []
    with tempfile.TemporaryDirectory() as folder, served(Path(folder)) as (url, serve):
        soak(url, 5, options.clients)
        start, end = _memory(), time.monotonic() + 60 * options.minutes
        while (left := end - time.monotonic()) > 0:
            tally = soak(url, min(60, left), options.clients)
            wrong += tally.wrong
            sys.stdout.write(
                f"{tally.rounds} rounds, slowest {tally.slowest:.2f} s, {tally.killed} clients cut off, "
                f"memory {start / 2**20:.0f} -> {_memory() / 2**20:.0f} MiB, {len(serve.workspace.cases)} images left, "
                f"{len(tally.wrong)} wrong: {tally.wrong[:3]}\n"
            )
            sys.stdout.flush()
    return bool(wrong)


def _memory() -> int:
    return int(Path("/proc/self/statm").read_text().split()[1]) * 4096


if __name__ == "__main__":
    sys.exit(main())
