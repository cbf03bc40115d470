"""Builds the LightningModule of a recipe, from nothing or from a network that was trained before."""

from __future__ import annotations

import argparse
import inspect
from collections.abc import Mapping
from importlib import import_module
from pathlib import Path
from typing import Any

from torch import nn

from limnet.errors import InputError
from limnet.hub.folder import CONFIG, load_component, read_config
from limnet.hub.registry import TABLE, resolve
from limnet.training.presets import TASKS, preset

OPTIONS = {"max_minutes": "minutes"}
"""Argument of a module -> option of the recipes, where the two differ."""


def find_part(name: str, role: str) -> Path:
    """Folder of one network (it holds config.json) for `--init`.

    Args:
        name: that folder itself, a model folder, a zoo name or a Hub repository.
        role: which part of a whole model.

    Raises:
        ModelNotFoundError: nothing of that name.
    """
    folder = Path(name)
    if (folder / CONFIG).is_file():
        return folder
    from limnet.hub.locate import locate

    return locate(name) / role


def choose_network(args: argparse.Namespace, role: str, folder: Path | None) -> nn.Module | None:
    """Settle which network is trained: that of `folder` if there is one, else --network, else the preset's.

    Sets `args.network` and `args.network_config`.

    Args:
        args: from `parse_recipe`.
        role: of the network.
        folder: part of a model folder, see `find_part`.

    Returns:
        The network in `folder`.

    Raises:
        InputError: --network is another network than the folder's.
        ModelFormatError: a folder that cannot be read.
    """
    if folder is None:
        return None
    loaded, found = load_component(folder, role), read_config(folder)["class"]
    if args.network_given and found != args.network:
        raise InputError(f"--init holds a {found}, --network is {args.network}; leave one of them out")
    args.network, args.network_config = found, dict(loaded.config)  # type: ignore[arg-type, call-overload]
    return loaded


def make_module(args: argparse.Namespace, role: str, options: Mapping[str, Any], start: nn.Module | None) -> Any:
    """The LightningModule of `args.network`.

    Args:
        args: after `choose_network`.
        role: of the network.
        options: arguments of the module besides those every recipe has; None where the user gave nothing.
        start: network whose weights both copies get.

    Raises:
        InputError: an option that this module does not have.
    """
    module_class, own = task_of(args.network)
    chosen = preset(role, args.preset)
    if chosen.network == args.network:
        own.update(chosen.options)
    own.update({key: value for key, value in options.items() if value is not None})
    if foreign := sorted(set(own) - module_class.options(own.get("schedule"))):
        words = ", ".join(f"--{OPTIONS.get(name, name).replace('_', '-')}" for name in foreign)
        raise InputError(f"{words}: the training of {args.network} has no such option; leave it out")
    config = args.network_config
    from limnet.training.data import drawn_size

    if "window_size" in inspect.signature(resolve(role, args.network)).parameters:
        config = {**(config or {}), "window_size": drawn_size(args)}  # in use it sees windows as large as here
    given = {"network": args.network, "learning_rate": args.learning_rate, "max_steps": args.steps, "seed": args.seed}
    module = module_class(network_config=config, **{**own, **given})
    if start is not None:
        load_into(module, start)
    return module


def task_of(network: str) -> tuple[Any, dict[str, Any]]:
    """The LightningModule that trains a network, and the arguments with which it does."""
    (place, _, attribute), arguments = TASKS[network][0].partition(":"), TASKS[network][1]
    found = import_module(place)
    return getattr(found, attribute), dict(getattr(found, arguments)) if arguments else {}


def load_into(module: Any, network: nn.Module) -> None:
    """Give both copies of a module's weights those of `network`."""
    for copy in (module.network, module.average):
        copy.load_state_dict(network.state_dict())


def role_of(folder: Path) -> str:
    """Role of the network in a folder.

    Raises:
        InputError: a class that is in no table.
    """
    found = read_config(folder)["class"]
    for role, known in TABLE.items():
        if found in known:
            return role
    raise InputError(f"{folder} holds a {found}, which limnet does not know")
