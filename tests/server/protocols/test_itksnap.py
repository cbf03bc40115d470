"""The protocol of ITK-SNAP, by a client written from its description."""

from __future__ import annotations

import base64
import gzip
import json
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import httpx
import numpy as np
import pytest

from tests.helpers.small_segmenter import small_segmenter
from tests.server.serving import CENTRE, SHAPE, image, served

POINT = "&".join(f"point={v}" for v in reversed(CENTRE))


class Client:
    """What ITK-SNAP does: gzipped float32 up, base64 of gzipped bytes back, x fastest."""

    def __init__(self, url: str) -> None:
        self.url = url
        self.session = httpx.get(f"{url}/v2/start_session/limnet").json()["session_id"]

    def send(self, path: str, array: np.ndarray, **more: Any) -> httpx.Response:
        about = {
            "dimensions": list(array.shape[::-1]),
            "spacing": [1.0, 1.0, 3.0],
            "origin": [0.0, 0.0, 0.0],
            "direction": [1.0, 0, 0, 0, 1.0, 0, 0, 0, 1.0],
            "components_per_pixel": 1,
            "component_type": "float",
            **more,
        }
        files = {"file": ("image.gz", gzip.compress(array.astype("<f4").tobytes()), "application/gzip")}
        return httpx.post(f"{self.url}/{path}", files=files, data={"metadata": json.dumps(about)})

    def upload(self, array: np.ndarray, **more: Any) -> httpx.Response:
        return self.send(f"upload_raw/{self.session}?filename=upload.nii.gz", array, **more)

    def mask(self, answer: httpx.Response) -> np.ndarray:
        data = gzip.decompress(base64.b64decode(answer.json()["result"]))
        assert len(data) == np.prod(SHAPE), "ITK-SNAP reads beyond the end of anything shorter"
        return np.frombuffer(data, np.uint8).reshape(SHAPE) > 0

    def point(self, query: str = POINT, foreground: str = "true") -> httpx.Response:
        return httpx.get(f"{self.url}/v2/process_point_interaction/{self.session}?{query}&foreground={foreground}")


@pytest.fixture(scope="module")
def url(tmp_path_factory: pytest.TempPathFactory) -> Iterator[str]:
    with served(tmp_path_factory.mktemp("served")) as (address, _):
        yield address


def test_a_whole_session(url: str) -> None:
    status = httpx.get(f"{url}/status").json()
    assert status["status"] == "ok"
    assert tuple(int(n) for n in status["version"].split(".")) >= (0, 1, 2)
    [model] = httpx.get(f"{url}/v2/models").json()["models"]
    assert (model["id"], model["dimensions"]) == ("limnet", 3)
    client = Client(url)
    assert client.point().status_code == 400, "no image yet"
    assert client.upload(image()).json()["status"] == "success"
    case = small_segmenter().open(image().astype(np.float32), spacing=(3.0, 1.0, 1.0))
    assert np.array_equal(client.mask(client.point()), case.click(CENTRE))
    stroke = np.zeros(SHAPE, np.float32)
    stroke[4, 10, 8:20] = 1
    answer = client.send(f"process_scribble_interaction/{client.session}?foreground=false", stroke)
    assert np.array_equal(client.mask(answer), case.scribble(stroke > 0, False))
    region = np.zeros(SHAPE, np.float32)
    region[3:9, 5:20, 22] = 1
    answer = client.send(f"process_lasso_interaction/{client.session}?foreground=true", region)
    outline = [(3, 5, 22), (3, 19, 22), (8, 19, 22), (8, 5, 22)]
    assert np.array_equal(client.mask(answer), case.lasso(outline))
    assert httpx.get(f"{url}/reset_interactions/{client.session}").json()["status"] == "success"
    fresh = small_segmenter().open(image().astype(np.float32), spacing=(3.0, 1.0, 1.0))
    assert np.array_equal(client.mask(client.point(foreground="1")), fresh.click(CENTRE))
    httpx.get(f"{url}/end_session/{client.session}")
    assert client.point().json() == {"error": "Invalid session"}


def test_what_is_refused(url: str) -> None:
    client = Client(url)
    assert httpx.get(f"{url}/v2/start_session/other").status_code == 404
    assert client.upload(image(), dimensions=[1, 2, 3]).status_code == 413, "more bytes than it said"
    assert client.upload(image(), dimensions=[99999, 99999, 99999]).status_code == 413
    for more in (
        {"dimensions": [40, 32]},
        {"dimensions": [40, 32, 15]},
        {"components_per_pixel": 3},
        {"spacing": [0, 1, 1]},
        {"spacing": "x"},
    ):
        assert client.upload(image(), **more).status_code == 400, more
    client.upload(image())
    for query in (
        "point=1&point=2",
        "point=1&point=2&point=99",
        "point=a&point=1&point=2",
        "point=nan&point=1&point=1",
    ):
        assert client.point(query).status_code == 400, query
    assert client.point(foreground="maybe").status_code == 400
    assert client.send(f"process_lasso_interaction/{client.session}", image()[:3]).status_code == 400
    assert client.mask(client.point("x=20&y=16&z=7"))[CENTRE]


def test_room(tmp_path: Path) -> None:
    from limnet.server.protocols.requests import Limits

    with served(tmp_path, limits=Limits(cases=1)) as (url, serve):
        client = Client(url)
        client.upload(image())
        assert httpx.get(f"{url}/start_session").status_code == 503
        serve.itksnap.clients[client.session].acted -= 3601
        Client(url)
        assert not serve.workspace.cases
