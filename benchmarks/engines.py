"""One level of the denoiser by other engines: seconds of CPU time of one thread, and how far from float32.

    python benchmarks/engines.py --width 320 --side 32      # then 640 16, 1280 8
    pip install torchao openvino nncf                       # for all rows; what is missing is named

A residual block, a spatial transformer and a motion module of full width on a window of 12 frames: what a
level repeats. ``torch bf16`` is what ``animate`` does. Measure on a quiet machine.
"""

from __future__ import annotations

import argparse
import json
import time
from collections.abc import Callable, Iterator

import torch
from machine import commit
from torch import Tensor, nn
from torch.utils.flop_counter import FlopCounterMode

from semibody import runtime
from semibody.files import first_line
from semibody.networks.attention import SpatialTransformer
from semibody.networks.layers import ResnetBlock
from semibody.networks.motion import MotionModule

TIME_WIDTH = 1280
Engine = Callable[[], Tensor]


class Level(nn.Module):
    """The layers of one resolution, once."""

    def __init__(self, width: int, frames: int) -> None:
        super().__init__()
        self.frames = frames
        self.resnet = ResnetBlock(width, width, TIME_WIDTH, 32)
        self.transformer = SpatialTransformer(width, 8, 32, None, 3.0)
        self.motion = MotionModule(width, 8, 32, 32)
        for parameter in self.parameters():
            if parameter.ndim >= 2:
                nn.init.normal_(parameter, 0.0, float(parameter[0].numel()) ** -0.5)

    def forward(self, x: Tensor, time: Tensor) -> Tensor:
        x = self.resnet(x, time)
        x = self.transformer(x, self.transformer.tokens(x))
        return self.motion(x, self.frames)


def torch_engines(level: Level, x: Tensor, t: Tensor) -> Iterator[tuple[str, Callable[[], Engine]]]:
    """Each with what prepares it."""

    def bf16() -> Engine:
        half = copied(level).to(torch.bfloat16).to(memory_format=torch.channels_last)  # type: ignore[call-overload]
        given = x.bfloat16().contiguous(memory_format=torch.channels_last), t.bfloat16()
        return lambda: half(*given)

    def by_torchao(name: str) -> Engine:
        from torchao import quantization

        half = copied(level).to(torch.bfloat16).to(memory_format=torch.channels_last)  # type: ignore[call-overload]
        quantization.quantize_(half, getattr(quantization, name)())
        given = x.bfloat16().contiguous(memory_format=torch.channels_last), t.bfloat16()
        return lambda: half(*given)

    yield "torch bf16", bf16
    yield "torch fp32", lambda: lambda: level(x, t)
    yield "torchao int8, dynamic", lambda: by_torchao("Int8DynamicActivationInt8WeightConfig")
    yield "torchao int8, weights only", lambda: by_torchao("Int8WeightOnlyConfig")


def openvino_engines(level: Level, x: Tensor, t: Tensor) -> Iterator[tuple[str, Callable[[], Engine]]]:
    """Static shapes, one stream."""

    def compiled(eight_bits: bool) -> Engine:
        import openvino

        with torch.no_grad():
            model = openvino.convert_model(level, example_input=(x, t))
        given = [x.numpy(), t.numpy()]
        if eight_bits:
            import nncf

            data = nncf.Dataset([tuple(given)], lambda item: item)
            model = nncf.quantize(model, data, model_type=nncf.ModelType.TRANSFORMER, subset_size=1)
        options = {"INFERENCE_NUM_THREADS": 1, "NUM_STREAMS": 1, "INFERENCE_PRECISION_HINT": "bf16"}
        request = openvino.Core().compile_model(model, "CPU", options).create_infer_request()

        def infer() -> Tensor:
            request.infer(given)
            return torch.from_numpy(request.get_output_tensor(0).data.copy())

        return infer

    yield "openvino bf16", lambda: compiled(False)
    yield "openvino int8, static", lambda: compiled(True)


def copied(level: Level) -> Level:
    made = Level(level.resnet.conv1.in_channels, level.frames).eval().requires_grad_(False)
    made.load_state_dict(level.state_dict())
    return made


def fastest(engine: Engine, repeats: int) -> float:
    """CPU seconds of the fastest call, after one that is not counted."""
    engine()
    times = []
    for _ in range(repeats):
        start = time.process_time()
        engine()
        times.append(time.process_time() - start)
    return min(times)


@torch.inference_mode()
def main() -> None:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--width", type=int, default=320)
    parser.add_argument(
        "--side", type=int, default=32, help="cells: 32 of a level of width 320 at 256 pixels"
    )
    parser.add_argument("--frames", type=int, default=12)
    parser.add_argument("--repeats", type=int, default=5)
    asked = parser.parse_args()
    torch.set_num_threads(1)
    runtime.prepare_cpu()
    torch.manual_seed(0)
    level = Level(asked.width, asked.frames).eval().requires_grad_(False)
    x, t = torch.randn(asked.frames, asked.width, asked.side, asked.side), torch.randn(1, TIME_WIDTH)
    with FlopCounterMode(display=False) as counter:
        wanted = level(x, t)
    for engines in (torch_engines, openvino_engines):
        for name, prepare in engines(level, x, t):
            row = {"commit": commit(), "width": asked.width, "side": asked.side, "engine": name}
            try:
                # What is traced may not be made in inference mode.
                with torch.inference_mode(engines is torch_engines):
                    engine = prepare()
                    seconds = fastest(engine, asked.repeats)
                    error = float((engine().float() - wanted).norm() / wanted.norm())
            except Exception as failure:  # an engine that is missing or cannot do it is a row too
                print(json.dumps({**row, "failed": first_line(failure)}), flush=True)
                continue
            rate = counter.get_total_flops() / seconds / 1e12
            figures = {"cpu_seconds": round(seconds, 4), "tflops": round(rate, 3), "error": round(error, 4)}
            print(json.dumps({**row, **figures}), flush=True)


if __name__ == "__main__":
    main()
