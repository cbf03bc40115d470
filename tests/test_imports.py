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


def loaded_after(code: str, argument: Path) -> set[str]:
    """Top-level names of all modules a fresh interpreter holds after running `code`."""
    tail = "\nimport sys, json; print(json.dumps(sorted({m.split('.')[0] for m in sys.modules})))"
    done = subprocess.run(
        [sys.executable, "-c", code + tail, str(argument)], capture_output=True, text=True, check=True
    )
    return set(json.loads(done.stdout.splitlines()[-1]))


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


@pytest.mark.parametrize(
    ("code", "absent"),
    [
        ("import limnet", {*HEAVY, "typer", "rich"}),
        ("import limnet.image.volume, limnet.image.slice_view", HEAVY),
        ("import limnet.cli", {*HEAVY, "numpy"}),
        ("import limnet\nfor n in limnet.__all__: getattr(limnet, n)", {"matplotlib", "typer"}),
        ("\n".join(f"import {m}" for m in INFERENCE), {"matplotlib"}),
        (SEGMENTATION, {"matplotlib"}),
    ],
    ids=["limnet", "images", "command line", "public names", "inference", "a segmentation"],
)
def test_what_is_loaded(code: str, absent: set[str], tmp_path: Path) -> None:
    """Nothing of the packages for training, and not what the step can do without."""
    assert not loaded_after(code, tmp_path / "x.limnet") & {*absent, *TRAINING_ONLY}


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


COMMANDS = [f"limnet.commands.{name}" for name in ("scripts", "data")]
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
