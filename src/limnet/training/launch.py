"""Starting a training recipe: by python, torchrun, `fabric run`, `limnet run` or `lightning run`, with one outcome.

The launchers differ in who starts the processes: torchrun (and `fabric run`, which calls torchrun) starts them first
and tells each of them its place by environment variables, which `limnet.training.options.trainer_kwargs` reads; with
plain python the Trainer starts them itself.
"""

from __future__ import annotations

import atexit
import socket
import sys
from collections.abc import Sequence
from importlib.metadata import PackageNotFoundError, distribution, entry_points
from pathlib import Path
from typing import Any

from limnet.errors import InputError

_VENDOR = "lightning-sdk"
_VENDOR_RUN_COMMANDS = ("job", "mmt")


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
