"""Baselines whose packages are not installed here: small fakes with the same calls take their place."""

from __future__ import annotations

import json
import sys
from pathlib import Path
from types import ModuleType, SimpleNamespace

import numpy as np
import pytest
import torch

from benchmarks.baselines import outside
from benchmarks.baselines.outside import NnInteractive, Sam2Video, SamPoints
from benchmarks.core.rounds import (
    Predictor,
    RobotRounds,
    SlicePointRounds,
    predictor_config,
)
from benchmarks.core.suite import build_baseline
from benchmarks.speed import methods
from benchmarks.suites.cvpr25 import ChallengeRounds
from limnet.errors import InputError
from tests.helpers.bench import Disc, ball, fake_suite, run_object
from tests.helpers.fake_volumes import build_btcv
from tests.helpers.recipes import limnet

ALL = [SamPoints, Sam2Video, NnInteractive]
SIDE = 80  # of the square that the fake of SAM 2 sees


@pytest.fixture(autouse=True)
def _fresh():
    caches = (outside.sam_model, outside.sam_kind, outside.sam2_model, outside.nninteractive_model)
    for cache in caches:
        cache.cache_clear()
    yield
    for cache in caches:
        cache.cache_clear()


@pytest.fixture
def weights(tmp_path: Path) -> str:
    (tmp_path / "model.safetensors").write_bytes(b"weights")
    return str(tmp_path)


def brightness(picture: np.ndarray) -> torch.Tensor:
    assert picture.dtype == np.uint8
    assert picture.shape[-1] == 3
    return torch.from_numpy(picture.mean(-1))


class FakeSamProcessor:
    @classmethod
    def from_pretrained(cls, folder, local_files_only):
        assert local_files_only
        assert Path(folder).is_dir()
        return cls()

    def __call__(self, picture, input_points, input_labels, return_tensors):
        assert return_tensors == "pt"
        return {
            "pixel_values": brightness(picture)[None],
            "input_points": torch.tensor(input_points),
            "input_labels": torch.tensor(input_labels),
            "original_sizes": torch.tensor([picture.shape[:2]]),
            "reshaped_input_sizes": torch.tensor([picture.shape[:2]]),
        }

    @property
    def image_processor(self):
        def post_process_masks(masks, original_sizes, reshaped_input_sizes):
            assert tuple(original_sizes[0]) == tuple(masks.shape[-2:])
            return [m > 0 for m in masks]

        return SimpleNamespace(post_process_masks=post_process_masks)


class FakeSamModel:
    """Its best mask is all pixels as bright as the first positive point, without a disk round every negative one."""

    embedded = 0

    @classmethod
    def from_pretrained(cls, folder, local_files_only):
        assert local_files_only
        return cls()

    def to(self, device):
        return self

    def eval(self):
        return self

    def get_image_embeddings(self, pixels):
        FakeSamModel.embedded += 1
        return pixels

    def __call__(self, image_embeddings, input_points, input_labels, multimask_output):
        image = image_embeddings[0]
        points, labels = input_points[0, 0], input_labels[0, 0]
        assert multimask_output == (len(points) == 1)
        x, y = points[labels == 1][0].long()
        best = (image - image[y, x]).abs() < 60
        rows, columns = torch.meshgrid(*[torch.arange(n) for n in image.shape], indexing="ij")
        for x, y in points[labels == 0]:
            best &= (rows - y) ** 2 + (columns - x) ** 2 > 9
        masks = torch.stack([torch.zeros_like(best), best, ~best] if multimask_output else [best])
        scores = torch.tensor([0.2, 0.9, 0.5] if multimask_output else [0.9])
        return SimpleNamespace(pred_masks=(masks.float() - 0.5)[None, None], iou_scores=scores[None, None])


class FakeVideoSession:
    """Brightness of every frame before it was normalised."""

    def __init__(self, video, video_height, video_width, inference_device, **devices):
        assert inference_device == "cpu"
        assert video.shape[1:] == (3, SIDE, SIDE)
        mean, std = torch.tensor([0.485, 0.456, 0.406]), torch.tensor([0.229, 0.224, 0.225])
        self.frames = 255 * (video * std[:, None, None] + mean[:, None, None]).mean(1)
        self.level = None
        self.inputs = {}

    def obj_id_to_idx(self, number):
        assert number == 1
        return 0

    def add_point_inputs(self, object_index, frame_index, inputs):
        assert object_index == 0
        self.inputs[frame_index] = (inputs["point_coords"][0, 0].tolist(), inputs["point_labels"][0, 0].tolist())


class FakeVideoModel(FakeSamModel):
    config = SimpleNamespace(image_size=SIDE)

    def __init__(self, config=None):
        pass

    def __call__(self, inference_session, frame_idx):
        points, labels = inference_session.inputs[frame_idx]
        assert inference_session.obj_with_new_inputs == [1]
        if inference_session.level is None:
            (x, y), positive = points[0], labels[0]
            assert positive
            inference_session.level = float(inference_session.frames[frame_idx][int(y), int(x)])
        return self.answer(inference_session, frame_idx)

    def answer(self, session, index):
        mask = (session.frames[index] - session.level).abs() < 60
        for point, label in zip(*session.inputs.get(index, ((), ())), strict=True):
            if not label:
                row, column = int(point[1]), int(point[0])
                mask[max(row - 3, 0) : row + 4, max(column - 3, 0) : column + 4] = False
        return SimpleNamespace(frame_idx=index, pred_masks=(mask.float() - 0.5)[None, None])

    def propagate_in_video_iterator(self, session, start_frame_idx, reverse):
        order = range(start_frame_idx, -1, -1) if reverse else range(start_frame_idx, len(session.frames))
        yield from (self.answer(session, i) for i in order)


class FakeNnSession:
    made = 0

    def __init__(self, device, use_torch_compile, verbose, torch_n_threads, do_autozoom):
        FakeNnSession.made += 1

    def initialize_from_trained_model_folder(self, folder, use_fold, checkpoint_name):
        assert Path(folder).is_dir()

    def set_image(self, image):
        assert image.ndim == 4
        assert image.shape[0] == 1
        self.image = image[0]

    def set_target_buffer(self, buffer):
        self.buffer = buffer

    def add_point_interaction(self, coordinates, include_interaction):
        if include_interaction:
            self.buffer[np.abs(self.image - self.image[coordinates]) < 60] = 1
        else:
            self.buffer[coordinates] = 0

    def add_bbox_interaction(self, corners, include_interaction):
        assert [b - a for a, b in corners].count(1) == 1
        self.buffer[tuple(slice(a, b) for a, b in corners)] = 1


@pytest.fixture
def packages(monkeypatch: pytest.MonkeyPatch) -> None:
    transformers = ModuleType("transformers")
    transformers.SamModel, transformers.SamProcessor = FakeSamModel, FakeSamProcessor  # type: ignore[attr-defined]
    transformers.Sam2VideoModel, transformers.Sam2VideoConfig = FakeVideoModel, dict  # type: ignore[attr-defined]
    monkeypatch.setitem(sys.modules, "transformers", transformers)
    sessions = ModuleType("transformers.models.sam2_video.modeling_sam2_video")
    sessions.Sam2VideoInferenceSession = FakeVideoSession  # type: ignore[attr-defined]
    for name in ("transformers.models", "transformers.models.sam2_video"):
        monkeypatch.setitem(sys.modules, name, ModuleType(name))
    monkeypatch.setitem(sys.modules, sessions.__name__, sessions)
    package = ModuleType("nnInteractive.inference.inference_session")
    package.nnInteractiveInferenceSession = FakeNnSession  # type: ignore[attr-defined]
    for name in ("nnInteractive", "nnInteractive.inference"):
        monkeypatch.setitem(sys.modules, name, ModuleType(name))
    monkeypatch.setitem(sys.modules, package.__name__, package)


@pytest.mark.usefixtures("packages")
@pytest.mark.parametrize("kind", ALL)
def test_weights_are_part_of_the_configuration(kind: type, weights: str):
    assert predictor_config(kind())["sha256"] == ""
    assert len(predictor_config(kind(weights=weights))["sha256"]) == 16


@pytest.mark.usefixtures("packages")
@pytest.mark.parametrize("kind", [Sam2Video, NnInteractive])
@pytest.mark.parametrize("axis", [0, 2])
def test_whole_volumes_by_the_robot_user(kind: type, axis: int, weights: str):
    volume, truth = ball((2.0, 1.0, 1.0))
    rows = run_object(kind(weights=weights), volume, truth, axis, 3)
    assert rows[-1].dice > 0.95


@pytest.mark.usefixtures("packages")
def test_sam2_is_timed_part_by_part():
    found = methods.sam2(methods.sam2_model(), "fp32", "cpu", methods.Scene(*ball((2.0, 1.0, 1.0))))
    number = {part: len(samples) for part, samples in found.items()}
    assert number == {
        methods.OPEN: 1,
        methods.FIRST: 1,
        methods.LATER: 3,
        methods.SLICE_FIRST: 1,
        methods.SLICE_LATER: 1,
    }


@pytest.mark.usefixtures("packages")
def test_points_and_slices_keep_their_places_on_every_axis(weights: str):
    volume, truth = ball((2.0, 1.0, 1.0))
    clicks = [((10, 20, 14), True), ((10, 22, 16), False)]
    for axis in range(3):
        session = SamPoints(weights=weights).start(volume, axis)
        for zyx, positive in clicks[:1]:
            mask = session.click(zyx, positive)
            here = np.moveaxis(mask, axis, 0)[zyx[axis]]
            assert np.array_equal(here, np.moveaxis(truth, axis, 0)[zyx[axis]])
            assert mask.sum() == here.sum()  # no other slice
        video = Sam2Video(weights=weights).start(volume, axis)
        video.click(*clicks[0])
        taken = video.click((12, 20, 14), False)
        assert not taken[12, 20, 14]
        assert truth[12, 20, 14]


@pytest.mark.usefixtures("packages")
def test_sam_with_n_and_six_n_points(weights: str):
    volume, truth = ball((2.0, 1.0, 1.0))
    slices = int(truth.any((1, 2)).sum())
    FakeSamModel.embedded = 0
    rows = run_object(SamPoints(weights=weights), volume, truth, 0, SlicePointRounds(6))
    assert FakeSamModel.embedded == slices  # the image half runs once per slice
    assert [row.round for row in rows] == [1, 2, 3, 4, 5, 6]
    assert rows[0].dice > 0.95
    assert rows[0].zyx is None
    one = run_object(SamPoints(weights=weights), volume, truth, 0, SlicePointRounds(1))
    assert len(one) == 1
    assert one[0].dice == rows[0].dice


@pytest.mark.usefixtures("packages")
def test_the_number_of_points_is_an_option(weights: str):
    volume, truth = ball((2.0, 1.0, 1.0))
    baseline = build_baseline(f"sam:weights={weights},points=6")
    assert hasattr(baseline, "own_rounds")
    every, plain = (run_object(method, volume, truth, 0, 3)[0].mask for method in (baseline, SamPoints(weights)))
    assert every.any((1, 2)).sum() > plain.any((1, 2)).sum() == 1
    assert len(run_object(baseline, volume, truth, 0, 3)) == 6  # whatever the benchmark plays
    played = RobotRounds(3, jitter=2.0, seed=5, nsd_mm=1.0)
    rounds = baseline.own_rounds(played)
    assert rounds == SlicePointRounds(6, seed=5, nsd_mm=1.0, jitter=2.0)
    assert baseline.own_rounds(rounds) == rounds
    assert SamPoints(weights).own_rounds(played) is played
    suite = fake_suite()
    assert suite.played_by(Disc()) is suite
    assert suite.played_by(baseline).config()["rounds"]["class"] == "SlicePointRounds"
    with pytest.raises(InputError, match=r"points=6 clicks on every slice.*ChallengeRounds.*leave points out"):
        baseline.own_rounds(ChallengeRounds())
    for wrong in ("-1", "six", "1.5", "true"):
        with pytest.raises(InputError, match="give the number of points on every slice"):
            build_baseline(f"sam:points={wrong}")


def test_the_mode_is_in_the_name(weights: str):
    assert SamPoints(weights).name == "SAM points"
    assert SamPoints(weights, points=10).name == "SAM, 10N points"
    config = Path(weights) / "config.json"
    for width, kind in ((768, "SAM-B"), (1280, "SAM-H"), (None, "SAM-B"), (64, "SAM")):
        config.write_text(json.dumps({"vision_config": {"hidden_size": width} if width else {}}))
        outside.sam_kind.cache_clear()
        assert SamPoints(weights, points=1).name == f"{kind}, N points"
    assert SamPoints(weights, label="mine", points=6).name == "mine, 6N points"


@pytest.mark.usefixtures("packages")
def test_table4_by_a_command(weights: str, tmp_path: Path, capsys: pytest.CaptureFixture):
    (Path(weights) / "config.json").write_text('{"vision_config": {"hidden_size": 768}}')
    data, out = build_btcv(tmp_path / "BTCV"), tmp_path / "results"
    baselines = [word for n in (1, 6) for word in ("--baseline", f"sam:weights={weights},points={n}")]
    assert limnet("bench", "table4", "--data", data, "--out", out, "--per-group", 1, "--rounds", 2, *baselines) == 0
    shown = capsys.readouterr().out
    for points, prompts, name in ((1, "N points", "SAM-B, N points"), (6, "6 N points", "SAM-B, 6N points")):
        assert f"| **{name}** | {prompts} |" in shown
        assert f"| SAM-B (published) | {prompts} |" in shown
        found = json.loads((out / f"table4_SAM-B-{name[7:].replace(' ', '-')}.json").read_text())
        assert found["fixed"]["config"]["rounds"]["rounds"] == points
        assert not found["errors"]
        assert {number for row in found["rows"] for number in row["rounds"]} == set(range(1, points + 1))


class Counting:
    """Marks what is clicked, and remembers the clicks."""

    name = "counting"

    def start(self, volume, axis, *names):
        self.clicks, self.mask = [], np.zeros(volume.shape, bool)
        return self

    def click(self, zyx, positive):
        self.clicks.append((zyx, positive))
        self.mask = self.mask.copy()
        self.mask[zyx] = positive
        return self.mask


def test_every_slice_gets_one_point_a_round():
    volume, truth = ball((2.0, 1.0, 1.0), 6.0)
    counting = Counting()
    assert isinstance(counting, Predictor)
    rows = run_object(counting, volume, truth, 0, SlicePointRounds(2))
    filled = np.flatnonzero(truth.any((1, 2)))
    assert [zyx[0] for zyx, _ in counting.clicks] == [*filled, *filled]
    assert all(truth[zyx] and positive for zyx, positive in counting.clicks)
    assert len({zyx for zyx, _ in counting.clicks}) == len(counting.clicks)
    assert rows[1].compliance == 1
    with pytest.raises(InputError, match="empty"):
        run_object(counting, volume, np.zeros_like(truth), 0, SlicePointRounds(2))
    with pytest.raises(InputError, match="at least 1"):
        SlicePointRounds(0)


@pytest.mark.usefixtures("packages")
def test_one_nninteractive_session_at_a_time(weights: str):
    volume, _ = ball()
    FakeNnSession.made = 0
    baseline = NnInteractive(weights=weights)
    first = baseline.start(volume, 0)
    first.click((20, 20, 20), True)
    second = baseline.start(volume, 1)
    assert FakeNnSession.made == 1  # the weights are loaded once
    with pytest.raises(InputError, match="one at a time"):
        first.click((20, 20, 20), True)
    assert hasattr(second, "box")
    box = second.box((15, 16, 17), (22, 21, 20))
    assert box.sum() == 8 * 4
    assert box[15:23, 18].sum() == box.sum()
