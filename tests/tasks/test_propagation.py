from __future__ import annotations

from functools import partial

import pytest
import torch
import torch.nn.functional as functional

pytest.importorskip("lightning")

from limnet.errors import InputError
from limnet.tasks.propagation import PropagationModule, drift
from limnet.tasks.warm_start import warm_start
from tests.helpers.small_modules import logged_by, noise_batch, small_module
from tests.helpers.tiny_networks import ENCODER, MEMORY, disk, scramble, small_interaction, small_propagation

make = partial(small_module, "propagation")


def batch(count: int = 2, length: int = 4) -> tuple[torch.Tensor, torch.Tensor]:
    return noise_batch(count, length)


def test_only_free_weights_are_given_to_the_optimizer() -> None:
    module = make()
    assert not any(p.requires_grad for p in module.network.encoder.parameters())
    scramble(module.network)
    module.training_step(batch(), 0).backward()
    silent = {n.split(".")[0] for n, p in module.network.named_parameters() if p.grad is None or not bool(p.grad.any())}
    assert silent == {"encoder"}
    groups = module.configure_optimizers()["optimizer"].param_groups
    assert sum(len(g["params"]) for g in groups) == sum(p.requires_grad for p in module.network.parameters())
    assert all(p.requires_grad for p in make(freeze_encoder=False).network.parameters())


def test_carry_predicts_every_later_slice() -> None:
    module = make()
    image, mask = (x.float() for x in batch())
    with torch.no_grad():
        outputs = module.clips.carry(module.network, image / 255, mask[:, :1])
        again = module.clips.carry(module.network, image / 255, mask[:, :1])
        helped = module.clips.carry(module.network, image / 255, mask[:, :1], second=mask[:, -1:])
        forced = module.clips.carry(
            module.network, image / 255, mask[:, :1], mask.bool(), 1.0, generator=torch.Generator().manual_seed(0)
        )
    assert len(outputs) == 3
    assert all(o.shape == (2, 1, 32, 32) for o in outputs)
    assert all(torch.equal(a, b) for a, b in zip(outputs, again, strict=True))
    assert not torch.equal(outputs[0], helped[0])
    assert torch.equal(outputs[0], forced[0])  # the first step knows the prompt in any case
    assert not torch.equal(outputs[1], forced[1])


def test_slices_look_back_and_never_ahead() -> None:
    module = make()
    module.network.eval()
    image, mask = (x.float() for x in batch())
    changed = image.clone()
    changed[:, 3] = 0
    with torch.no_grad():
        outputs = module.clips.carry(module.network, image / 255, mask[:, :1])
        others = module.clips.carry(module.network, changed / 255, mask[:, :1])
    torch.testing.assert_close(outputs[1], others[1])
    assert not torch.equal(outputs[2], others[2])


def test_validation_compares_with_copying(monkeypatch: pytest.MonkeyPatch) -> None:
    module = make()
    logged = logged_by(module, batch(), monkeypatch)
    assert sorted(logged) == ["val/dice_carried", "val/dice_copied", "val/dice_copied_each_step", "val/dice_per_slice"]
    assert logged["val/dice_copied"] < logged["val/dice_copied_each_step"] < 1
    assert abs(logged["val/dice_carried"] - logged["val/dice_copied"]) < 0.3


def test_drift_touches_only_the_chosen_share_and_never_the_input() -> None:
    generator = torch.Generator().manual_seed(0)
    truth = torch.zeros(64, 1, 16, 16, dtype=torch.bool)
    truth[:, :, 4:9, 5:11] = True
    mask = truth.float() * 0.9
    before = mask.clone()
    astray = drift(mask, truth, generator, 0.5)
    changed = (astray != mask).flatten(1).any(1).float().mean()
    assert torch.equal(mask, before)
    assert 0.25 < changed < 0.75
    assert float(astray.min()) >= 0
    assert float(astray.max()) <= 1
    assert torch.equal(drift(mask, truth, generator, 0.0), mask)
    assert any(not bool(astray[i].any()) for i in range(64)), "some masks are lost altogether"


def test_prompts_answered_by_a_click_network() -> None:
    from limnet.interaction.networks.tiny import TinyInteraction

    module = make(prompted=1.0)
    image, mask = batch(4)
    image, target = image[:, :1].float() / 255, mask[:, :1] > 0

    def prompts() -> torch.Tensor:
        return module.clips.prompts(image, target, torch.Generator().manual_seed(1), module.prompter)

    plain = prompts()
    keys = set(module.state_dict())
    prompter = TinyInteraction(**ENCODER)
    with torch.no_grad():
        prompter.decoder.head.bias.fill_(5.0)  # says yes everywhere
    module.prompt_by(prompter)
    assert set(module.state_dict()) == keys
    answered = prompts()
    assert bool((answered == 1).all())
    assert not bool((plain == 1).all())
    with torch.no_grad():
        prompter.decoder.head.bias.fill_(-9.0)  # an empty answer is no prompt
    assert torch.equal(prompts(), plain)


def test_schedules_have_their_own_options_and_networks() -> None:
    with pytest.raises(InputError, match="frames: no such option; schedule limnet has"):
        make(frames=4)
    with pytest.raises(InputError, match="frames=2"):
        small_module("xmem", frames=2)
    with pytest.raises(InputError, match="allowed are limnet, xmem"):
        make(schedule="none")
    with pytest.raises(InputError, match="schedule xmem trains XMem, and the network is a TinyPropagation"):
        PropagationModule({**ENCODER, **MEMORY}, schedule="xmem")


# warm start


def test_it_says_what_the_click_network_says_to_the_mask_before() -> None:
    click, network = small_interaction(), small_propagation(decoder="unet")
    warm_start(network, click)
    with torch.no_grad():
        network.copy_gain.zero_()
    first, second = torch.rand(2, 1, 1, 64, 64, generator=torch.Generator().manual_seed(0))
    mask = disk(64, 64, (30, 22), 9)
    with torch.no_grad():
        before, features = network.encode_image(first), network.encode_image(second)
        assert all(torch.equal(a, b) for a, b in zip(features, click.encode_image(second), strict=True))
        last = network.remember(before, mask)
        found = network.segment(features, network.read(features, [last]), [last], last, first, mask)
        maps = torch.zeros(1, click.decoder.maps.in_channels // 16, 64, 64)
        maps[:, 0] = mask[:, 0]
        look = functional.avg_pool2d(mask, 8).flatten(2) @ before[5].flatten(2).transpose(1, 2)
        same = (functional.normalize(look, dim=2) @ features[5].flatten(2)).reshape(1, 1, 8, 8)
        similar = torch.zeros(1, 4, 8, 8)
        similar[:, [0, 3]] = same
        wanted = click.decoder(features[1:5], maps, similar)
    torch.testing.assert_close(found, wanted, rtol=1e-4, atol=1e-4)


def test_other_sizes_are_refused() -> None:
    with pytest.raises(InputError, match="start from one of the same size"):
        warm_start(small_propagation(widths=(16, 16, 16, 24)), small_interaction())


def test_the_base_family_is_refused() -> None:
    with pytest.raises(InputError, match="TinyPropagation cannot start from a Linear"):
        warm_start(small_propagation(), torch.nn.Linear(1, 1))  # type: ignore[arg-type]
