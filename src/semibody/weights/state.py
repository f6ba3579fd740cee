"""Reading tensors from files without needing their memory twice, and filling modules strictly."""

from __future__ import annotations

import ctypes
import mmap
import pickle
import sys
import zipfile
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from pathlib import Path
from typing import NamedTuple

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor, nn

from semibody.types import SemibodyError

State = dict[str, Tensor]
Shapes = Mapping[str, tuple[int, ...]]


class Published(NamedTuple):
    """A network in a published file."""

    path: Path
    state: State
    """its tensors under our names"""
    skipped: tuple[str, ...] = ()
    """what the file holds beside them, by its own names"""


_NAMED_AT_MOST = 6
_LARGEST_EXPANDED = 2**27
"""Numbers of the largest tensor that may have less memory than that."""
_PRECISIONS = (torch.float64, torch.float32, torch.bfloat16, torch.float16)
"""What weights are kept in; none of the networks has tensors of whole numbers."""


def read_state(path: Path) -> State:
    """The tensors of a ``.safetensors``, ``.pth``, ``.pt``, ``.bin`` or ``.ckpt`` file, memory-mapped.

    Nothing is read from disk until a tensor is used. Raises SemibodyError, naming the file.
    """
    if not path.is_file():
        raise SemibodyError(f"{path}: no such weights file; run: semibody weights fetch official")
    refuse_placeholder(path)
    try:
        if path.suffix == ".safetensors":
            from safetensors.torch import load_file

            return load_file(path)
        # Files from before torch 1.6 are no archives and cannot be mapped.
        mapped = zipfile.is_zipfile(path)
        content = torch.load(path, map_location="cpu", weights_only=True, mmap=mapped)
    except Exception as error:  # damaged archives fail in many ways
        if isinstance(error, pickle.UnpicklingError):
            # torch's own words advise to load it unsafely.
            raise SemibodyError(
                f"{path}: holds something other than tensors, which could run code and is not loaded; "
                "fetch it again, or have it exported as safetensors"
            ) from None
        reason = (str(error) or type(error).__name__).splitlines()[0]
        raise SemibodyError(f"{path}: damaged or not a weights file ({reason}); fetch it again") from None
    if isinstance(content, dict):
        # tiny.pt of Whisper wraps its tensors; so do some training checkpoints.
        for wrapper in ("model_state_dict", "state_dict"):
            content = content.get(wrapper, content)
    if not isinstance(content, dict) or not content:
        raise SemibodyError(f"{path}: holds no named tensors; fetch it again")
    found = {
        key: value for key, value in content.items() if isinstance(key, str) and isinstance(value, Tensor)
    }
    for key, value in found.items():
        if not _is_plain(value):
            raise SemibodyError(
                f"{path}: {key} is no plain tensor with its numbers in the file; fetch it again"
            )
    return found


def _is_plain(value: Tensor) -> bool:
    """Whether a tensor is dense. It may be expanded, many places of it one number in the file, up to a size
    that no tensor of ours reaches: files could hold endless ones."""
    if value.layout != torch.strided or value.is_quantized or value.is_meta:
        return False
    return value.numel() <= max(_LARGEST_EXPANDED, value.untyped_storage().nbytes() // value.itemsize)


def refuse_placeholder(path: Path) -> None:
    """Raise SemibodyError for what is often saved under a weights file's name in its stead."""
    with path.open("rb") as file:
        start = file.read(256).lstrip().lower()
    if not start:
        raise SemibodyError(f"{path}: is empty; fetch it again")
    if start.startswith(b"version https://git-lfs"):
        raise SemibodyError(
            f"{path}: is a Git LFS pointer, not the file itself; run `git lfs pull` there, or fetch it again"
        )
    if start.startswith((b"<!doctype", b"<html", b"<?xml", b"<head", b"<body")):
        raise SemibodyError(
            f"{path}: is a web page, not a weights file; fetch it by the site's download link (on the Hub "
            "/resolve/, not /blob/)"
        )


def shapes_of(module: nn.Module) -> dict[str, tuple[int, ...]]:
    """Names and shapes that ``module`` expects."""
    return {key: tuple(value.shape) for key, value in module.state_dict().items()}


def content_of(
    module: nn.Module, read: Callable[[str], Tensor] | None = None
) -> Iterator[tuple[str, str, NDArray[np.uint8]]]:
    """Name, dtype and bytes of every tensor of a module, one after the other: for a digest of weights.

    ``read`` gives, by its name, a tensor that is not in memory.
    """
    for name, held in module.state_dict().items():
        value = read(name) if read is not None and held.is_meta else held
        # Quantised tensors are of types of their own, which have no bytes.
        plain = value if type(value) in (Tensor, nn.Parameter) else value.dequantize()
        flat = plain.detach().cpu().contiguous().flatten()
        yield name, str(value.dtype), flat.view(torch.uint8).numpy()


def check(state: Mapping[str, Tensor], expected: Shapes, source: str) -> None:
    """Raise SemibodyError that names every missing, extra or misshaped tensor (the first few of many)."""
    problems = mismatches(state, expected)
    if problems:
        raise SemibodyError(f"{source}: does not fit: {_shorten(problems)}")


def mismatches(state: Mapping[str, Tensor], expected: Shapes) -> list[str]:
    """One phrase per tensor that is missing, extra, misshaped or not a floating number."""
    problems = [f"missing {key}" for key in expected if key not in state]
    problems += [f"extra {key}" for key in state if key not in expected]
    for key, shape in expected.items():
        if key in state and tuple(state[key].shape) != shape:
            problems.append(f"{key} has shape {tuple(state[key].shape)}, not {shape}")
        elif key in state and state[key].dtype not in _PRECISIONS:
            problems.append(
                f"{key} holds {str(state[key].dtype).removeprefix('torch.')}, not floating numbers"
            )
    return problems


def _shorten(problems: list[str]) -> str:
    more = len(problems) - _NAMED_AT_MOST
    return ", ".join(problems[:_NAMED_AT_MOST]) + (f" and {more} more" if more > 0 else "")


def fill(
    module: nn.Module,
    state: State,
    *,
    dtype: torch.dtype,
    device: torch.device,
    source: str,
    on_tensor: Callable[[int], None] = lambda _: None,
) -> None:
    """Fill ``module`` (built on the meta device) tensor by tensor; ``state`` is emptied on the way.

    The file's pages are released as soon as a tensor is converted, so the peak is the model in its new
    precision plus one tensor. ``on_tensor`` is called with the bytes done. Raises SemibodyError on misfits.
    """
    check(state, shapes_of(module), source)
    assign(module, state, dtype=dtype, device=device, on_tensor=on_tensor)
    left = [name for name, value in _parameters_and_buffers(module) if value.is_meta]
    if left:
        raise SemibodyError(f"{source}: leaves {_shorten(left)} without a value")


def assign(
    module: nn.Module,
    state: State,
    *,
    dtype: torch.dtype,
    device: torch.device,
    on_tensor: Callable[[int], None] = lambda _: None,
) -> None:
    """``fill`` without its checks: ``state`` may be a part of what the module holds."""
    done, owners = 0, dict(module.named_modules())
    # Read once: a tensor that is in ``state`` now stays where it is until it is copied.
    mappings = _file_mappings()
    for key in list(state):
        mapped = state.pop(key)
        layout = torch.channels_last if mapped.ndim == 4 else torch.contiguous_format
        converted = mapped.to(device, dtype if mapped.is_floating_point() else None, copy=True)
        converted = converted.contiguous(memory_format=layout)
        # By name: ``load_state_dict`` would walk through all modules for each tensor.
        owner, _, name = key.rpartition(".")
        _put(owners[owner], name, converted)
        done += mapped.nbytes
        _release_pages(mapped, mappings)
        on_tensor(done)


def _put(owner: nn.Module, name: str, value: Tensor) -> None:
    """Put a tensor in the place of a module's own parameter or buffer of this name."""
    before = getattr(owner, name)
    if isinstance(before, nn.Parameter):
        value = nn.Parameter(value, requires_grad=before.requires_grad)
    setattr(owner, name, value)


def _parameters_and_buffers(module: nn.Module) -> Iterable[tuple[str, Tensor]]:
    yield from module.named_parameters()
    yield from module.named_buffers()


def _release_pages(tensor: Tensor, mappings: Sequence[tuple[int, int]]) -> None:
    """Drop a mapped tensor's whole pages from memory (they can be read from the file again)."""
    if sys.platform != "linux" or tensor.nbytes < mmap.PAGESIZE:
        return
    # An expanded tensor's size says nothing of its memory, and what follows may be another's.
    if not tensor.is_contiguous():
        return
    start = -(-tensor.data_ptr() // mmap.PAGESIZE) * mmap.PAGESIZE
    end = (tensor.data_ptr() + tensor.nbytes) // mmap.PAGESIZE * mmap.PAGESIZE
    # Releasing pages that no file backs would zero them.
    if end > start and any(low <= start < high for low, high in mappings):
        libc = ctypes.CDLL(None, use_errno=True)
        libc.madvise(ctypes.c_void_p(start), ctypes.c_size_t(end - start), mmap.MADV_DONTNEED)


def _file_mappings() -> list[tuple[int, int]]:
    """First and end address of each part of this process's memory that a weights file backs."""
    if sys.platform != "linux":
        return []
    found = []
    with open("/proc/self/maps", encoding="utf-8") as maps:  # noqa: PTH123 - a device, not a path
        for line in maps:
            span, access, _, _, inode, *_ = line.split(maxsplit=5)
            # Code, and what programs have written to, is no file of weights.
            if inode != "0" and "x" not in access:
                low, high = span.split("-")
                found.append((int(low, 16), int(high, 16)))
    return found
