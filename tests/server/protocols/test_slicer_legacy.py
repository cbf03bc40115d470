"""The protocol of old Slicer extensions, by a client written from its description."""

from __future__ import annotations

import gzip
import io
from collections.abc import Iterator
from pathlib import Path

import httpx
import numpy as np
import pytest

from tests.helpers.small_segmenter import small_segmenter
from tests.server.serving import CENTRE, SHAPE, image, served


class Client:
    """What the extension does: raw npy up, packed bits back."""

    def __init__(self, url: str) -> None:
        self.url = url
        self.shape = SHAPE

    def upload(self, array: np.ndarray) -> httpx.Response:
        self.shape = array.shape
        # the extension says gzip of bodies that are not
        return httpx.post(
            f"{self.url}/upload_image",
            files={"file": ("volume.npy", npy(array), "application/octet-stream")},
            headers={"Content-Encoding": "gzip"},
        )

    def segment(self, mask: np.ndarray) -> httpx.Response:
        return httpx.post(f"{self.url}/upload_segment", files={"file": ("volume.npy.gz", gzip.compress(npy(mask)))})

    def point(self, at: tuple[int, ...], positive: bool = True) -> np.ndarray:
        body = {"voxel_coord": list(at), "positive_click": positive}
        return self.mask(httpx.post(f"{self.url}/add_point_interaction", json=body))

    def box(self, one: list[int], two: list[int]) -> np.ndarray:
        body = {"outer_point_one": one, "outer_point_two": two, "positive_click": True}
        return self.mask(httpx.post(f"{self.url}/add_bbox_interaction", json=body))

    def drawn(self, kind: str, mask: np.ndarray, positive: bool = True) -> np.ndarray:
        files = {"file": ("volume.npy.gz", gzip.compress(npy(mask)))}
        data = {"positive_click": str(positive)}
        return self.mask(httpx.post(f"{self.url}/add_{kind}_interaction", files=files, data=data))

    def mask(self, answer: httpx.Response) -> np.ndarray:
        assert answer.headers["content-encoding"] == "gzip"
        bits = np.unpackbits(np.frombuffer(answer.content, np.uint8))
        return bits[: int(np.prod(self.shape))].reshape(self.shape).astype(bool)


def npy(array: np.ndarray) -> bytes:
    stream = io.BytesIO()
    np.save(stream, array)
    return stream.getvalue()


@pytest.fixture
def client(tmp_path: Path) -> Iterator[Client]:
    with served(tmp_path) as (url, _):
        yield Client(url)


def test_a_whole_session(client: Client) -> None:
    assert httpx.get(client.url).status_code == 200
    body = {"voxel_coord": list(CENTRE), "positive_click": True}
    missing = httpx.post(f"{client.url}/add_point_interaction", json=body)
    assert (missing.status_code, missing.json()) == (200, {"status": "error", "message": "No image uploaded"})
    assert client.upload(image()).json() == {"status": "ok"}
    case = small_segmenter().open(image())
    assert np.array_equal(client.point(CENTRE), case.click(CENTRE))
    assert np.array_equal(client.box([9, 20, 30], [3, 10, 8]), case.box((3, 10, 8), (9, 20, 30)))
    stroke = np.zeros(SHAPE, np.uint8)
    stroke[4:10, 16, 20] = 1
    assert np.array_equal(client.drawn("scribble", stroke, False), case.scribble(stroke > 0, False))
    region = np.zeros(SHAPE, np.uint8)
    region[7, 4:20, 6:30] = 1
    mask = client.drawn("lasso", region)
    assert np.array_equal(mask, case.lasso([(7, 4, 6), (7, 4, 29), (7, 19, 29), (7, 19, 6)]))
    assert client.segment(np.zeros(SHAPE, np.uint8)).json() == {"status": "ok"}
    fresh = small_segmenter().open(image())
    assert np.array_equal(client.point(CENTRE), fresh.click(CENTRE)), "an empty segment starts again"
    start = (image() > 100).astype(np.uint8)
    assert client.segment(start).json() == {"status": "ok"}
    fresh = small_segmenter().open(image())
    fresh.set_mask(start > 0, frozen=False)
    assert np.array_equal(client.point(CENTRE), fresh.click(CENTRE))
    other = image()[:, :20]
    client.upload(other)
    assert client.point((7, 10, 20))[7, 10, 20]


def test_what_is_refused(client: Client) -> None:
    client.upload(image())
    post = httpx.post
    pickled = io.BytesIO()
    np.save(pickled, np.array([{}], dtype=object), allow_pickle=True)
    header = npy(np.zeros(3, np.uint8)).replace(b"(3,)", b"(99999999999999,)")[:-12]
    for path, data in (
        ("upload_image", b"nonsense"),
        ("upload_image", npy(np.zeros(5))),
        ("upload_image", pickled.getvalue()),
        ("upload_segment", npy(np.zeros(SHAPE, bool))),
        ("upload_segment", gzip.compress(npy(np.zeros((2, 2, 2), bool)))),
        ("add_scribble_interaction", gzip.compress(b"x")),
    ):
        assert post(f"{client.url}/{path}", files={"file": ("a", data)}).status_code == 400, (path, data[:20])
    assert post(f"{client.url}/upload_image", files={"file": ("a", header)}).status_code in (400, 413)
    assert post(f"{client.url}/upload_image", json={}).status_code == 400
    for body in ({}, {"voxel_coord": [1, 2, 99], "positive_click": True}, {"voxel_coord": [1, 2, 3]}):
        assert post(f"{client.url}/add_point_interaction", json=body).status_code == 400
    assert client.point(CENTRE)[CENTRE]


def test_off_where_a_key_is_set(tmp_path: Path) -> None:
    with served(tmp_path, key="right-key", keyless=False) as (url, _):
        for path in ("upload_image", "upload_segment", "status", "v2/models", "info/"):
            assert httpx.post(f"{url}/{path}").status_code in (404, 405)
            assert httpx.get(f"{url}/{path}").status_code in (404, 405)
        assert httpx.post(f"{url}/add_point_interaction", json={}).status_code == 401
    with served(tmp_path, key="right-key", keyless=True) as (url, _):
        assert Client(url).upload(image()).status_code == 200
        assert httpx.post(f"{url}/claim").status_code == 401
