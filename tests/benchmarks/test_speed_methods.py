"""The methods of the speed suite do the work they are said to do."""

from __future__ import annotations

from collections import Counter

import numpy as np
import pytest
import torch

from benchmarks.timing.holding import HoldJob, run_hold
from benchmarks.timing.limnet_methods import LimnetMethod
from benchmarks.timing.methods import (
    ENCODE,
    FIRST,
    LATER,
    METHODS,
    OPEN,
    ROUND_FIRST,
    SLICE_FIRST,
    SLICE_LATER,
    build,
    missing,
)
from benchmarks.timing.outside_methods import PassMethod, Sam2Method, ScribblePromptShape
from benchmarks.timing.reference_methods import RitmReference, XMemReference
from benchmarks.timing.scene import scene
from limnet.errors import InputError
from limnet.interaction.hrnet import HRNetOCR
from limnet.propagation.stream_carrier import StreamCarrier
from limnet.segmenter import InteractiveSegmenter
from tests.helpers.small_segmenter import small_segmenter
from tests.helpers.small_xmem import SmallXMem
from tests.helpers.tiny_networks import small_interaction, small_quality

SCENE = scene(64, 8)


def counted(monkeypatch: pytest.MonkeyPatch, thing: object, *names: str) -> Counter[str]:
    """Calls of methods of a network."""
    found: Counter[str] = Counter()

    def watch(name: str) -> None:
        inner = getattr(thing, name)

        def call(*arguments: object, **options: object) -> object:
            found[name] += 1
            return inner(*arguments, **options)

        monkeypatch.setattr(thing, name, call)

    for name in names:
        watch(name)
    return found


@pytest.mark.parametrize("whole", [False, True])
def test_limnet_plays_two_rounds(monkeypatch: pytest.MonkeyPatch, whole: bool):
    segmenter = small_segmenter()
    calls = counted(monkeypatch, segmenter.propagation, "segment", "encode_image")
    method = LimnetMethod(segmenter, 64, whole, cases=2)
    found = method.lap(SCENE)
    number = {part: len(samples) for part, samples in found.items()}
    assert number == {OPEN: 2, ENCODE: 3, FIRST: 2, LATER: 6, SLICE_FIRST: 1, SLICE_LATER: 1}
    assert all(s > 0 for samples in found.values() for s in samples)
    assert calls["segment"] == 7 + 6, "every slice but the prompted ones, in both rounds"
    assert segmenter.propagation.window_size == 160
    assert calls["encode_image"] < 7 + 8 + 8 or not whole, "later rounds take features from the cache"


def test_limnet_stages_hold_their_case():
    method = LimnetMethod(small_segmenter(), 64)
    assert list(method.stages(SCENE)) == ["open", "first round", "later round"]


def test_the_reference_keeps_nothing_and_limnet_does(monkeypatch: pytest.MonkeyPatch):
    network = SmallXMem().eval()
    calls = counted(monkeypatch, network, "encode_image", "encode_value")
    reference = XMemReference(network, "fp32")
    found = reference.lap(SCENE)
    assert found[SLICE_FIRST] == found[SLICE_LATER]
    assert calls["encode_image"] == 8 + 1, "every slice, and the middle one in both directions"
    assert calls["encode_value"] == 2, "no sixth slice on either side: the prompt of each direction alone"
    reference.lap(SCENE)
    assert calls["encode_image"] == 2 * 9
    reference.sweep(scene(64, 14))
    assert calls["encode_value"] == 2 + 2 + 2 + 2, "every fifth slice is remembered"

    calls.clear()
    segmenter = InteractiveSegmenter(small_interaction(), network, small_quality(), precision="fp32")
    monkeypatch.setattr("limnet.propagation.carrier.make_carrier", StreamCarrier)
    monkeypatch.setattr(
        "limnet.propagation.propagator.make_carrier",
        lambda net, encoder, view, prompts, settings: StreamCarrier(net, encoder, view, prompts),
    )
    LimnetMethod(segmenter, 64).lap(SCENE)
    assert calls["encode_image"] == 8 + 3, "once a slice in both rounds; three for the time of encoding"


def test_the_sweep_of_the_reference_covers_the_volume():
    results = XMemReference(SmallXMem().eval(), "fp32").sweep(SCENE)
    assert [tuple(r.shape) for r in results] == [(2, 64, 64)] * 7


def test_ritm_computes_everything_at_every_click(monkeypatch: pytest.MonkeyPatch):
    network = HRNetOCR(width=4, ocr_width=4, small=True).eval()
    calls = counted(monkeypatch, network, "encode_image")
    seen: list[torch.Tensor] = []

    def decode(features: tuple[torch.Tensor, ...], prompts: torch.Tensor) -> dict[str, torch.Tensor]:
        seen.append(prompts)
        return {"instances": torch.ones(1, 1, 64, 64)}

    monkeypatch.setattr(network, "decode", decode)
    found = RitmReference(network, "fp32").lap(SCENE)
    assert {part: len(samples) for part, samples in found.items()} == {FIRST: 1, LATER: 3}
    assert calls["encode_image"] == len(seen) == 4
    areas = [float(prompts[:, 1].sum()) for prompts in seen]
    assert areas == sorted(set(areas)), "one disk more at every click"
    assert not seen[0][:, 0].any()
    after = torch.sigmoid(torch.tensor(1.0))
    assert all(bool((p[:, 0] == after).all()) for p in seen[1:]), "the mask so far is given from the second click on"
    assert all(prompts[:, 2].sum() == 0 for prompts in seen)


def test_shape_of_scribbleprompt():
    network = ScribblePromptShape()
    assert sum(p.numel() for p in network.parameters()) == pytest.approx(4.0e6, rel=0.01)
    small = ScribblePromptShape(channels=4)
    assert small(torch.zeros(2, 5, 32, 48)).shape == (2, 1, 32, 48)


def test_one_pass_may_stand_for_more():
    once = PassMethod(torch.nn.Identity(), (1, 1), "fp32")
    assert set(once.lap(SCENE)) == {FIRST, LATER}
    whole = PassMethod(torch.nn.Identity(), (1, 1), "fp32", times=1e9, whole=True).lap(SCENE)
    assert whole[ROUND_FIRST] == whole[FIRST]
    assert whole[FIRST][0] > 100


@pytest.mark.parametrize("precision", ["fp32", "bf16"])
def test_precision_reaches_the_network(precision: str):
    class Seen(torch.nn.Linear):
        kind = None

        def forward(self, x: torch.Tensor) -> torch.Tensor:
            answer = super().forward(x)
            Seen.kind = answer.dtype
            return answer

    PassMethod(Seen(2, 2), (1, 2), precision).lap(SCENE)
    assert Seen.kind == {"fp32": torch.float32, "bf16": torch.bfloat16}[precision]


def test_memory_of_methods_that_do_not_show_it():
    with pytest.raises(InputError, match="'ritm-h18s' is not measured"):
        run_hold(HoldJob("ritm-h18s", 64, 4))


@pytest.mark.skipif(missing("nninteractive") is not None, reason="needs dynamic-network-architectures")
def test_network_of_nninteractive():
    method = build("nninteractive", 64, "fp32")
    assert isinstance(method, PassMethod)
    with torch.inference_mode():
        assert method.network(torch.zeros(1, 8, 64, 64, 64)).shape == (1, 2, 64, 64, 64)


@pytest.mark.skipif(missing("sam2-video") is not None, reason="needs transformers")
def test_sam2():
    assert isinstance(build("sam2-video", 64, "fp32"), Sam2Method)


def test_every_method_has_its_place():
    for name, entry in METHODS.items():
        if entry.needs is None and name in ("scribbleprompt",):
            assert callable(build(name, 64, "fp32").lap)
    assert next(iter(METHODS)) == "tiny"
    assert np.unique([entry.place for entry in METHODS.values()]).size == len(METHODS)
