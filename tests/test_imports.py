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


def loaded_after(code: str) -> set[str]:
    """Top-level names of all modules a fresh interpreter holds after running `code`."""
    tail = "\nimport sys, json; print(json.dumps(sorted({m.split('.')[0] for m in sys.modules})))"
    done = subprocess.run([sys.executable, "-c", code + tail], capture_output=True, text=True, check=True)
    return set(json.loads(done.stdout.splitlines()[-1]))


def present(modules: list[str]) -> list[str]:
    return [m for m in modules if (SOURCE.parent / (m.replace(".", "/") + ".py")).exists()]


def test_import_limnet_is_light():
    heavy = {"torch", "scipy", "nibabel", "SimpleITK", "huggingface_hub", "matplotlib", "typer", "rich", *TRAINING_ONLY}
    assert not loaded_after("import limnet") & heavy


def test_public_names_resolve_without_training_packages():
    code = "import limnet\nfor n in limnet.__all__: getattr(limnet, n)"
    pytest.importorskip("limnet.segmenter")
    found = loaded_after(code)
    assert not found & {*TRAINING_ONLY, "matplotlib", "typer"}


def test_inference_path_imports_no_training_package():
    code = "\n".join(f"import {m}" for m in present(INFERENCE))
    assert not loaded_after(code) & set(TRAINING_ONLY)


def test_a_whole_segmentation_imports_no_training_package():
    pytest.importorskip("limnet.segmenter")
    from limnet.hub.locate import list_zoo

    if "limnet-tiny" not in list_zoo():
        pytest.skip("limnet-tiny is not in the zoo")
    code = """
import numpy, limnet
volume = numpy.zeros((5, 48, 48), numpy.int16)
volume[:, 10:30, 10:30] = 200
case = limnet.InteractiveSegmenter.from_pretrained("limnet-tiny").open(volume, spacing=(3.0, 1.0, 1.0))
assert case.click((2, 20, 20))[2, 20, 20]
case.click((2, 40, 40), positive=False)
case.quality, case.suggest()
import sys
assert not [m for m in sys.modules if m.startswith(("limnet.propagation.networks.xmem", "limnet.propagation.stream"))]
"""
    assert not loaded_after(code) & {*TRAINING_ONLY, "matplotlib"}


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
    return parts[1] in ("data", "datasets", "tasks", "training", "metrics") or parts[-1] == "corruption_transforms"


COMMANDS = [f"limnet.commands.{name}" for name in ("train", "data")]
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
