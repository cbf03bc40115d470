"""Every data set of the table, on a fake in its true layout: checked, trained on, benchmarked."""

from __future__ import annotations

import math
from collections.abc import Callable
from pathlib import Path

import pytest

pytest.importorskip("lightning")

import torch
from lightning import Trainer
from typer.testing import CliRunner

from benchmarks.core.record import Record
from benchmarks.core.run import run_suite
from benchmarks.core.suite import SuiteOptions, build_suite
from benchmarks.suites.dataset import kind_of
from limnet.cli import app, main
from limnet.data.module import CaseDataModule
from limnet.datasets import berkeley, davis345, davis585, endovis18, grabcut
from limnet.datasets.registry import DATASETS, dataset_class
from limnet.errors import InputError
from limnet.tasks.interaction import InteractionModule
from limnet.tasks.propagation import PropagationModule
from tests.helpers import fake_benchmarks_2d, fake_davis585, fake_endovis18
from tests.helpers.bench import Disc
from tests.helpers.every_set import CLIP_SETS, EVERY_SET, TRAINED_SETS
from tests.helpers.small_segmenter import small_segmenter
from tests.helpers.tiny_networks import ENCODER, MEMORY
from tests.helpers.training import same, snapshot


@pytest.fixture(scope="module")
def root(tmp_path_factory: pytest.TempPathFactory) -> Callable[[str], Path]:
    """Folder of a data set's fake, written when first asked for."""
    top, built = tmp_path_factory.mktemp("sets"), {}

    def folder(name: str) -> Path:
        if name not in built:
            built[name] = EVERY_SET[name](top / name)
        return built[name]

    return folder


@pytest.fixture(scope="module")
def model(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return small_segmenter().save_pretrained(tmp_path_factory.mktemp("model") / "small")


@pytest.fixture(autouse=True)
def published_sizes(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(davis585.Davis585Dataset, "published", fake_davis585.OBJECTS)
    monkeypatch.setattr(endovis18, "FRAMES", fake_endovis18.FRAMES)
    for benchmark in (berkeley.BerkeleyDataset, davis345.Davis345Dataset, grabcut.GrabCutDataset):
        monkeypatch.setattr(benchmark, "published", fake_benchmarks_2d.OBJECTS)


def test_no_data_set_is_forgotten() -> None:
    assert set(EVERY_SET) == set(DATASETS)


@pytest.mark.parametrize("name", ["ishape", "kits19", "youtube-vos"])
def test_data_check(name: str, root: Callable[[str], Path]) -> None:
    done = CliRunner().invoke(app, ["data", "check", name, str(root(name))])
    assert done.exit_code == 0, done.output
    assert done.output.endswith("all is well\n")


@pytest.mark.filterwarnings("ignore::UserWarning")
@pytest.mark.parametrize(
    ("name", "task"),
    [*((name, "interaction") for name in TRAINED_SETS), *((name, "propagation") for name in CLIP_SETS)],
)
def test_a_step_of_training(name: str, task: str, root: Callable[[str], Path], tmp_path: Path) -> None:
    options = {"samples_per_epoch": 2, "size": 32, "length": 4, "val_samples": 1, "cache_dir": tmp_path}
    data = CaseDataModule(dataset_class(name)(root(name)), task, batch_size=2, **options)  # type: ignore[arg-type]
    if task == "interaction":
        module: InteractionModule | PropagationModule = InteractionModule(ENCODER, max_steps=1, warmup_steps=0)
    else:
        module = PropagationModule({**ENCODER, **MEMORY}, max_steps=1, warmup_steps=0)
    before = snapshot(module.network)
    trainer = Trainer(
        max_steps=1,
        accelerator="cpu",
        devices=1,
        logger=False,
        enable_checkpointing=False,
        enable_progress_bar=False,
        enable_model_summary=False,
        num_sanity_val_steps=0,
        default_root_dir=tmp_path,
    )
    trainer.fit(module, datamodule=data)
    assert trainer.global_step == 1
    assert math.isfinite(float(trainer.callback_metrics["train/loss"]))
    assert not same(before, module.network.state_dict())
    assert all(bool(torch.isfinite(value).all()) for value in module.network.state_dict().values())


def bench(*words: object) -> int:
    """Exit code of `limnet bench`."""
    with pytest.raises(SystemExit) as end:
        main(["bench", *(str(word) for word in words)])
    return int(end.value.code or 0)


@pytest.mark.parametrize("name", sorted(EVERY_SET))
def test_a_benchmark(name: str, root: Callable[[str], Path], model: Path, tmp_path: Path) -> None:
    few = ("--rounds", 2, "--per-case", 1, "--per-group", 1, "--precision", "fp32", "--no-views")
    assert (
        bench("dataset", "--name", name, "--data", root(name), "--model", model, "--out", tmp_path / "x.json", *few)
        == 0
    )
    results = Record.read(tmp_path / "x.json")
    assert results.errors == []
    assert results.about["suite"] == f"dataset-{name}"
    assert len(results.rows) == 1
    assert all(0 <= value <= 1 for value in results.curve())


def played(name: str, root: Callable[[str], Path], out: Path, **options: object) -> Record:
    suite = build_suite("dataset", root(name.partition(":")[0]), SuiteOptions(rounds=1, dataset=name, **options))  # type: ignore[arg-type]
    results = run_suite(suite, Disc(3.0), out / "x.json", views=False)
    assert results is not None
    assert results.errors == []
    return results


def test_numbered_objects_are_one_group(root: Callable[[str], Path], tmp_path: Path) -> None:
    assert played("ishape", root, tmp_path).groups == ["antenna", "branch", "fence", "hanger", "log", "wire"]
    assert "right kidney" in played("amos22-ct", root, tmp_path, split="train").groups
    assert kind_of(frozenset({"log"}), "", "log 12") == "log"
    assert kind_of(frozenset({"log"}), "", "rib 12") == "rib 12"


def test_objects_of_layers_are_segmented_on_their_own_picture(root: Callable[[str], Path], tmp_path: Path) -> None:
    """A tie lies on a person: in the other layer the same picture is background there."""
    found = played("coco-lvis", root, tmp_path)
    assert found.groups == ["object", "stuff"]
    assert {o["object"] for o in found.rows} >= {"object 1", "object 2"}
    assert {click[0] for o in found.rows for click in o["clicks"] if click} == {0}
    assert {o["voxels"] for o in found.rows if o["object"] == "object 2"} < {o["voxels"] for o in found.rows}


def test_splits_and_options(root: Callable[[str], Path], tmp_path: Path) -> None:
    def cases(name: str, **options: str) -> int:
        suite = build_suite("dataset", root(name.partition(":")[0]), SuiteOptions(dataset=name, **options))  # type: ignore[arg-type]
        return len(suite.cases)

    assert (cases("btcv"), cases("btcv:protocol=unetr"), cases("btcv", split="train")) == (12, 6, 18)
    assert cases("davis585") < cases("davis585:protocol=benchmark") == 12
    assert cases("endovis18") == 4  # nothing but the test sequences is held out
    one, other = (
        build_suite("dataset", root("btcv"), SuiteOptions(dataset=f"btcv:protocol={p}")).config()
        for p in ("transunet", "unetr")
    )
    assert one != other


def test_what_is_wrong_is_said(root: Callable[[str], Path], capsys: pytest.CaptureFixture[str]) -> None:
    for words, message in (
        (["dataset"], "say which data set lies in"),
        (["dataset", "--name", "btvc"], "Did you mean btcv"),
        (["dataset", "--name", "btcv", "--part", "btcv"], "leave --part out"),
        (["dataset", "--name", "btcv:protokoll=x"], 'cannot be opened with {"protokoll": "x"}'),
        (["dataset", "--name", "btcv", "--split", "test"], "no split 'test'"),
        (["folder", "--name", "btcv"], "unrecognized arguments: --name btcv"),
    ):
        assert bench(*words, "--data", root("btcv"), "--model", "none") == 2
        assert message in " ".join(capsys.readouterr().err.split())
    with pytest.raises(InputError, match="holds no case out"):
        build_suite("dataset", _only_training(root), SuiteOptions(dataset="endovis18"))


def _only_training(root: Callable[[str], Path]) -> Path:
    return next(root("endovis18").rglob("miccai_challenge_2018_release_1"))
