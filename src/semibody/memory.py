"""How much memory a clip needs with each ``--memory``, and which of them fits a device.

    sizes = sizes_of(model)
    needed(sizes, settings, frames, bytes_per_number=2)      # {"full": 7.2e9, "low": 4.9e9, "lowest": 2.6e9}
    choose("auto", sizes, settings, frames, dtype, device)   # the first of them that fits

Estimates, beside what a process holds anyway; ``benchmarks/memory.py`` compares them with measurements.
``networks.turns`` does what they describe.
"""

from __future__ import annotations

import functools
import math
from dataclasses import dataclass
from typing import get_args

import torch

from semibody import runtime
from semibody.conditioning.clip import cache_bytes
from semibody.diffusion.sample import COPIES, WAITING
from semibody.diffusion.state import STEP_FRAMES
from semibody.diffusion.windows import ring_windows
from semibody.networks.audio_encoders import AudioEncoder
from semibody.networks.model import Model, ModelConfig
from semibody.networks.slices import SLICE
from semibody.networks.turns import LARGE, blocks_of
from semibody.networks.unet import UNet
from semibody.settings import Settings
from semibody.types import Memory, SemibodyError

MEMORIES: tuple[Memory, ...] = get_args(Memory)
"""What ``--memory`` may be, beside auto: each needs less than the one before."""
FITS = 0.9
"""Share of the free memory that an estimate may take."""
WHOLE, SLICED = 12, 28
"""Numbers alive at the peak of a U-Net's pass, for each cell of the latents and of the first width: of whole
windows, and of what is computed slice by slice where a window is larger than a slice (measured on a CPU)."""
SLICES = 7 * SLICE
"""Most bytes of the latter."""
GAPS = 0.08
"""Memory that lies free between weights, as a share of them (measured on a CPU)."""
BLOCK_GAPS = 0.6
"""The same where blocks come and go, as a share of their network's weights."""
DECODED = 8
"""The same of a decoder's pass, for each pixel and its first width."""


@dataclass(frozen=True)
class Choice:
    """A ``--memory``, and why."""

    memory: Memory
    needed: dict[Memory, float]
    """estimated bytes of each"""
    free: int
    """bytes of the device"""

    def fits(self, memory: Memory) -> bool:
        return self.needed[memory] <= FITS * self.free

    def table(self) -> str:
        """What each takes on the device, and whether it fits."""
        each = [
            f"{memory} {_gib(count)}{'' if self.fits(memory) else ' (does not fit)'}"
            for memory, count in self.needed.items()
        ]
        return f"{', '.join(each)}, beside the runtime; {_gib(self.free)} are free"

    def line(self) -> str:
        """One line for the user."""
        free = f"of the {_gib(self.free)} that are free"
        if self.memory == "full":
            return f"--memory full: takes about {_gib(self.needed['full'])} {free}"
        above = MEMORIES[MEMORIES.index(self.memory) - 1]
        return (
            f"--memory {self.memory}: takes about {_gib(self.needed[self.memory])} {free}, "
            f"{above} would take {_gib(self.needed[above])}"
        )


@dataclass(frozen=True)
class Sizes:
    """What memory depends on of a model."""

    config: ModelConfig
    held: dict[str, int]
    """parameters of each network"""
    least: dict[str, int]
    """the same, where of U-Nets one block is in memory at a time"""
    kept_frame: int
    """numbers of one frame's audio keys and values"""


def sizes_of(model: Model) -> Sizes:
    """The sizes of a model, whether it holds weights or not."""
    networks = dict(model.named_children())  # not asked for by name: they may take turns
    held = {name: _count(network) for name, network in networks.items()}
    least, projected = dict(held), 0
    for name, network in networks.items():
        if isinstance(network, UNet):
            blocks = [_count(block) for block in blocks_of(network).values()]
            least[name] -= sum(blocks) - max(blocks)
            if name == "denoising_unet":
                layers = [layer for _, layer in network.transformers()]
                projected = sum(2 * layer.norm.num_channels for layer in layers)
    audio = networks["audio_encoder"]
    assert isinstance(audio, AudioEncoder)
    return Sizes(model.config, held, least, projected * audio.tokens_per_frame)


@functools.lru_cache(maxsize=16)
def sizes(config: ModelConfig) -> Sizes:
    """The sizes of a model that is not built yet."""
    with torch.device("meta"):
        return sizes_of(Model(config))


def check(asked: str) -> None:
    """Raise SemibodyError for an unknown ``--memory``."""
    if asked not in ("auto", *MEMORIES):
        raise SemibodyError(f"--memory {asked} is unknown; choose auto, {', '.join(MEMORIES)}")


def choose(
    asked: str,
    sizes: Sizes,
    settings: Settings,
    frames: int,
    dtype: torch.dtype,
    device: torch.device,
    *,
    held: float = 0.0,
) -> Choice:
    """What ``asked`` means here; auto is the first that fits, else the lowest.

    ``held``: bytes that these networks hold already. Raises SemibodyError for an unknown name.
    """
    check(asked)
    need = needed(sizes, settings, frames, bytes_per_number=dtype.itemsize)
    choice = Choice("lowest", need, int(runtime.free_memory(device) + held))
    wanted = [memory for memory in MEMORIES if asked == memory or (asked == "auto" and choice.fits(memory))]
    return Choice(wanted[0] if wanted else "lowest", need, choice.free)


def lower(memory: Memory) -> Memory | None:
    """The next one that needs less; None: there is none."""
    return MEMORIES[MEMORIES.index(memory) + 1] if memory != MEMORIES[-1] else None


def needed(sizes: Sizes, settings: Settings, frames: int, *, bytes_per_number: int) -> dict[Memory, float]:
    """Bytes that a clip of ``frames`` frames takes at its peak, weights included, by ``--memory``."""
    model, held, least = sizes.config, sizes.held, sizes.least
    pixels = math.prod(model.working_size(settings.height, settings.width))
    cells, window = pixels // model.vae.factor**2, min(settings.window, frames)
    # The widest layers of a window, and the decoder's of one frame, are alive at the peak.
    decoded = pixels * model.vae.widths[0] * DECODED

    def alive(frames: int) -> float:
        widest = frames * cells * model.unet.widths[0]
        return widest * WHOLE + min(widest * SLICED, SLICES / bytes_per_number)

    stages = {"reference_unet": alive(1), "denoising_unet": alive(window), "vae": decoded}
    small = sum(count for name, count in held.items() if name not in LARGE)
    gaps = {name: (BLOCK_GAPS if least[name] < held[name] else GAPS) * held[name] for name in stages}
    peaks: dict[Memory, float] = {
        "full": (1 + GAPS) * sum(held.values()) + max(stages.values()),
        "low": small + max((1 + GAPS) * held[name] + stage for name, stage in stages.items()),
        "lowest": small + max(least[name] + gaps[name] + stage for name, stage in stages.items()),
    }
    latents = 4 * model.vae.latent_channels * cells
    waiting = min(frames, WAITING * STEP_FRAMES)
    kept = bytes_per_number * (model.pose_encoder.out_channels * cells + sizes.kept_frame)
    # Of one window, whatever the limit is.
    cached = max(window * kept, min(frames * kept, 2 * cache_bytes(settings.steps)))
    whole_clip = (frames * COPIES[settings.solver] + waiting) * latents + cached
    if settings.cache > 1 and settings.steps > 1:
        from semibody.conditioning.flops import count_work  # imports a compiler, and takes seconds

        deep = count_work(model, settings.height, settings.width, window).deep_frame * bytes_per_number
        windows = len(ring_windows(frames, settings.window, settings.overlap))
        whole_clip += windows * window * (2 if settings.guidance > 1 else 1) * deep
    return {memory: peak * bytes_per_number + whole_clip for memory, peak in peaks.items()}


def _count(module: torch.nn.Module) -> int:
    return sum(parameter.numel() for parameter in module.parameters())


def _gib(count: float) -> str:
    return f"{count / 2**30:.1f} GiB"
