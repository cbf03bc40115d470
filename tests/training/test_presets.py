from __future__ import annotations

import argparse
import inspect
from pathlib import Path

import numpy as np
import pytest

pytest.importorskip("lightning")

from limnet.errors import InputError
from limnet.hub.folder import TABLE, resolve, save_component
from limnet.tasks.interaction import RITM
from limnet.tasks.xmem import XMemClips
from limnet.training.options import parse_recipe, recipe_parser
from limnet.training.presets import PRESETS, SMOKE, TASKS, preset
from limnet.training.train import choose_network, find_part, make_data, make_module, role_of, task_of
from tests.helpers.every_set import EVERY_SET
from tests.helpers.tiny_networks import small_interaction, small_propagation


def taken(network: str) -> set[str]:
    """Arguments of the module that trains a network."""
    module, arguments = task_of(network)
    return module.options(arguments.get("schedule"))


def options(*words: str, role: str = "interaction") -> argparse.Namespace:
    return parse_recipe(recipe_parser(role, None, "runs/x"), role, words)


def test_every_network_of_the_table_can_be_trained() -> None:
    names = {name for known in TABLE.values() for name in known}
    assert set(TASKS) == set(SMOKE) == names
    for role, known in TABLE.items():
        for name in known:
            assert {"network", "network_config", "learning_rate", "max_steps", "seed"} <= taken(name)
            assert set(SMOKE[name]) <= set(inspect.signature(resolve(role, name)).parameters)


def test_presets_fit_their_modules() -> None:
    for role, presets in PRESETS.items():
        for settings in presets.values():
            assert settings.network in TABLE[role]
            parameters = inspect.signature(resolve(role, settings.network)).parameters
            assert set(settings.config) <= set(parameters)


def test_settings_of_the_papers() -> None:
    """RITM: 230 epochs of 30,000 samples, batch 32, drops at 200 and 220; XMem stage 3: 110k, batch 8, drop at 80k."""
    ritm, xmem = preset("interaction", "paper"), preset("propagation", "paper")
    assert ritm.steps == 230 * 30_000 // 32 == RITM["max_steps"]
    assert [round(share * ritm.steps) for share in RITM["drops"]] == [200 * 30_000 // 32, 220 * 30_000 // 32]
    assert (ritm.batch_size, ritm.learning_rate) == (32, 5e-4)
    assert (xmem.steps, xmem.batch_size, xmem.learning_rate, xmem.size) == (110_000, 8, 1e-5, 384)
    clips = XMemClips()
    assert (clips.frames, clips.references, clips.objects) == (8, 3, 3)
    assert [round(share * xmem.steps) for share in (*clips.drops, *clips.bootstrap)] == [80_000, 20_000, 70_000]
    assert preset("quality", "paper").network == "ResNetQuality"
    with pytest.raises(InputError, match="there are tiny-cpu, paper"):
        preset("quality", "big")


def test_given_options_win_over_the_preset() -> None:
    tiny, paper = options(), options("--preset", "paper")
    assert (tiny.network, tiny.batch_size, tiny.precision, tiny.gradient_clip) == (
        "TinyInteraction",
        16,
        "bf16-mixed",
        1,
    )
    assert (paper.network, paper.batch_size, paper.size) == ("HRNetOCR", 32, 384)
    mixed = options("--batch-size", "5", "--preset=paper", "--precision", "16-mixed", "--size", "96")
    assert (mixed.batch_size, mixed.precision, mixed.size, mixed.learning_rate) == (5, "16-mixed", 96, 5e-4)
    assert not mixed.network_given
    assert options("--network", "HRNetOCR").network_given
    with pytest.raises(SystemExit):
        options("--preset", "none")


@pytest.mark.parametrize(
    ("words", "message"),
    [
        (["--validate-every", "0"], "--validate-every: 0 came; give a whole number of at least 1"),
        (["--save-every", "0"], "--save-every: 0 came; give a whole number of at least 1"),
        (["--steps", "0"], "--steps: 0 came"),
        (["--batch-size", "x"], "--batch-size: x came"),
        (["--images", "-1"], "--images: -1 came; give a whole number of at least 0"),
        (["--seed", "-1"], "--seed: -1 came; give a whole number from 0 to 4294967295"),
        (["--seed", "4294967296"], "--seed: 4294967296 came"),
        (["--threads", "-1"], "--threads: -1 came"),
        (["--minutes", "0"], "--minutes: 0 came; give a number above 0"),
        (["--minutes", "nan"], "--minutes: nan came"),
        (["--learning-rate", "fast"], "--learning-rate: fast came"),
        (["--carried", ".5"], "--carried has no effect without --carrier"),
        (["--shards", "x", "--workers", "2"], "--workers has no effect without --mix or --live"),
        (["--live", "x", "--samples-per-epoch", "9"], "--samples-per-epoch has no effect without --mix"),
        (["--smoke", "--root", "kits19=."], "--root has no effect without --mix"),
        (["--mix", "open", "--pattern", "*"], "--pattern has no effect without --shards"),
        (["--wandb-project", "mine"], "--wandb-project has no effect without --wandb"),
        (["--length", "5"], "unrecognized arguments: --length 5"),
    ],
)
def test_numbers_out_of_range_and_idle_options_end_in_one_line(
    words: list[str], message: str, capsys: pytest.CaptureFixture[str]
) -> None:
    with pytest.raises(SystemExit):
        options(*words)
    assert message in capsys.readouterr().err.splitlines()[-1]


def test_smoke_is_small_whatever_else_is_said() -> None:
    args = options("--preset", "paper", "--smoke", "--steps", "100000")
    assert (args.steps, args.batch_size, args.size, args.network_config) == (3, 4, 32, SMOKE["HRNetOCR"])


def test_a_network_to_start_from_decides_over_the_preset(tmp_path: Path) -> None:
    network = small_interaction(click_radius=2.0)
    save_component(network, tmp_path / "interaction")
    assert find_part(str(tmp_path), "interaction") == tmp_path / "interaction"
    assert find_part(str(tmp_path / "interaction"), "interaction") == tmp_path / "interaction"
    assert find_part("limnet-tiny", "quality").name == "quality"
    args = options("--preset", "paper")
    start = choose_network(args, "interaction", tmp_path / "interaction")
    assert args.network == "TinyInteraction"
    module = make_module(args, "interaction", {"freeze_encoder": True, "relook": None}, start)
    assert module.network.config == {**network.config, "window_size": 384}
    for copy in (module.network, module.average):
        assert all(bool((v == network.state_dict()[k]).all()) for k, v in copy.state_dict().items())
    assert not any(p.requires_grad for p in module.network.encoder.parameters())
    assert all(p.requires_grad for p in module.network.decoder.parameters())
    small = options("--preset", "paper", "--smoke", "--size", "64")
    assert make_module(small, "interaction", {}, None).network.window_size == 32, "what it is trained on, shown in use"
    np.save(tmp_path / "d2_0_image.npy", np.zeros((1, 1, 48, 48), np.uint8))
    np.save(tmp_path / "d2_0_mask.npy", np.zeros((1, 1, 288), np.uint8))
    drawn = options("--shards", str(tmp_path))  # shards have a size of their own, whatever --size is
    assert make_module(drawn, "interaction", {}, None).network.window_size == 48
    with pytest.raises(InputError, match="holds a TinyInteraction, --network is HRNetOCR"):
        choose_network(options("--network", "HRNetOCR"), "interaction", tmp_path / "interaction")
    with pytest.raises(InputError, match="falls after fixed steps, whatever the clock says; leave --minutes out"):
        make_module(options("--preset", "paper"), "interaction", {"max_minutes": 3.0}, None)
    with pytest.raises(InputError, match="--no-such: the training of TinyInteraction"):
        make_module(args, "interaction", {"no_such": 1}, None)


def test_roles_of_folders(tmp_path: Path) -> None:
    save_component(small_propagation(), tmp_path / "a")
    save_component(small_interaction(), tmp_path / "b")
    assert (role_of(tmp_path / "a"), role_of(tmp_path / "b")) == ("propagation", "interaction")


def test_only_the_papers_propagation_is_drawn_as_whole_slices(tmp_path: Path) -> None:
    """XMem sees whole slices in use; the others see windows round the object."""
    assert options("--preset", "paper", role="propagation").whole_slices
    mix = ["--preset", "paper", "--mix", "paper-propagation"]
    assert not options(*mix, "--no-whole-slices", role="propagation").whole_slices
    assert not options(role="propagation").whole_slices
    assert not options("--preset", "paper").whole_slices
    EVERY_SET["msd-lung"](tmp_path)
    words = ["--mix", "paper-propagation", "--root", f"msd-lung={tmp_path}", "--length", "2", "--size", "64"]
    args = options("--preset", "paper", *words, "--cache", str(tmp_path / "cache"), role="propagation")
    data = make_data(args, "propagation", 1)
    data.prepare_data()
    data.setup()
    assert data.training.drawer.whole_slices  # type: ignore[attr-defined]
    assert data.validation.drawer.whole_slices  # type: ignore[attr-defined]
    (batch, *_) = data.train_dataloader()
    assert batch[0].shape == (8, 2, 64, 64)
