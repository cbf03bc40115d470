"""Launching: the options, and one recipe through every launcher on one and two processes."""

from __future__ import annotations

import argparse
import json
import os
import socket
import subprocess
import sys
from importlib.metadata import EntryPoint, PackageNotFoundError, entry_points
from pathlib import Path

import pytest
from torch import distributed

from limnet.errors import InputError
from limnet.training import launch
from limnet.training.launch import fabric_arguments, lightning_main
from limnet.training.options import add_trainer_arguments, trainer_kwargs
from limnet.training.train import prepare

ROOT = Path(__file__).resolve().parents[2]
RECIPES = ROOT / "recipes"

pytest.importorskip("lightning")


def parsed(*words: str) -> argparse.Namespace:
    parser = argparse.ArgumentParser()
    add_trainer_arguments(parser)
    return parser.parse_args(words)


def test_plain_python_takes_the_options():
    assert trainer_kwargs(parsed(), {}) == {
        "accelerator": "auto",
        "devices": 1,
        "num_nodes": 1,
        "strategy": "auto",
        "precision": "32-true",
    }
    two = trainer_kwargs(parsed("--devices", "2", "--accelerator", "cpu", "--precision", "bf16-mixed"), {})
    assert (two["devices"], two["strategy"], two["accelerator"], two["precision"]) == (2, "ddp", "cpu", "bf16-mixed")
    assert trainer_kwargs(parsed("--devices", "0,1"), {})["devices"] == [0, 1]
    assert trainer_kwargs(parsed("--devices", "auto"), {})["devices"] == "auto"
    assert trainer_kwargs(parsed("--devices", "2", "--strategy", "ddp_spawn"), {})["strategy"] == "ddp_spawn"
    assert trainer_kwargs(parsed("--num-nodes", "2"), {})["strategy"] == "ddp"


def test_all_gpus_of_a_machine_are_several_processes(monkeypatch: pytest.MonkeyPatch):
    for gpus, strategy in ((4, "ddp"), (1, "auto")):
        monkeypatch.setattr("torch.cuda.device_count", lambda gpus=gpus: gpus)
        for devices in ("auto", "-1"):
            assert trainer_kwargs(parsed(f"--devices={devices}"), {})["strategy"] == strategy
        assert trainer_kwargs(parsed("--devices", "auto", "--accelerator", "cpu"), {})["strategy"] == "auto"


def test_started_processes_win_over_the_options():
    env = {"LOCAL_WORLD_SIZE": "2", "WORLD_SIZE": "6"}
    got = trainer_kwargs(parsed("--devices", "1"), env)
    assert (got["devices"], got["num_nodes"], got["strategy"]) == (2, 3, "ddp")
    single = trainer_kwargs(parsed("--devices", "4"), {"LOCAL_WORLD_SIZE": "1", "WORLD_SIZE": "1"})
    assert (single["devices"], single["num_nodes"], single["strategy"]) == (1, 1, "auto")


def test_fabric_settings_come_from_the_environment():
    env = {"LOCAL_WORLD_SIZE": "2", "WORLD_SIZE": "2", "LT_ACCELERATOR": "cpu", "LT_PRECISION": "bf16-mixed"}
    got = trainer_kwargs(parsed(), {**env, "LT_STRATEGY": "ddp_find_unused_parameters_true"})
    assert got["accelerator"] == "cpu"
    assert got["precision"] == "bf16-mixed"
    assert got["strategy"] == "ddp_find_unused_parameters_true"


@pytest.mark.parametrize(
    "env",
    [
        {"LOCAL_WORLD_SIZE": "2", "WORLD_SIZE": "3"},
        {"LOCAL_WORLD_SIZE": "x", "WORLD_SIZE": "3"},
        {"LOCAL_WORLD_SIZE": "2"},
        {"LOCAL_WORLD_SIZE": "0", "WORLD_SIZE": "0"},
    ],
)
def test_contradicting_environment(env: dict[str, str]):
    with pytest.raises(InputError, match="WORLD_SIZE"):
        trainer_kwargs(parsed(), env)


@pytest.mark.parametrize("devices", ["0", "-3", "two", "", "0,x"])
def test_bad_devices(devices: str):
    with pytest.raises(InputError, match="--devices"):
        trainer_kwargs(parsed(f"--devices={devices}"), {})


def test_two_runs_get_two_ports():
    ports = []
    for _ in range(2):
        (port, script) = fabric_arguments(["script.py"])
        assert script == "script.py"
        ports.append(int(port.removeprefix("--main-port=")))
        with socket.socket() as probe:
            probe.bind(("127.0.0.1", ports[-1]))
    assert fabric_arguments(["--main-port", "1", "s.py"]) == ["--main-port", "1", "s.py"]
    assert fabric_arguments(["--main_port=1", "s.py"]) == ["--main_port=1", "s.py"]
    assert fabric_arguments(["s.py", "--num-nodes", "2"]) == ["s.py", "--num-nodes", "2"]
    assert fabric_arguments(["s.py", "--", "--main-port"])[0].startswith("--main-port=")


@pytest.fixture
def started(monkeypatch: pytest.MonkeyPatch) -> list[list[str]]:
    calls: list[list[str]] = []

    def fake(arguments, prog="limnet"):
        calls.append(list(arguments))
        return 0

    monkeypatch.setattr(launch, "limnet_run", fake)
    return calls


@pytest.mark.parametrize(
    ("words", "passed_on"),
    [
        (["run", "recipes/stage3.py", "--devices", "2"], ["recipes/stage3.py", "--devices", "2"]),
        (["run", "model", "recipes/stage3.py"], ["recipes/stage3.py"]),
        (["run", "--help"], ["--help"]),
    ],
)
def test_lightning_run(words: list[str], passed_on: list[str], started):
    with pytest.raises(SystemExit) as end:
        lightning_main(words)
    assert end.value.code == 0
    assert started == [passed_on]


@pytest.mark.parametrize("words", [[], ["login"], ["run"], ["run", "job", "--name", "x"], ["run", "mmt"]])
def test_other_lightning_commands_without_the_vendors_tool(words, started, monkeypatch, capsys):
    def missing(name):
        raise PackageNotFoundError(name)

    monkeypatch.setattr(launch, "distribution", missing)
    with pytest.raises(SystemExit) as end:
        lightning_main(words)
    assert end.value.code == 2
    assert "pip install lightning-sdk" in capsys.readouterr().err
    assert started == []


def test_other_lightning_commands_go_to_the_vendors_tool(started, monkeypatch):
    class Installed:
        entry_points = (EntryPoint("lightning", "tests.training.fake_vendor:main", "console_scripts"),)

    monkeypatch.setattr(launch, "distribution", lambda name: Installed)
    monkeypatch.setattr(EntryPoint, "load", lambda self: lambda: 7)
    with pytest.raises(SystemExit) as end:
        lightning_main(["run", "job"])
    assert end.value.code == 7
    assert started == []


def test_missing_lightning_is_explained(monkeypatch, capsys):
    monkeypatch.setattr(launch, "entry_points", lambda **_: ())
    with pytest.raises(InputError, match="pip install"):
        launch.limnet_run(["x.py"])
    with pytest.raises(SystemExit) as end:
        lightning_main(["run", "x.py"])
    assert end.value.code == 2
    assert "limnet[train]" in capsys.readouterr().err


def test_missing_script_is_a_usage_error(capsys):
    assert launch.limnet_run(["no-such-script.py"]) == 2
    assert "no-such-script.py" in capsys.readouterr().err


def test_the_process_group_is_left_when_the_interpreter_ends(monkeypatch, tmp_path):
    at_exit: list = []
    monkeypatch.setattr("atexit.register", at_exit.append)
    monkeypatch.setattr("atexit.unregister", lambda known: at_exit[:] and at_exit.remove(known))
    monkeypatch.setattr("lightning.seed_everything", lambda *_, **__: None)
    for _ in range(2):
        prepare(argparse.Namespace(smoke=False, threads=0, seed=0, out=Path("nowhere"), resume=False, overwrite=False))
    (leave,) = at_exit
    leave()  # nothing to leave
    distributed.init_process_group("gloo", init_method=f"file://{tmp_path / 'store'}", rank=0, world_size=1)
    leave()
    assert not distributed.is_initialized()


# What a recipe sees of its launcher, and what it would tell the Trainer; nothing heavy is imported.
SEEN = """
import argparse, json, os
from pathlib import Path
from limnet.training.options import add_trainer_arguments, trainer_kwargs
parser = argparse.ArgumentParser()
parser.add_argument("command")
parser.add_argument("--out", type=Path)
add_trainer_arguments(parser)
args = parser.parse_args()
args.out.mkdir(parents=True, exist_ok=True)
told = {"command": args.command, "trainer": trainer_kwargs(args)}
(args.out / (os.environ["RANK"] + ".json")).write_text(json.dumps(told))
"""

# All launchers in one interpreter, which imports torch once.
DRIVER = """
import sys
from lightning.fabric.cli import _main
from torch.distributed.run import main as torchrun
from limnet.cli import main as limnet
from limnet.training.launch import free_port, lightning_main

def ends_well(call, *arguments):
    try:
        call(*arguments)
    except SystemExit as end:
        assert not end.code, end.code

script, out = sys.argv[1:]
def launch(name, n):
    where, rest = ["--accelerator", "cpu", "--devices", n], ["train", "--out", f"{out}/{name}{n}"]
    if name == "torchrun":
        ends_well(torchrun, [f"--nproc_per_node={n}", f"--master_port={free_port()}", script, *rest, *where])
    elif name == "fabric":
        words = ["run", f"--main-port={free_port()}", script, *where, *rest]
        ends_well(lambda: _main(words, standalone_mode=False))
    elif name == "limnet":
        ends_well(limnet, ["run", script, *where, *rest])
    else:
        ends_well(lightning_main, ["run", "model", script, *where, "--", *rest])

for name in ("torchrun", "fabric", "limnet", "lightning"):
    launch(name, "2")
launch("lightning", "1")  # through all of the others
"""


def run(words: list[str]) -> None:
    env = {k: v for k, v in os.environ.items() if not k.startswith(("LT_", "PYTEST_XDIST"))}
    env |= {"OMP_NUM_THREADS": "1", "CUDA_VISIBLE_DEVICES": ""}
    done = subprocess.run(words, capture_output=True, encoding="utf-8", timeout=300, env=env, cwd=ROOT, check=False)
    assert done.returncode == 0, f"{words}\n{done.stdout}\n{done.stderr[-4000:]}"


@pytest.mark.slow
def test_every_launcher_starts_the_same_processes(tmp_path: Path) -> None:
    (tmp_path / "seen.py").write_text(SEEN)
    run([sys.executable, "-c", DRIVER, str(tmp_path / "seen.py"), str(tmp_path)])
    for name, number in (("torchrun", 2), ("fabric", 2), ("limnet", 2), ("lightning", 2), ("lightning", 1)):
        options = parsed("--accelerator", "cpu", "--devices", str(number))
        told = [json.loads(path.read_text()) for path in sorted((tmp_path / f"{name}{number}").glob("*.json"))]
        assert told == [{"command": "train", "trainer": trainer_kwargs(options, {})}] * number, name
    scripts = {(e.name, e.value) for e in entry_points(group="console_scripts")}
    assert {("limnet", "limnet.cli:main"), ("lightning", "limnet.training.launch:lightning_main")} <= scripts
