"""Seconds of one guided step at full size with seeded random weights, as one JSON line.

    python benchmarks/step.py --size 256 --frames 12 --precision bf16

Measure on a quiet machine. ``seconds`` is the fastest of the repeats, ``median`` the middle one;
``peak_share`` is the rate reached over the machine's own best matrix product in the same precision.
"""

import argparse
import json
import statistics
import time

import torch
from machine import commit

from semibody import runtime
from semibody.conditioning.flops import count_work
from semibody.networks.model import ModelConfig
from semibody.networks.unet import DeepFeatures, UNet, UNetConfig


def random_denoiser(dtype: torch.dtype, device: torch.device, config: UNetConfig | None = None) -> UNet:
    """Seeded; full size without ``config``; built directly in its precision, so that the peak is real."""
    with torch.device("meta"):
        network = UNet(config or UNetConfig())
    network = network.to(dtype).to_empty(device=device)
    generator = torch.Generator(device).manual_seed(0)
    for name, value in network.state_dict().items():
        if value.ndim >= 2:
            value.normal_(0.0, float(value[0].numel()) ** -0.5, generator=generator)
        elif name.endswith("weight"):
            value.fill_(1.0)
        else:
            value.zero_()
    return network.eval().requires_grad_(False).to(memory_format=torch.channels_last)  # type: ignore[call-overload]


class GuidedStep:
    """A step of one window with random conditions, both halves: ``step()``, or with what they reuse."""

    def __init__(self, network: UNet, size: int, frames: int) -> None:
        weight = network.conv_in.weight
        device, dtype = weight.device, weight.dtype
        config, side = network.config, size // 8
        generator = torch.Generator(device).manual_seed(1)

        def noise(*shape: int) -> torch.Tensor:
            return torch.randn(shape, generator=generator, device=device).to(dtype)

        def tokens(name: str, width: int) -> torch.Tensor:
            last = len(config.widths) - 1
            kind, number = name.split(".", maxsplit=1)[0], int(name.split(".")[1]) if name[0] != "m" else last
            level = number if kind != "up_blocks" else last - number
            rows = -(-side // 2**level)
            return noise(1, rows * rows, width)

        appearance = {n: tokens(n, layer.block.norm1.weight.numel()) for n, layer in network.transformers()}
        self._network, self._frames = network, frames
        self._reference = network.project_reference(appearance)
        self._latents, pose = noise(frames, 4, side, side), noise(frames, config.widths[0], side, side)
        self._pose = pose.contiguous(memory_format=torch.channels_last)
        self._t = torch.tensor([500.0], device=device)
        # Once per clip.
        self._audio = network.project_audio(noise(frames, 50, config.audio_width or 1))

    def __call__(self, deep: tuple[DeepFeatures, DeepFeatures] | tuple[None, None] = (None, None)) -> None:
        """Predict; the halves keep or reuse their ``deep`` features."""
        latents, t, frames = self._latents, self._t, self._frames
        self._network(
            latents, t, frames=frames, pose=self._pose, reference=self._reference, audio=self._audio,
            deep=deep[0],
        )  # fmt: skip
        self._network(latents, t, frames=frames, deep=deep[1])


@torch.inference_mode()
def main() -> None:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--size", type=int, default=256)
    parser.add_argument("--frames", type=int, default=12)
    parser.add_argument("--precision", choices=["fp32", "bf16", "fp16"], default="bf16")
    parser.add_argument("--device", default="auto")
    parser.add_argument("--repeats", type=int, default=4)
    asked = parser.parse_args()

    device = runtime.choose_device(asked.device)
    dtype = runtime.choose_dtype(asked.precision, device)
    if device.type == "cpu":
        runtime.prepare_cpu()
    peak = runtime.matmul_tflops(dtype, device)
    network = random_denoiser(dtype, device)
    frames = asked.frames
    step = GuidedStep(network, asked.size, frames)
    step()
    times = []
    for _ in range(asked.repeats):
        start = time.perf_counter()
        step()
        if device.type == "cuda":
            torch.cuda.synchronize()
        times.append(time.perf_counter() - start)
    tflop = count_work(ModelConfig(), asked.size, asked.size, frames).step(2.5) / 1e12
    memory_peak = torch.cuda.max_memory_allocated() if device.type == "cuda" else runtime.peak_memory()
    result = {
        "commit": commit(),
        "size": asked.size,
        "frames": frames,
        "precision": asked.precision,
        "device": str(device),
        "seconds": round(min(times), 3),
        "median": round(statistics.median(times), 3),
        "tflop": round(tflop, 3),
        "matmul_peak_tflops": round(peak, 3),
        "peak_share": round(tflop / min(times) / peak, 3),
        "peak_memory_gib": round(memory_peak / 2**30, 2),
    }
    print(json.dumps(result))


if __name__ == "__main__":
    main()
