"""Every data set of the table, on a fake in its true layout: checked, trained on, benchmarked."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

pytest.importorskip("lightning")

import torch

from benchmarks.core.record import Record
from benchmarks.core.run import run_suite
from benchmarks.core.suite import SuiteOptions, build_suite
from benchmarks.suites.dataset import kind_of
from limnet.data.module import CaseDataModule
from limnet.datasets import endovis18
from limnet.datasets.registry import DATASETS, dataset_class
from limnet.errors import InputError
from limnet.tasks.interaction import InteractionModule
from limnet.tasks.propagation import PropagationModule
from tests.helpers.bench import Disc
from tests.helpers.every_set import CLIP_SETS, EVERY_SET, SIZES, TRAINED_SETS
from tests.helpers.fake_picture_sets import FRAMES
from tests.helpers.recipes import limnet
from tests.helpers.small_modules import logged_by
from tests.helpers.small_segmenter import small_segmenter
from tests.helpers.tiny_networks import ENCODER, MEMORY


@pytest.fixture(scope="module")
def root(tmp_path_factory: pytest.TempPathFactory) -> Callable[[str], Path]:
    """Folder of a data set's fake, written when first asked for."""
    top, built = tmp_path_factory.mktemp("sets"), {}

    def folder(name: str) -> Path:
        if name not in built:
            built[name] = EVERY_SET[name](top / name)
        return built[name]

    return folder


@pytest.fixture(autouse=True)
def published_sizes(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(endovis18, "FRAMES", FRAMES)
    for name, number in SIZES.items():
        monkeypatch.setattr(dataset_class(name), "published", number)


def test_no_data_set_is_forgotten() -> None:
    assert set(EVERY_SET) == set(DATASETS)


@pytest.fixture(scope="module")
def modules() -> dict[str, InteractionModule | PropagationModule]:
    return {
        "interaction": InteractionModule(ENCODER, max_steps=1, warmup_steps=0),
        "propagation": PropagationModule({**ENCODER, **MEMORY}, max_steps=1, warmup_steps=0),
    }


@pytest.mark.filterwarnings("ignore::UserWarning")
@pytest.mark.parametrize("name", TRAINED_SETS)
def test_its_batches_can_be_learnt_from(
    name: str, root: Callable[[str], Path], modules: dict[str, Any], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    for task, module in modules.items():
        if task == "propagation" and name not in CLIP_SETS:
            continue
        dataset = dataset_class(name)(root(name))
        data = CaseDataModule(
            dataset, task, batch_size=2, samples_per_epoch=2, size=32, length=4, val_samples=1, cache_dir=tmp_path
        )
        data.prepare_data()
        data.setup("fit")
        (batch,), held = data.train_dataloader(), list(data.val_dataloader())
        assert held or name in ("endovis18", "msd-pancreas")  # nobody is held out in these fakes
        assert all(logged_by(module, clips, monkeypatch) for clips in held)
        module.zero_grad()
        loss = module.training_step(batch, 0)
        loss.backward()
        slopes = [p.grad for p in module.network.parameters() if p.grad is not None]
        assert all(bool(torch.isfinite(value).all()) for value in (loss, *slopes))
        assert any(bool(value.any()) for value in slopes)


def test_a_benchmark_by_its_command(root: Callable[[str], Path], tmp_path: Path) -> None:
    model = small_segmenter().save_pretrained(tmp_path / "small")
    few = ("--rounds", 2, "--per-case", 1, "--per-group", 1, "--precision", "fp32", "--no-views")
    where = ("--data", root("ishape"), "--model", model, "--out", tmp_path / "x.json")
    assert limnet("bench", "dataset", "--name", "ishape", *where, *few) == 0
    checked(Record.read(tmp_path / "x.json"), "ishape")


def checked(results: Record, name: str) -> None:
    assert results.errors == []
    assert results.about["suite"] == f"dataset-{name}"
    assert len(results.rows) == 1
    assert all(0 <= value <= 1 for value in results.curve())


@pytest.mark.parametrize("name", sorted(EVERY_SET))
def test_a_benchmark(name: str, root: Callable[[str], Path], tmp_path: Path) -> None:
    checked(played(name, root, tmp_path, per_case=1, per_group=1), name)


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
        assert limnet("bench", *words, "--data", root("btcv"), "--model", "none") == 2
        assert message in " ".join(capsys.readouterr().err.split())
    with pytest.raises(InputError, match="holds no case out"):
        build_suite("dataset", _only_training(root), SuiteOptions(dataset="endovis18"))


def _only_training(root: Callable[[str], Path]) -> Path:
    return next(root("endovis18").rglob("miccai_challenge_2018_release_1"))
