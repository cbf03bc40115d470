"""The recipes one after the other on a few tiny clips: labelled volumes, shards, interaction, propagation."""

from __future__ import annotations

import csv
import json
import shutil
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch

pytest.importorskip("lightning")

from limnet.data.shards import ShardDataset
from limnet.datasets import open as open_volumes
from limnet.errors import FileFormatError, InputError
from limnet.hub.folder import TABLE, load_component, name_of, save_component
from limnet.tasks.base import warmup_cosine
from limnet.tasks.propagation import PropagationModule
from limnet.training.callbacks import ExportAverage
from limnet.training.train import checkpoint_to_resume
from tests.helpers.recipes import recipe
from tests.helpers.small_xmem import PLACE
from tests.helpers.tiny_networks import ENCODER, MEMORY, small_interaction, small_propagation


def write_volumes(root: Path) -> None:
    rows, columns = np.mgrid[:40, :40]
    label = np.broadcast_to((rows - 20) ** 2 + (columns - 18) ** 2 < 90, (12, 40, 40)).astype(np.uint8)
    image = (label * 150 + np.random.default_rng(0).integers(-40, 40, label.shape)).astype(np.int16)
    entries = []
    for file in ("train/ts_ct_abdomen_1.npz", "val/ts_ct_dicom_1.npz"):
        (root / file).parent.mkdir(parents=True)
        np.savez_compressed(root / file, image=image, label=label, spacing=np.array([1.5, 1.5, 1.5], np.float32))
        entries.append({"file": file, "modality": "CT"})
    (root / "manifest.json").write_text(json.dumps({"volumes": entries}))


def small(folder: Path) -> Path:
    """A small network to start from, where it is not what is tested."""
    return save_component(small_interaction(), folder / "small")


@pytest.fixture(scope="module")
def shards(tmp_path_factory: pytest.TempPathFactory) -> Path:
    root = tmp_path_factory.mktemp("recipes")
    write_volumes(root)
    common = ["--data", str(root), "--out", str(root / "shards"), "--size", "32", "--synthetic", "0"]
    for kind, split in (("d2", "train"), ("val2d", "val"), ("clip", "train"), ("valclip", "val")):
        recipe("make_shards").main([*common, "--kind", kind, "--split", split, "--count", "4"])
    return root / "shards"


def test_shards_depend_on_their_seed_and_number(shards: Path, tmp_path: Path) -> None:
    data = ShardDataset(shards, "clip_*")
    assert len(data) == 4
    assert data.read(0)[0].shape == (8, 32, 32)
    assert all(bool(data.read(i)[1][0].any()) for i in range(4))
    again = ["--data", str(shards.parent), "--out", str(tmp_path), "--size", "32", "--synthetic", "0"]
    recipe("make_shards").main([*again, "--kind", "d2", "--count", "4", "--shards", "2"])
    first, second = (np.load(tmp_path / f"d2_{i}_image.npy") for i in (1, 2))
    assert np.array_equal(first, np.load(shards / "d2_1_image.npy"))
    assert not np.array_equal(first, second)


def test_shards_of_whole_tissues(shards: Path, tmp_path: Path) -> None:
    words = ["--data", str(shards.parent), "--out", str(tmp_path), "--size", "32", "--synthetic", "0", "--count", "6"]
    recipe("make_shards").main([*words, "--kind", "d2", "--paint", "0", "--tissues", "train"])
    data = ShardDataset(tmp_path, "d2_*")
    drawn = [data.read(i) for i in range(6)]
    spreads = [float(image[mask > 0].float().std()) for image, mask, _ in drawn]
    assert all(bool(mask.any()) and bool(start.any()) for _, mask, start in drawn)
    assert np.median(spreads) < 40, "a tissue is of one gray value"
    with pytest.raises(SystemExit, match="has nowhere in its name"):
        recipe("make_shards").main([*words, "--tissues", "nowhere"])
    with pytest.raises(SystemExit, match="each is a share"):
        recipe("make_shards").main([*words, "--parts", "2"])
    with pytest.raises(SystemExit, match=r"manifest\.json"):
        recipe("make_shards").main([*words[2:], "--data", str(tmp_path)])


@pytest.mark.filterwarnings("ignore::UserWarning")
def test_interaction_then_propagation(shards: Path, tmp_path: Path) -> None:
    common = ["--shards", str(shards), "--steps", "1", "--batch-size", "2", "--accelerator", "cpu"]
    recipe("stage1").main([*common, "--validate-every", "1", "--out", str(tmp_path / "a")])
    interaction = load_component(tmp_path / "a" / "interaction", "interaction")
    recipe("propagation").main(
        [*common, "--init", str(tmp_path / "a" / "interaction"), "--validate-every", "1", "--out", str(tmp_path / "b")]
    )
    propagation = load_component(tmp_path / "b" / "propagation", "propagation")
    for name, value in interaction.encoder.state_dict().items():  # type: ignore[union-attr, operator]
        assert torch.equal(propagation.encoder.state_dict()[name], value), name  # type: ignore[union-attr, operator]
    assert (tmp_path / "a" / "metrics.csv").read_text().count("val/dice_1") == 1


def losses(folder: Path) -> dict[int, str]:
    with (folder / "metrics.csv").open() as file:
        return {int(row["step"]): row["train/loss"] for row in csv.DictReader(file) if row["train/loss"]}


@pytest.mark.filterwarnings("ignore::UserWarning")
@pytest.mark.filterwarnings("ignore:.*does not have many workers.*")
def test_a_resumed_recipe_goes_on_as_if_it_had_not_stopped(
    shards: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """With everything on: bf16, clipping, schedule, validation in between, averaged weights."""
    whole, rest = tmp_path / "whole", tmp_path / "rest"
    rest.mkdir()
    after = ExportAverage.on_train_batch_end

    def stop(self: ExportAverage, trainer: Any, module: Any, *others: Any) -> None:
        after(self, trainer, module, *others)
        if trainer.global_step == 3 and not (rest / "last.ckpt").exists():  # as it was after step 2
            shutil.copy(whole / "last.ckpt", rest / "last.ckpt")

    monkeypatch.setattr(ExportAverage, "on_train_batch_end", stop)
    words = ["--shards", str(shards), "--steps", "4", "--batch-size", "2", "--validate-every", "3"]
    words += ["--accelerator", "cpu", "--gradient-clip", "0.5", "--images", "0", "--save-every", "2"]
    words += ["--init", str(small(tmp_path))]
    recipe("stage2").main([*words, "--out", str(whole)])
    (rest / "metrics.csv").write_text("step,train/loss\n0,1.0\n")
    recipe("stage2").main([*words, "--out", str(rest), "--resume"])
    assert (rest / "metrics.1.csv").read_text() == "step,train/loss\n0,1.0\n"
    last = max(losses(whole))
    assert losses(rest)[last] == losses(whole)[last]
    weights = [(folder / "interaction" / "model.safetensors").read_bytes() for folder in (whole, rest)]
    assert weights[0] == weights[1]


@pytest.mark.filterwarnings("ignore::UserWarning")
def test_data_sets_in_place_of_shards(shards: Path, tmp_path: Path) -> None:
    words = ["--mix", "open", "--root", f"open={shards.parent}", "--steps", "1", "--batch-size", "2", "--size", "32"]
    words += ["--samples-per-epoch", "4", "--cache", str(tmp_path / "cache"), "--accelerator", "cpu"]
    recipe("stage1").main([*words, "--out", str(tmp_path / "a"), "--init", str(small(tmp_path))])
    assert "val/dice_6" in (tmp_path / "a" / "metrics.csv").read_text()
    assert (tmp_path / "a" / "images" / "step_000001.png").is_file()


@pytest.mark.filterwarnings("ignore::UserWarning")
@pytest.mark.filterwarnings("ignore:.*does not have many workers.*")
def test_resuming_what_another_command_began(tmp_path: Path) -> None:
    words = ["--smoke", "--accelerator", "cpu", "--images", "0", "--out", str(tmp_path)]
    recipe("stage1").main(words)
    kept = (tmp_path / "metrics.csv").read_text()
    for name, more, message in (
        ("stage1", ["--freeze-encoder"], "freeze_encoder False, now it is True"),
        ("stage1", ["--optimizer", "muon"], "set --optimizer as before, or leave --resume out"),
        ("stage1", ["--preset", "paper"], "network TinyInteraction, now it is HRNetOCR"),
        ("stage1", ["--init", "limnet-tiny"], "a network of another size"),
    ):
        with pytest.raises(SystemExit) as end:
            recipe(name).main([*words, "--resume", *more])
        assert message in str(end.value.code)
    assert (tmp_path / "metrics.csv").read_text() == kept


def test_resuming_propagation_names_its_own_option(tmp_path: Path) -> None:
    module = PropagationModule({**ENCODER, **MEMORY})
    torch.save({"hyper_parameters": dict(module.hparams), "state_dict": module.state_dict()}, tmp_path / "last.ckpt")
    other = PropagationModule({**ENCODER, **MEMORY}, freeze_encoder=False)
    with pytest.raises(InputError, match="set --train-encoder as before"):
        checkpoint_to_resume(tmp_path, other, "propagation")
    assert checkpoint_to_resume(tmp_path, module, "propagation") == tmp_path / "last.ckpt"
    assert checkpoint_to_resume(tmp_path, module, "propagation", resume=False) is None
    assert checkpoint_to_resume(tmp_path / "none", module, "propagation") is None
    torch.save([1], tmp_path / "last.ckpt")
    with pytest.raises(FileFormatError, match="is no checkpoint of a recipe"):
        checkpoint_to_resume(tmp_path, module, "propagation")


def test_true_masks_beside_those_of_rounds(tmp_path: Path) -> None:
    """As the paper's defect set has them: of every slice that a round over the whole volume leaves wrong."""
    words = ["collect", "--smoke", "--scope", "volume"]
    recipe("quality").main([*words, "--out", str(tmp_path / "a.npz")])
    recipe("quality").main([*words, "--truths", "--out", str(tmp_path / "b.npz")])
    rounds, both = (np.load(tmp_path / f"{name}.npz")["dice"] for name in "ab")
    exact = (both == 1).any(1)
    assert exact.sum() > (rounds == 1).any(1).sum()
    assert not (both == 1).all(1).any()
    assert (both[exact] < 1).any(0).all(), "either mask may be the true one"


def test_held_out_defects_come_from_other_patients(tmp_path: Path) -> None:
    write_volumes(tmp_path)
    with np.load(tmp_path / "val" / "ts_ct_dicom_1.npz") as found:
        np.savez_compressed(tmp_path / "val" / "ts_ct_dicom_1.npz", **{**found, "spacing": np.float32([3, 2, 2])})
    quality = recipe("quality")

    def drawn(*words: str) -> list[tuple[float, ...]]:
        args = quality.build_parser().parse_args(["collect", "--out", "x", "--cases", "3", "--seed", "1", *words])
        return [tuple(map(float, volume.spacing)) for volume, _, _ in quality.draw_targets(args)]

    for places in (["--data", str(tmp_path)], ["--mix", "open", "--root", f"open={tmp_path}"]):
        assert set(drawn(*places)) == {(1.5, 1.5, 1.5)}
        assert set(drawn(*places, "--split", "val")) == {(3.0, 2.0, 2.0)}
    (tmp_path / "manifest.json").write_text('{"volumes": [{"file": "train/ts_ct_abdomen_1.npz", "modality": "CT"}]}')
    with pytest.raises(InputError, match="no volume of 8 or more labelled slices in split val"):
        drawn("--data", str(tmp_path), "--split", "val")
    with pytest.raises(InputError, match="has cases in split val"):
        drawn("--mix", "open", "--root", f"open={tmp_path}", "--split", "val")


def test_a_release_reads_the_record_of_the_open_volumes(tmp_path: Path) -> None:
    """Objects that were right early keep their last Dice."""
    rows = [
        {"group": "a", "dice": [0.25, 0.5, 0.75, 0.75, 0.75, 1.0], "seconds": [1.0, 2.0]},
        {"group": "b", "dice": [0.75, 1.0], "seconds": [3.0]},
    ]
    (tmp_path / "open.json").write_text(json.dumps({"command": "limnet bench open --data ROOT", "rows": rows}))
    options = ["--open", str(tmp_path / "open.json"), "--open-data", "new ones", "--out", str(tmp_path / "model")]
    release = recipe("release")
    found = release.measurements(release.build_parser().parse_args(options))
    assert {one.command for one in found} == {"limnet bench open --data ROOT"}
    values = {(one.dataset, one.measure): one.value for one in found}
    assert [
        values["new ones: all, 2 objects", f"mean Dice after {n}"] for n in ("1 round", "3 rounds", "6 rounds")
    ] == [
        0.5,
        0.875,
        1.0,
    ]
    assert values["new ones: b, 1 objects", "mean Dice after 6 rounds"] == 1.0
    assert found[-1].value == 2.0


@pytest.mark.parametrize(
    ("words", "message"),
    [
        (["--setting", "tau=x"], "tau is 'x'; it is a number of at least 0"),
        (["--setting", "tau"], "--setting is 'tau'; give NAME=VALUE"),
        (["--notes", "nope.json"], "--notes is nope.json, which does not exist"),
        (["--notes", __file__], "which cannot be read"),
        (["--notes", "other.json"], "give a JSON object with the list(s) data, limits"),
        (["--demo", "nope.json"], "--demo is nope.json, which does not exist"),
    ],
)
def test_mistakes_of_a_release(words: list[str], message: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    (tmp_path / "other.json").write_text('{"data": []}')
    with pytest.raises(SystemExit) as end:
        recipe("release").main([*words, "--out", str(tmp_path / "model")])
    assert message in str(end.value.code)
    assert not (tmp_path / "model").exists()


@pytest.mark.parametrize(
    ("name", "words", "message"),
    [
        ("stage1", [], "say what to train on"),
        ("stage1", ["--shards", "x", "--mix", "open"], "say what to train on"),
        ("stage1", ["--shards", "no-such-folder"], "no shard"),
        ("stage1", ["--mix", "open"], "needs a folder"),
        ("stage2", ["--mix", "paper-stage2", "--root", "ishape=."], "ishape is no part of the mix"),
        ("stage2", ["--mix", "paper-stage2", "--root", "kits19"], "give the data set and its folder"),
        ("stage2", ["--shards", "x", "--init", "limnet-tiny", "--network", "HRNetOCR"], "TinyInteraction"),
        ("stage1", ["--smoke", "--preset", "paper", "--freeze-encoder"], "freeze_encoder: HRNetOCR has no image half"),
        ("propagation", ["--shards", "x", "--init", "limnet-tiny", "--network", "XMem"], "TinyPropagation"),
        (
            "propagation",
            ["--smoke", "--network", "XMem", "--optimizer", "muon"],
            "--optimizer: the training of XMem",
        ),
        ("propagation", ["--smoke", "--network", "XMem", "--train-encoder"], "for TinyPropagation, not for XMem"),
        ("stage3", ["--mix=paper-stage3"], "needs a folder"),
        ("stage1", ["--smoke", "--clicks", "1"], "clicks is 1; "),
        ("stage1", ["--smoke", "--loss-weights", "1", "1", "nan"], "loss_weights are [1.0, 1.0, nan]"),
        ("stage1", ["--smoke", "--preset", "paper", "--minutes", "3"], "leave --minutes out"),
        ("quality", ["train"], "--defects and --held"),
    ],
)
@pytest.mark.filterwarnings("ignore::UserWarning")
def test_mistakes_are_explained_in_one_line(name: str, words: list[str], message: str, tmp_path: Path) -> None:
    with pytest.raises(SystemExit) as end:
        recipe(name).main([*words, "--accelerator", "cpu", "--out", str(tmp_path)])
    assert message in str(end.value.code)


# `--smoke` of every recipe, in this process


@pytest.mark.parametrize(
    ("name", "words", "role", "network", "metric"),
    [
        ("stage1", [], "interaction", "TinyInteraction", "val/dice_6"),
        ("stage1", ["--preset", "paper"], "interaction", "HRNetOCR", "val/noc85"),
        ("stage2", [], "interaction", "TinyInteraction", "val/dice_6"),
        ("propagation", [], "propagation", "TinyPropagation", "val/dice_carried"),
        ("propagation", ["--preset", "paper"], "propagation", "XMem", "val/dice_carried"),
        ("quality", ["train", "--minutes", "5"], "quality", "TinyQuality", "val/gain"),
        ("quality", ["train", "--preset", "paper"], "quality", "ResNetQuality", "val/gain"),
    ],
)
@pytest.mark.filterwarnings("ignore::UserWarning")
def test_every_recipe(
    name: str, words: list[str], role: str, network: str, metric: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """XMem has few channels here; tests/tasks/test_xmem.py trains all of it, and recipes/reproduce.sh does."""
    monkeypatch.setitem(TABLE["propagation"], "XMem", PLACE)
    threads = torch.get_num_threads()
    recipe(name).main([*words, "--smoke", "--accelerator", "cpu", "--out", str(tmp_path)])
    assert torch.get_num_threads() == threads
    assert name_of(type(load_component(tmp_path / role, role)))[1] == network
    header = (tmp_path / "metrics.csv").read_text().splitlines()[0].split(",")
    assert metric in header
    assert "train/loss" in header
    assert any(column.startswith("lr-") for column in header)
    saved = torch.load(tmp_path / "last.ckpt", weights_only=True)["hyper_parameters"]
    assert saved.get("max_minutes") == (5 if "--minutes" in words else None)
    assert (tmp_path / "images" / "step_000003.png").stat().st_size > 200


def test_collecting_defects(tmp_path: Path) -> None:
    words = ["collect", "--smoke", "--scope", "interval", "--starts", str(tmp_path / "d2_1")]
    recipe("quality").main([*words, "--out", str(tmp_path / "a.npz")])
    from limnet.data.defects import DefectDataset
    from limnet.data.shards import ShardDataset

    starts = ShardDataset(tmp_path, "d2_*")
    assert len(starts) >= 4
    pixels, truth, before = starts.read(0)
    assert pixels.shape == (1, 160, 160)
    assert bool((truth != before).any())
    data = DefectDataset(tmp_path / "a.npz")
    image, previous, current, dice, references = data[0, 0]
    assert image.shape == previous.shape == current.shape == (128, 128)
    assert references.shape == (7, 128, 128)
    newest = [data[0, row][4][[0, 5]] for row in range(len(data))]  # image and nearness of the slice prompted last
    assert any(bool(part.flatten(1).any(1).all()) for part in newest)
    assert len(data) >= 8
    assert bool((previous != current).any())
    assert dice.shape == (2,)


def test_defects_on_synthetic_volumes(monkeypatch: pytest.MonkeyPatch) -> None:
    from limnet.data.clips import Source

    real = Source(np.ones((8, 20, 20), np.uint8), (1.0, 1.0, 1.0), np.zeros((8, 20, 20), np.float32)).with_ids(300)
    monkeypatch.setattr("limnet.datasets.open.load_sources", lambda *_: [real])
    quality = recipe("quality")

    def shapes(*words: str) -> list[tuple[int, ...]]:
        args = quality.build_parser().parse_args(["collect", "--data", "x", "--out", "y", "--cases", "6", *words])
        drawn = list(quality.draw_targets(args))
        assert all(target.sum() >= 300 and target.shape == volume.shape for volume, target, _ in drawn)
        return [target.shape for _, target, _ in drawn]

    assert set(shapes()) == {(8, 20, 20)}
    assert set(shapes("--synthetic", "1")) == {(24, 128, 128)}
    assert set(shapes("--synthetic", ".5")) == {(8, 20, 20), (24, 128, 128)}


# data drawn while it trains, and the end by the clock


@pytest.fixture(scope="module")
def root(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("live")
    write_volumes(folder)
    return folder


@pytest.mark.filterwarnings("ignore")
def test_recipes_draw_while_they_train(root: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(open_volumes, "HELD", 6)
    words = ["--live", str(root), "--workers", "1", "--steps", "2", "--batch-size", "3", "--size", "32"]
    words += ["--accelerator", "cpu", "--validate-every", "2", "--images", "0", "--optimizer", "muon"]
    carrier = str(save_component(small_propagation(), tmp_path / "carrier"))
    model = ["--init", str(small(tmp_path)), "--carrier", carrier, "--carried", "1", "--own", "0"]
    recipe("stage2").main([*words, *model, "--out", str(tmp_path / "a")])
    assert "val/dice_6" in (tmp_path / "a" / "metrics.csv").read_text()
    trained = load_component(tmp_path / "a" / "interaction", "interaction")
    more = ["--length", "3", "--init", carrier, "--prompter", str(tmp_path / "a"), "--prompted", "1"]
    recipe("propagation").main([*words, *more, "--train-encoder", "--out", str(tmp_path / "b")])
    assert "val/dice_carried" in (tmp_path / "b" / "metrics.csv").read_text()
    assert type(trained).__name__ == "TinyInteraction"


@pytest.mark.filterwarnings("ignore")
def test_a_training_ends_when_its_time_is_over(root: Path, tmp_path: Path) -> None:
    words = ["--live", str(root), "--workers", "1", "--steps", "1000000", "--batch-size", "2"]
    words += ["--size", "32", "--accelerator", "cpu", "--images", "0", "--init", str(small(tmp_path))]
    recipe("stage1").main([*words, "--validate-every", "1000000", "--minutes", "0.01", "--out", str(tmp_path / "out")])
    assert (tmp_path / "out" / "interaction" / "model.safetensors").is_file()


def test_the_schedule_ends_with_the_time(monkeypatch: pytest.MonkeyPatch) -> None:
    now = [100.0]
    monkeypatch.setattr("limnet.tasks.base.time.monotonic", lambda: now[0])
    optimizer = torch.optim.SGD([torch.zeros(1, requires_grad=True)], lr=1.0)
    schedule = warmup_cosine(optimizer, 1, 1000, minutes=2)
    rates = []
    for seconds in (0, 0, 60, 120, 500):
        now[0] = 100.0 + seconds
        optimizer.step()
        schedule.step()
        rates.append(schedule.get_last_lr()[0])
    assert rates[0] == pytest.approx(1.0)
    assert rates[2] == pytest.approx(0.505, abs=1e-3)
    assert rates[3] == rates[4] == pytest.approx(0.01)


def test_what_is_drawn_does_not_depend_on_the_workers(root: Path) -> None:
    """But for synthetic volumes, of which each worker keeps its own for some draws."""
    alike: list[Any] = []
    for workers in (0, 2):
        data = open_volumes.drawn_data(root, "interaction", 2, 4, 32, 8, workers, seed=3)
        data.training.drawer.synthetic = 0.0
        alike.append(list(data.train_dataloader()))
    assert [part.shape for part in alike[0][0]] == [(2, 2, 32, 32)] * 3, "pairs with start masks"
    for first, second in zip(*alike, strict=True):
        assert all(torch.equal(a, b) for a, b in zip(first, second, strict=True))
    clips = open_volumes.drawn_data(root, "propagation", 2, 4, 32, 3)
    assert [part.shape for part in next(iter(clips.train_dataloader()))] == [(2, 3, 32, 32)] * 2
    held = clips.val_dataloader()
    assert len(held) == open_volumes.HELD // open_volumes.HELD_BATCH


def test_one_kind_of_data_only(root: Path, tmp_path: Path) -> None:
    words: list[Any] = ["--live", str(root), "--shards", str(tmp_path), "--out", str(tmp_path / "x")]
    with pytest.raises(SystemExit, match="say what to train on"):
        recipe("stage1").main(words)
