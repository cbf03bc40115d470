"""What an import may drag in, and which way imports run."""

from __future__ import annotations

import ast
import json
import subprocess
import sys
from pathlib import Path

import pytest

SOURCE = Path(__file__).resolve().parents[1] / "src" / "limnet"
TRAINING_ONLY = ("lightning", "pytorch_lightning", "monai", "torchmetrics", "wandb")
INFERENCE = [
    "limnet.segmenter",
    "limnet.case.case",
    "limnet.image.volume",
    "limnet.prompts",
    "limnet.case.fusion",
    "limnet.case.session",
    "limnet.interaction.predictor",
    "limnet.propagation.propagator",
    "limnet.quality.assessor",
    "limnet.hub.model",
    "limnet.hub.convert",
    "limnet.image.io.formats",
    "limnet.commands.segment",
    "limnet.commands.demo",
    "limnet.simulation.clicks",
]


SEGMENTATION = """
import sys, numpy, limnet
volume = numpy.zeros((5, 48, 48), numpy.int16)
volume[:, 10:30, 10:30] = 200
case = limnet.InteractiveSegmenter.from_pretrained("limnet-tiny").open(volume, spacing=(3.0, 1.0, 1.0))
assert case.click((2, 20, 20))[2, 20, 20]
case.click((2, 40, 40), positive=False)
case.quality, case.suggest(), case.undo()
case.save_session(sys.argv[1])
assert not [m for m in sys.modules if m.startswith(("limnet.propagation.networks.xmem", "limnet.propagation.stream"))]
"""
HEAVY = {"torch", "scipy", "nibabel", "SimpleITK", "pydicom", "huggingface_hub", "matplotlib"}
METRICS = "from limnet import metrics\nfor n in set(metrics.__all__) - {'CaseTable'}: getattr(metrics, n)"
PROCESSES = [
    [
        ("import limnet", {*HEAVY, "typer", "rich"}),
        ("import limnet.cli", {*HEAVY, "numpy"}),
        ("import limnet.image.volume, limnet.image.slice_view", HEAVY),
        (METRICS, {"torch"}),
    ],
    [
        (SEGMENTATION, {"matplotlib", "typer"}),
        ("for n in limnet.__all__: getattr(limnet, n)", {"matplotlib", "typer"}),
        ("\n".join(f"import {m}" for m in INFERENCE), {"matplotlib"}),
    ],
]
"""What two fresh interpreters do, step by step, and what none of the steps up to there may load."""


@pytest.mark.parametrize("steps", PROCESSES, ids=["light", "a segmentation"])
def test_what_is_loaded(steps: list[tuple[str, set[str]]], tmp_path: Path) -> None:
    """Nothing of the packages for training, and not what the step can do without."""
    told = "\nimport sys, json; print('@', json.dumps(sorted({m.split('.')[0] for m in sys.modules})))\n"
    words = [sys.executable, "-c", told.join([*(code for code, _ in steps), ""]), str(tmp_path / "x.limnet")]
    done = subprocess.run(words, capture_output=True, text=True, check=True)
    loaded = [set(json.loads(line[2:])) for line in done.stdout.splitlines() if line.startswith("@ ")]
    for found, (code, absent) in zip(loaded, steps, strict=True):
        assert not found & {*absent, *TRAINING_ONLY}, code


def imports_of(path: Path) -> set[str]:
    """limnet modules a file imports, at any depth."""
    found = set()
    for node in ast.walk(ast.parse(path.read_text(encoding="utf-8"))):
        if isinstance(node, ast.ImportFrom) and node.module:
            found.add(node.module)
        elif isinstance(node, ast.Import):
            found |= {alias.name for alias in node.names}
    return found


def is_training_side(module: str) -> bool:
    parts = module.split(".")
    return parts[1] in ("data", "datasets", "tasks", "training", "metrics") or parts[1:] == ["simulation", "transforms"]


COMMANDS = ["limnet.cli", "limnet.commands.data"]
# what `limnet evaluate` runs, with metrics
COMMANDS += ["limnet.commands.evaluation", "limnet.commands.evaluation_report"]


def test_only_the_training_side_imports_the_training_side():
    wrong = []
    for path in SOURCE.rglob("*.py"):
        name = "limnet." + ".".join(path.relative_to(SOURCE).with_suffix("").parts)
        if is_training_side(name) or name in COMMANDS:
            continue
        for used in imports_of(path):
            if used.split(".")[0] in TRAINING_ONLY or (used.startswith("limnet.") and is_training_side(used)):
                wrong.append(f"{name} imports {used}")
    assert not wrong


def test_library_and_recipes_run_without_the_benchmarks():
    files = [*SOURCE.rglob("*.py"), *(SOURCE.parents[1] / "recipes").glob("*.py")]
    assert not [f.name for f in files if any(name.split(".")[0] == "benchmarks" for name in imports_of(f))]
