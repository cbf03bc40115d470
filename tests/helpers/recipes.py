"""Commands and recipes in this process."""

from __future__ import annotations

import importlib.util
import sys
from pathlib import Path
from types import ModuleType

import pytest

from limnet.cli import main

RECIPES = Path(__file__).parents[2] / "recipes"


def limnet(*words: object) -> int:
    """Exit code of a command."""
    with pytest.raises(SystemExit) as end:
        main([str(word) for word in words])
    return int(end.value.code or 0)


def recipe(name: str) -> ModuleType:
    """A recipe as a module, with its `main`."""
    return module_of(RECIPES / f"{name}.py", f"recipe_{name}")


def module_of(path: Path, name: str) -> ModuleType:
    """A file of Python as a module of that name."""
    spec = importlib.util.spec_from_file_location(name, path)
    assert spec is not None
    assert spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    sys.modules[name] = module  # dataclasses look for the module of their class
    spec.loader.exec_module(module)
    return module
