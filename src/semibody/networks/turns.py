"""Weights in memory only while they are computed with: large networks take turns, blocks of the denoiser too.

    model.turns = Turns(networks, read, dtype=dtype, device=device, memory="low")
    model.vae            # now in memory; reference network and denoiser are not

``low``: of the networks in ``LARGE`` one at a time is in memory, whichever was asked for last. ``lowest``:
moreover, the blocks of a U-Net (``blocks_of``) come one by one. On a CPU each is converted from the
memory-mapped file for its forward pass, and dropped after it; on CUDA diffusers' group offloading copies
those of the denoiser from the machine's memory, each while the one before is computed. What is computed is
the same, bit for bit: weights have the values and the layout they always have.
"""

from __future__ import annotations

import functools
import gc
from collections.abc import Callable, Mapping
from typing import Any

import torch
from torch import Tensor, nn

from semibody import runtime
from semibody.networks.attention import FeedForward
from semibody.networks.layers import ResnetBlock
from semibody.networks.motion import MotionModule
from semibody.types import Memory, MissingPartError
from semibody.weights import state

LARGE = ("reference_unet", "denoising_unet", "vae")
"""The networks that take turns."""
BLOCKS = (ResnetBlock, MotionModule, FeedForward)
"""What comes one by one: most of a U-Net's weights, and nothing that is asked for but by a forward pass.
Projections of keys and values are: once per clip, and per group of frames."""
Read = Callable[[str], state.State]
"""The tensors of a network by its name, memory-mapped."""


class Turns:
    """Which of a model's large networks is in memory."""

    def __init__(
        self,
        networks: Mapping[str, nn.Module],
        read: Read,
        *,
        dtype: torch.dtype,
        device: torch.device,
        memory: Memory,
    ) -> None:
        """``networks``: the large ones, by name; what they hold is dropped. Raises SemibodyError for weights
        that do not fit, and a device that cannot do it."""
        self.dtype, self.device, self.memory = dtype, device, memory
        self._networks, self._read, self._now = dict(networks), read, ""
        self._looked_at: tuple[str, state.State] = ("", {})
        """the last network of ``tensor``, mapped"""
        for name, network in self._networks.items():
            state.check(read(name), state.shapes_of(network), name)
            self._drop(name)
        self._stays = ""
        """a network that takes no turns, because its blocks do"""
        self._read_by_block: list[str] = []
        if memory == "lowest" and device.type == "cuda":
            self._stays = "denoising_unet"
            _offload(self._networks[self._stays], read(self._stays), dtype, device)
        elif memory == "lowest":
            self._read_by_block = [name for name in self._networks if name != "vae"]
            for name in self._read_by_block:
                _read_by_block(self._networks[name], read(name), dtype, device)

    def take(self, name: str) -> None:
        """Have the network ``name`` in memory, if it takes turns, and no other."""
        if name not in self._networks or name == self._now:
            return
        if self._now not in ("", self._stays):
            self._drop(self._now)
        self._now = ""
        if name != self._stays:
            self._fill(name)
        self._now = name

    def tensor(self, name: str) -> Tensor:
        """A tensor that is not in memory, by its name in the model, as it would be there."""
        network, _, key = name.partition(".")
        if self._looked_at[0] != network:
            self._looked_at = network, self._read(network)  # a file is opened once for all of its tensors
        return self._looked_at[1][key].to(self.dtype)

    def _fill(self, name: str) -> None:
        network, tensors = self._networks[name], self._read(name)
        if name in self._read_by_block:
            tensors = _rest(tensors, blocks_of(network))
        _fill(network, tensors, self.dtype, self.device)

    def _drop(self, name: str) -> None:
        _forget(self._networks[name])
        gc.collect()
        runtime.give_back(self.device)


def blocks_of(network: nn.Module) -> dict[str, nn.Module]:
    """The blocks of a network that come one by one, by name, none within another."""
    found: dict[str, nn.Module] = {}
    for name, module in network.named_modules():
        if isinstance(module, BLOCKS) and not any(name.startswith(f"{outer}.") for outer in found):
            found[name] = module
    return found


def _forget(module: nn.Module) -> None:
    """Keep a module's names and shapes, and none of its values."""
    with torch.inference_mode(mode=False):
        module.to("meta")


def _fill(module: nn.Module, tensors: state.State, dtype: torch.dtype, device: torch.device) -> None:
    """Fill a module, or a part of it."""
    # Not with inference tensors: somebody may compute with them outside of that mode.
    with torch.inference_mode(mode=False):
        state.assign(module, tensors, dtype=dtype, device=device)
        module.requires_grad_(False)


def _rest(tensors: state.State, blocks: Mapping[str, nn.Module]) -> state.State:
    """Take the tensors outside of ``blocks`` out of a network's."""
    return {key: tensors.pop(key) for key in list(tensors) if not _block_of(key, blocks)}


def _block_of(key: str, blocks: Mapping[str, nn.Module]) -> str:
    return next((name for name in blocks if key.startswith(f"{name}.")), "")


# -- from the file, block by block ----------------------------------------------------------------


def _read_by_block(
    network: nn.Module, tensors: state.State, dtype: torch.dtype, device: torch.device
) -> None:
    """Have each block filled before its forward pass, and emptied after it."""
    for name, block in blocks_of(network).items():
        mapped = {key[len(name) + 1 :]: tensors[key] for key in tensors if key.startswith(f"{name}.")}
        block.register_forward_pre_hook(functools.partial(_come, mapped, dtype, device))
        block.register_forward_hook(_go, always_call=True)


def _come(
    mapped: state.State,
    dtype: torch.dtype,
    device: torch.device,
    block: nn.Module,
    inputs: Any,  # noqa: ARG001
) -> None:
    _fill(block, dict(mapped), dtype, device)  # a copy: it is emptied


def _go(block: nn.Module, inputs: Any, output: Any) -> None:  # noqa: ARG001
    _forget(block)


# -- from the machine's memory to a GPU -----------------------------------------------------------


class _Blocks(nn.Module):
    """A network as diffusers' hooks want it: a list of blocks, and a forward pass that calls them."""

    def __init__(self, network: nn.Module) -> None:
        super().__init__()
        self.blocks = nn.ModuleList(blocks_of(network).values())
        self.first = network.conv_in  # hooks learn the order of blocks only beside something else
        self._whole = network.forward  # no module, so that its parts are not this one's

    def forward(self, *inputs: Any, **named: Any) -> Any:
        return self._whole(*inputs, **named)


def _offload(network: nn.Module, tensors: state.State, dtype: torch.dtype, device: torch.device) -> None:
    """Fill a network whose blocks lie in the machine's memory and are copied to ``device`` for their forward
    pass, on CUDA each while the one before is computed. Raises MissingPartError without accelerate."""
    try:
        import accelerate  # noqa: F401 - diffusers' hooks use it
        from diffusers.hooks import apply_group_offloading
    except ImportError:
        raise MissingPartError(
            "--memory lowest on a GPU needs accelerate: pip install 'semibody[train]'; or use --memory low"
        ) from None
    blocks = blocks_of(network)
    _fill(network, _rest(tensors, blocks), dtype, device)
    _fill(network, tensors, dtype, torch.device("cpu"))
    whole = _Blocks(network)
    streams = device.type == "cuda"
    apply_group_offloading(
        whole,
        onload_device=device,
        offload_device=torch.device("cpu"),
        offload_type="block_level",
        num_blocks_per_group=1,
        use_stream=streams,
        # Without it pinned memory would hold every weight a second time.
        low_cpu_mem_usage=streams,
    )
    network.forward = functools.partial(whole)
