"""Starting a training recipe: by python, torchrun, `fabric run`, `limnet run` or `lightning run`, with one outcome.

A recipe adds its device options with `add_trainer_arguments` and builds its Trainer from `trainer_kwargs`. The
launchers differ in who starts the processes: torchrun (and `fabric run`, which calls torchrun) starts them first and
tells each of them its place by environment variables; with plain python the Trainer starts them itself.
"""

from __future__ import annotations

import argparse
import atexit
import os
import socket
import sys
from collections.abc import Mapping, Sequence
from importlib.metadata import PackageNotFoundError, distribution, entry_points
from pathlib import Path
from typing import Any

from limnet.errors import InputError

_VENDOR = "lightning-sdk"
_VENDOR_RUN_COMMANDS = ("job", "mmt")


def add_trainer_arguments(parser: argparse.ArgumentParser) -> None:
    """Add the options that say where to train.

    Under `fabric run` and its kin the launcher reads `--devices`, `--accelerator`, `--strategy`, `--num-nodes` and
    `--precision` wherever they stand; `trainer_kwargs` gets them back from the environment.
    """
    group = parser.add_argument_group("devices")
    group.add_argument("--accelerator", default="auto", help="cpu, gpu, mps or auto (default)")
    group.add_argument("--devices", default="1", help="processes per machine, a list such as 0,1, or auto (default: 1)")
    group.add_argument("--num-nodes", type=int, default=1, help="number of machines (default: 1)")
    group.add_argument(
        "--strategy", default="auto", help="strategy of the Trainer; auto means ddp for several processes"
    )
    group.add_argument("--precision", default="32-true", help="32-true (default), bf16-mixed, 16-mixed")


def trainer_kwargs(args: argparse.Namespace, environ: Mapping[str, str] | None = None) -> dict[str, Any]:
    """Return accelerator, devices, num_nodes, strategy and precision for `lightning.Trainer`.

    Args:
        args: namespace with the options of `add_trainer_arguments`.
        environ: environment to read; `os.environ` by default.

    Returns:
        Keyword arguments that agree with the processes already started, if a launcher started any. Without that,
        a Trainer with `strategy="auto"` on a CPU would train one independent model per process.

    Raises:
        InputError: environment variables of a launcher that contradict each other, or `--devices` that is no number,
            list or "auto".
    """
    env = os.environ if environ is None else environ
    accelerator = env.get("LT_ACCELERATOR", args.accelerator)
    precision = env.get("LT_PRECISION", args.precision)
    strategy = env.get("LT_STRATEGY", args.strategy)
    devices: int | str | list[int]
    if "LOCAL_WORLD_SIZE" in env:
        local, world = _count(env, "LOCAL_WORLD_SIZE"), _count(env, "WORLD_SIZE")
        if world % local:
            raise InputError(
                f"WORLD_SIZE={world} is not a multiple of LOCAL_WORLD_SIZE={local}; "
                "start the same number of processes on each machine"
            )
        devices, nodes, several = local, world // local, world > 1
    else:
        devices, nodes = _devices(str(args.devices)), int(args.num_nodes)
        if accelerator == "cpu" and (devices == -1 or isinstance(devices, list)):
            raise InputError(f"--devices is {args.devices!r}; on the CPU give a number of processes, such as 2")
        several = nodes > 1 or _number(devices, accelerator) > 1
    if strategy == "auto" and several:
        strategy = "ddp"
    return {
        "accelerator": accelerator,
        "devices": devices,
        "num_nodes": nodes,
        "strategy": strategy,
        "precision": precision,
    }


def leave_group_at_exit() -> None:
    """Leave the process group, if there is one by then, before the interpreter ends.

    Lightning does so for NCCL alone. A gloo group that is still there while the interpreter shuts down aborts the
    process now and then (SIGABRT, with all work done), since its threads hold Python objects; the launcher then calls
    the whole run failed.
    """
    atexit.unregister(_leave_group)
    atexit.register(_leave_group)


def free_port() -> int:
    """Return a TCP port that nothing on this machine listens on at the moment."""
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return int(probe.getsockname()[1])


def fabric_arguments(arguments: Sequence[str]) -> list[str]:
    """Return the arguments for `fabric run`, with a free port when the user named none.

    `fabric run` always takes port 29400, so two runs on one machine would collide. Several machines need one agreed
    port: there the user's (or fabric's own) stays.
    """
    own = list(arguments)[: list(arguments).index("--")] if "--" in arguments else list(arguments)
    named = {a.split("=", 1)[0].replace("_", "-") for a in own if a.startswith("--")}
    if {"--main-port", "--num-nodes", "--help"} & named:
        return list(arguments)
    return [f"--main-port={free_port()}", *arguments]


def limnet_run(arguments: Sequence[str], prog: str = "limnet") -> int:
    """Run a script as `fabric run SCRIPT ...` does; returns the exit status.

    Args:
        arguments: what follows `run`: launcher options, the script, its own options (after `--` if they share a name
            with a launcher option).
        prog: name of the command in usage messages.

    Raises:
        InputError: Lightning is not installed.
    """
    found = entry_points(group="console_scripts", name="fabric")
    command = next((e for e in found if e.value.startswith("lightning.fabric")), None)
    if command is None:
        raise InputError("training needs Lightning, which is not installed; run: pip install 'limnet[train]'")
    given = ["--help"] if list(arguments) in ([], ["-h"]) else fabric_arguments(arguments)
    try:
        command.load().main(args=["run", *given], prog_name=prog, standalone_mode=True)
    except SystemExit as end:
        return end.code if isinstance(end.code, int) else int(end.code is not None)
    return 0


def lightning_main(arguments: Sequence[str] | None = None) -> None:
    """Console script `lightning`: `lightning run [model] SCRIPT ...`, everything else goes to the vendor's tool.

    Lightning itself installs no command of this name any more; its cloud client (lightning-sdk) does.
    """
    given = list(sys.argv[1:] if arguments is None else arguments)
    if given[:1] == ["run"] and (given[1:2] and (given[1] not in _VENDOR_RUN_COMMANDS or Path(given[1]).is_file())):
        rest = given[1:]
        if rest[0] == "model" and not Path("model").is_file():
            rest = rest[1:]
        try:
            sys.exit(limnet_run(rest, prog="lightning"))
        except InputError as error:
            sys.exit(_complain(str(error)))
    vendor = _vendor_command()
    if vendor is None:
        sys.exit(
            _complain(
                "this `lightning` comes with limnet and knows one command, the same as fabric run:\n"
                "  lightning run [model] SCRIPT [options]\n"
                f"Everything else belongs to Lightning's cloud client; install it with: pip install {_VENDOR}"
            )
        )
    sys.exit(vendor())


def _leave_group() -> None:
    from torch import distributed

    if distributed.is_available() and distributed.is_initialized():
        distributed.destroy_process_group()


def _vendor_command() -> Any:
    """Return the function behind the cloud client's own `lightning` script, or None."""
    try:
        scripts = distribution(_VENDOR).entry_points
    except PackageNotFoundError:
        return None
    return next((s.load() for s in scripts if s.group == "console_scripts" and s.name == "lightning"), None)


def _complain(message: str) -> int:
    sys.stderr.write(message + "\n")
    return 2


def _count(env: Mapping[str, str], name: str) -> int:
    value = env.get(name, "")
    if not value.isdigit() or int(value) < 1:
        raise InputError(
            f"environment variable {name} is {value!r}; a launcher sets it to a number of processes, 1 or more"
        )
    return int(value)


def _number(devices: int | str | list[int], accelerator: str) -> int:
    """How many processes `devices` means on this machine; without a number, one for every CUDA GPU that is used."""
    if isinstance(devices, list):
        return len(devices)
    if isinstance(devices, int) and devices >= 0:
        return devices
    if accelerator not in ("auto", "gpu", "cuda"):
        return 1
    import torch

    return torch.cuda.device_count()


def _devices(text: str) -> int | str | list[int]:
    if text in ("auto", "-1"):
        return "auto" if text == "auto" else -1
    try:
        numbers = [int(part) for part in text.split(",") if part.strip()]
    except ValueError:
        numbers = []
    if not numbers or min(numbers) < 0 or ("," not in text and numbers[0] == 0):
        raise InputError(f"--devices is {text!r}; give a number of processes (2), a list (0,1) or auto")
    return numbers if "," in text else numbers[0]
