"""Backends for the two halves of limnet-tiny on one thread of a processor: milliseconds a call, and masks beside fp32.

    limnet bench backends                 # torch, and ONNX Runtime and OpenVINO where they are installed
    limnet bench backends --compile       # torch.compile, too: needs a C++ compiler and minutes

Image half: 4 windows of 160 x 160 pixels of the demo's CT, as a sweep encodes them. Memory half: the decoder of
`TinyPropagation` on one of them. Backends take turns lap by lap; medians. Dice of the mask that the backend's own image
half and decoder give, with the mask of torch in float32. int8: dynamic quantisation of ONNX Runtime (weights int8).
"""

from __future__ import annotations

import argparse
import copy
import importlib.util
import statistics
import tempfile
import time
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import Tensor, nn

from benchmarks.core.record import write_text
from benchmarks.core.tables import markdown
from benchmarks.speed.latency import CACHE, prepare
from limnet.environment import cpu_model
from limnet.interaction.window import with_bf16_convolutions
from limnet.metrics.overlap import dice
from limnet.segmenter import InteractiveSegmenter

Run = Callable[..., Any]
LAPS = 40


class Decoder(nn.Module):
    """The decoder with tensors in the place of a tuple, for exporters."""

    def __init__(self, decoder: nn.Module) -> None:
        super().__init__()
        self.decoder = decoder

    def forward(self, f4: Tensor, f8: Tensor, f16: Tensor, f32: Tensor, *others: Tensor) -> Tensor:
        """Logits (1, 1, 160, 160)."""
        logits: Tensor = self.decoder((f4, f8, f16, f32), *others)
        return logits


def inputs() -> tuple[Tensor, tuple[Tensor, ...]]:
    """Windows (4, 1, 160, 160) through the liver, and what the decoder is shown besides features: maps and readouts."""
    folder = prepare("ct", CACHE, None)
    image, liver = np.load(folder / "volume.npy", mmap_mode="r"), np.load(folder / "0.npz")
    mask = np.zeros(image.shape, bool)
    mask[tuple(slice(a, a + n) for a, n in zip(liver["corner"], liver["voxels"].shape, strict=True))] = liver["voxels"]
    z, y, x = (int(v) for v in np.argwhere(mask).mean(0))
    part = (slice(z, z + 4), slice(y - 80, y + 80), slice(x - 80, x + 80))
    grey = torch.from_numpy(np.clip((image[part] + 160.0) / 400, 0, 1).astype(np.float32))[:, None]
    last = torch.from_numpy(mask[part].astype(np.float32))[:, None] * 2 - 1
    maps = torch.cat([last[:1], grey[:1] * 2 - 1, grey[1:2] * 2 - 1, (grey[1:2] - grey[:1]) * 2, last[:1], last[:1]], 1)
    generator = torch.Generator().manual_seed(0)
    readout = torch.rand(1, 129, 10, 10, generator=generator) - 0.5
    return grey, (maps, nn.functional.avg_pool2d(last[:1], 8).expand(1, 4, 20, 20), readout)


def torch_halves(network: Any, bf16: bool, compiled: bool = False) -> tuple[Run, Run]:
    """Image half and decoder in eager or compiled torch."""
    encoder: Any = network.encoder
    decoder: Any = Decoder(network.decoder)
    if compiled:
        encoder, decoder = torch.compile(encoder), torch.compile(decoder)

    def within(call: Run) -> Run:
        def run(*tensors: Tensor) -> Any:
            with torch.inference_mode(), torch.autocast("cpu", torch.bfloat16, enabled=bf16):
                return call(*tensors)

        return run

    return within(encoder), within(decoder)


def exported(network: Any, tensors: tuple[Tensor, ...], features: tuple[Tensor, ...], folder: Path) -> list[Path]:
    """ONNX files of the image half and of the decoder."""
    plain = [torch.from_numpy(t.float().numpy().copy()) for t in (*features, *tensors[1:])]
    parts = {"image": (network.encoder, (tensors[0],)), "decoder": (Decoder(network.decoder), tuple(plain))}
    for name, (part, example) in parts.items():
        torch.onnx.export(part, example, str(folder / f"{name}.onnx"), dynamo=False)
    return [folder / f"{name}.onnx" for name in parts]


def onnx_halves(paths: list[Path], int8: bool) -> tuple[Run, ...]:
    """Image half and decoder in ONNX Runtime."""
    import onnxruntime
    from onnxruntime.quantization import QuantType, quantize_dynamic

    def make(path: Path) -> Run:
        if int8:
            quantize_dynamic(path, path.with_suffix(".int8"), weight_type=QuantType.QUInt8)
            path = path.with_suffix(".int8")
        options = onnxruntime.SessionOptions()
        options.intra_op_num_threads = options.inter_op_num_threads = 1
        session = onnxruntime.InferenceSession(str(path), options, providers=["CPUExecutionProvider"])
        names = [i.name for i in session.get_inputs()]
        return lambda *tensors: session.run(None, {n: t.numpy() for n, t in zip(names, tensors, strict=True)})

    return tuple(make(path) for path in paths)


def openvino_halves(paths: list[Path], precision: str) -> tuple[Run, ...]:
    """Image half and decoder in OpenVINO."""
    import openvino

    options = {"INFERENCE_NUM_THREADS": 1, "INFERENCE_PRECISION_HINT": precision, "PERFORMANCE_HINT": "LATENCY"}

    def make(path: Path) -> Run:
        request = openvino.Core().compile_model(openvino.convert_model(path), "CPU", options).create_infer_request()
        return lambda *tensors: list(request.infer([t.numpy() for t in tensors]).values())

    return tuple(make(path) for path in paths)


def backends(args: argparse.Namespace, windows: Tensor, shown: tuple[Tensor, ...]) -> Iterator[tuple[str, Any]]:
    """Names and halves of what can be had here."""
    network: Any = InteractiveSegmenter.from_pretrained("limnet-tiny").propagation
    yield "torch fp32", torch_halves(network, False)
    yield "torch bf16, autocast", torch_halves(network, True)
    yield "torch bf16, weights cast beforehand (as shipped)", torch_halves(with_bf16_convolutions(network), True)
    plain: Any = copy.deepcopy(network).to(memory_format=torch.contiguous_format)
    yield "as shipped, without channels_last", torch_halves(with_bf16_convolutions(plain), True)
    if args.compile:
        torch._inductor.config.freezing = True
        yield "torch.compile bf16, frozen", torch_halves(with_bf16_convolutions(network), True, True)
    with tempfile.TemporaryDirectory() as place, torch.no_grad():
        features = tuple(f[1:2] for f in plain.encoder(windows)[:4])
        if importlib.util.find_spec("onnx"):
            paths = exported(plain, (windows, *shown), features, Path(place))
            if importlib.util.find_spec("onnxruntime"):
                yield "ONNX Runtime fp32", onnx_halves(paths, False)
                yield "ONNX Runtime int8", onnx_halves(paths, True)
            if importlib.util.find_spec("openvino"):
                yield "OpenVINO fp32", openvino_halves(paths, "f32")
                yield "OpenVINO bf16", openvino_halves(paths, "bf16")


def main(argv: Sequence[str] | None = None) -> None:
    """Measure and write backends.md."""
    parser = argparse.ArgumentParser(
        "limnet bench backends", description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--compile", action="store_true", help="torch.compile, too")
    parser.add_argument("--out", type=Path, default=Path("benchmarks/results/backends.md"))
    args = parser.parse_args(argv)
    torch.set_num_threads(1)
    windows, shown = inputs()
    halves: dict[str, Any] = {}
    masks: dict[str, Any] = {}
    calls: dict[str, tuple[Run, Run]] = {}
    for name, (encode, decode) in backends(args, windows, shown):
        features = [torch.as_tensor(f)[1:2].clone() for f in encode(windows)[:4]]
        found = decode(*features, *shown)
        masks[name] = np.asarray(found[0] if isinstance(found, list) else found.float()).reshape(160, 160) > 0
        calls[name] = (lambda e=encode: e(windows), lambda d=decode, f=features: d(*f, *shown))
        halves[name] = ([], [])
        print(name, int(masks[name].sum()), flush=True)
    for _ in range(LAPS):
        for name, both in calls.items():
            for call, took in zip(both, halves[name], strict=True):
                start = time.process_time()
                call()
                took.append(1000 * (time.process_time() - start))
    first, *_ = masks.values()
    lines = [
        [n, *(f"{statistics.median(t):.1f}" for t in times), f"{dice(masks[n], first):.4f}"]
        for n, times in halves.items()
    ]
    text = f"""# Backends for the halves of limnet-tiny

{cpu_model()}, one thread; torch {torch.__version__}; made by

    limnet bench backends{" --compile" * args.compile}

Milliseconds of processor time (medians of {LAPS} laps): image half of 4 windows, memory half (decoder) of one.

{markdown(["backend", "image half", "memory half", "Dice to fp32"], lines)}"""
    print(write_text(args.out, text).read_text(encoding="utf-8"))
