"""The paper's mixes on fakes, end to end: trained, saved, joined to a model that fuses and is benchmarked."""

from __future__ import annotations

import csv
import math
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest

pytest.importorskip("lightning")

import torch

from benchmarks.core.record import Record
from limnet import InteractiveSegmenter
from limnet.data.clips import Source, draw_clip
from limnet.data.dataset import LabelledCase
from limnet.data.defects import DefectDataset
from limnet.data.module import CaseDataModule
from limnet.datasets.kits19 import Kits19Dataset
from limnet.datasets.mixes import MIXES, load_mix, names_of
from limnet.datasets.msd import MsdLungDataset
from limnet.hub.folder import load_component, name_of, resolve, save_component
from limnet.training.presets import PRESETS, SMOKE
from tests.helpers.every_set import EVERY_SET
from tests.helpers.recipes import limnet, recipe
from tests.helpers.tiny_networks import scramble

PAPER = ("paper-stage1", "paper-stage2", "paper-stage3", "paper-propagation", "paper-quality")
pytestmark = [
    pytest.mark.filterwarnings("ignore::UserWarning"),
    pytest.mark.filterwarnings("ignore:.*does not have many workers.*"),
]


@pytest.fixture(scope="module")
def roots(tmp_path_factory: pytest.TempPathFactory) -> dict[str, Path]:
    """A fake of every data set of the paper's mixes; KiTS19 and MSD lie in one folder, as a table wants them."""
    top = tmp_path_factory.mktemp("mixes")
    names = {name for mix in PAPER for name in names_of(mix)}
    places = {"kits19": top / "tables" / "KiTS19", "msd-lung": top / "tables", "msd-colon": top / "tables"}
    return {name: EVERY_SET[name](places.get(name, top / name)) for name in sorted(names)}


def options(mix: str, roots: dict[str, Path]) -> list[str]:
    return ["--mix", mix, *(word for name in names_of(mix) for word in ("--root", f"{name}={roots[name]}"))]


def small_part(role: str, network: str, folder: Path) -> Path:
    """A network of that class with few channels."""
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(0)
        made = resolve(role, network)(**SMOKE[network])
    scramble(made, seed=3) if role == "quality" else None
    save_component(made, folder / role)
    return folder / role


def trained(folder: Path, role: str, start: Path) -> None:
    """Two steps were taken, every figure is finite, and the weights have moved."""
    with (folder / "metrics.csv").open() as file:
        rows = list(csv.DictReader(file))
    losses = [float(row["train/loss"]) for row in rows if row["train/loss"]]
    assert losses
    assert all(math.isfinite(loss) for loss in losses)
    assert any(name.startswith("val/") and row[name] for row in rows for name in row)
    before, after = (load_component(place, role).state_dict() for place in (start, folder / role))
    assert before.keys() == after.keys()
    assert any(not torch.equal(before[name], after[name]) for name in before)
    assert (folder / "last.ckpt").is_file()


def fuses(segmenter: InteractiveSegmenter, lung: LabelledCase) -> None:
    """With tau 0 every slice keeps its earlier mask as soon as the quality network gives it any chance."""
    volume = lung.read_image()
    left = np.zeros(volume.shape[1:], bool)
    right = left.copy()
    left[2:-2, 1:6], right[2:-2, -6:-1] = True, True
    case = segmenter.open(volume)
    before = case.set_mask(left, 3).copy()
    after = case.set_mask(right, 2)
    others = [index for index in range(len(before)) if index not in case.prompted]
    assert np.array_equal(before[others], after[others])
    plain = segmenter.open(volume, settings=replace(segmenter.settings, tau=1.0))
    assert np.array_equal(plain.set_mask(left, 3), before)
    first = plain.probability.copy()
    plain.set_mask(right, 2)
    changed = (plain.probability[others] != first[others]).any((1, 2))
    assert case.rounds[-1].kept == changed.sum() > 0
    asked: list[int] = []
    assessor = segmenter.engine().assessor
    hook = assessor.encoder.network.register_forward_hook(lambda *_: asked.append(1))
    (chance,) = assessor.compare(case.view, [1], [left.astype(np.float32)], [right.astype(np.float32)])
    hook.remove()
    assert asked == [1]
    assert 0 < chance < 1


def test_from_data_to_a_benchmarked_model(roots: dict[str, Path], tmp_path: Path, capsys) -> None:
    """With tiny networks; recipes/reproduce.sh --fakes, which CI runs, goes the same way with those of the paper."""
    preset = "tiny-cpu"
    networks = {role: PRESETS[role][preset].network for role in ("interaction", "propagation", "quality")}
    first = {role: small_part(role, network, tmp_path / "start") for role, network in networks.items()}
    common = ["--preset", preset, "--steps", "2", "--batch-size", "2", "--accelerator", "cpu", "--validate-every", "2"]
    common += ["--precision", "32-true", "--images", "0"]
    clips = ["--size", "32", "--samples-per-epoch", "4", "--val-samples", "2", "--cache", str(tmp_path / "cache")]

    stage1, stage2, stage3, carry, quality = (
        tmp_path / name for name in ("stage1", "stage2", "stage3", "propagation", "quality")
    )
    words = [*common, *clips]
    recipe("stage1").main(
        [*words, *options("paper-stage1", roots), "--init", str(first["interaction"]), "--out", str(stage1)]
    )
    trained(stage1, "interaction", first["interaction"])
    recipe("stage2").main([*words, *options("paper-stage2", roots), "--init", str(stage1), "--out", str(stage2)])
    trained(stage2, "interaction", stage1 / "interaction")
    recipe("stage3").main([*words, *options("paper-stage3", roots), "--init", str(stage2), "--out", str(stage3)])
    trained(stage3, "interaction", stage2 / "interaction")
    words += ["--length", "4", "--init", str(first["propagation"]), "--out", str(carry)]
    recipe("propagation").main([*words, *options("paper-propagation", roots)])
    trained(carry, "propagation", first["propagation"])

    parts = ["--interaction", str(stage3), "--propagation", str(carry)]
    recipe("release").main([*parts, "--out", str(tmp_path / "baseline")])
    defects = [tmp_path / "defects" / f"{seed}.npz" for seed in (0, 1)]
    for seed, path in enumerate(defects):
        words = ["collect", *options("paper-quality", roots), "--model", str(tmp_path / "baseline"), "--out", str(path)]
        few = ["--cases", "2", "--rounds", "2", "--truths", "--scope", "volume", "--smallest", "1", "--seed", str(seed)]
        recipe("quality").main([*words, *few, "--corrupted", "2", "--setting", "short_side=64"])
    assert len(DefectDataset(defects)) >= 4
    words = ["train", *common, "--init", str(first["quality"]), "--defects", str(defects[0]), "--held", str(defects[1])]
    recipe("quality").main([*words, "--out", str(quality)])
    trained(quality, "quality", first["quality"])

    model = tmp_path / "model"
    recipe("release").main([*parts, "--quality", str(quality), "--setting", "tau=0.0", "--out", str(model)])
    loaded = InteractiveSegmenter.from_pretrained(model)
    assert {role: name_of(type(getattr(loaded, role)))[1] for role in networks} == networks
    fuses(loaded, MsdLungDataset(roots["msd-lung"]).cases("val")[0])
    few = ["--data", str(roots["kits19"].parent), "--part", "msd-lung", "--per-group", "1", "--rounds", "2"]
    few += ["--precision", "fp32", "--setting", "short_side=64"]
    capsys.readouterr()
    assert limnet("bench", "table2", *few, "--out", tmp_path / "results", "--model", model) == 0
    printed = capsys.readouterr().out
    assert "| LIM-Net with MRF (published) |" in printed
    results = [Record.read(path) for path in sorted((tmp_path / "results").glob("*.json"))]
    assert sorted(r.fixed["predictor"]["settings"]["tau"] for r in results) == [0.5, 1.0]
    assert all(r.rows and not r.errors for r in results)
    assert all(f"| **{r.name}** |" in printed for r in results)
    assert {r.fixed["predictor"]["model"]["sha256"] for r in results} == {loaded.identity["sha256"]}


@pytest.mark.parametrize("mix", PAPER)
def test_every_data_set_of_a_mix_is_drawn(mix: str, roots: dict[str, Path], tmp_path: Path) -> None:
    """As often as its weight says, and nothing else."""
    found = load_mix(mix, [(name, roots[name]) for name in names_of(mix)])
    data = CaseDataModule(found, "interaction", batch_size=2, samples_per_epoch=2, size=32, cache_dir=tmp_path)
    data.prepare_data()
    data.setup("fit")
    assert data.training is not None
    cases = data.training.sources.cases
    assert len({id(case) for case in cases}) == len(cases)
    owners = [type(dataset).__name__ for dataset, _ in found for _ in dataset.cases("train")]
    assert len(owners) == len(cases)
    share = {name: 0.0 for name in owners}
    assert data.training.drawer.odds is not None
    for owner, weight in zip(owners, data.training.drawer.odds.tolist(), strict=True):
        share[owner] += weight
    total = sum(MIXES[mix].values())
    wanted = {type(dataset).__name__: weight / total for dataset, weight in found}
    assert share == pytest.approx(wanted)
    assert sum(wanted.values()) == pytest.approx(1)


def test_the_kidney_is_drawn_with_its_tumour(roots: dict[str, Path], tmp_path: Path) -> None:
    """As Table I has it: organ is kidney and tumour together, the tumour is an object of its own."""
    dataset = Kits19Dataset(roots["kits19"])
    data = CaseDataModule(dataset, "interaction", batch_size=1, samples_per_epoch=1, size=32, cache_dir=tmp_path)
    data.prepare_data()
    data.setup("fit")
    assert data.training is not None
    source = data.training.sources[0]
    assert source.includes == {1: (2,)}
    labels = np.zeros((8, 40, 40), np.uint8)
    labels[:, 10:30, 10:30], labels[:, 16:24, 16:24] = 1, 2
    image = np.where(labels > 0, 200.0, 0.0)

    def share(wanted: int) -> float:
        one = Source(labels, (3.0, 1.0, 1.0), image, ids=(wanted,), axes=(0,), includes={1: (2,)})
        clip = draw_clip(np.random.default_rng(0), one, 1, 64, paint_probability=0, part_probability=0)
        assert clip is not None
        rows, columns = (np.flatnonzero(clip[1][0].any(axis)) for axis in (0, 1))
        box = clip[1][0][columns[0] : columns[-1] + 1, rows[0] : rows[-1] + 1]
        return float(box.mean())

    assert share(1) > 0.95  # without the tumour it would have a hole, .84
    assert share(2) > 0.95
