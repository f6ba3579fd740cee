"""The machine: which device and precision to use, and how memory is kept (floor 1).

``prepare_cpu`` matters more than any operator on CPUs: by default the C library returns every large
buffer to the system when it is freed, and a diffusion network allocates hundreds of them a
second, so each operation waits for new pages. Keeping freed memory makes wide layers several
times faster (``make bench-step`` shows it).
"""

from __future__ import annotations

import contextlib
import ctypes
import functools
import os
import platform
import shutil
import sys
import time
from pathlib import Path
from typing import TYPE_CHECKING

from semibody.types import SemibodyError

if TYPE_CHECKING:
    import torch

PRECISIONS = {"fp32": "float32", "bf16": "bfloat16", "fp16": "float16"}
"""Names of precisions, and what torch calls them."""
EIGHT_BITS = {"int8": (8, 0), "fp8": (8, 9)}
"""Precisions of linear layers alone (``networks.quantised``), and the least CUDA capability they need."""
_M_TRIM_THRESHOLD, _M_TOP_PAD, _M_MMAP_MAX = -1, -2, -4


def choose_device(device: str = "auto") -> torch.device:
    """``auto``: CUDA, else Apple's GPU, else the CPU. Raises SemibodyError for a device that is not there."""
    import torch

    if device == "auto":
        if not torch.cuda.is_available():
            return torch.device("mps" if torch.backends.mps.is_available() else "cpu")
        device = "cuda"
    try:
        # On some devices ("meta") numbers are never computed.
        if float(torch.ones(1, device=device).sum()) != 1:
            raise RuntimeError("it does not compute")
        return torch.device(device)
    except (RuntimeError, AssertionError, NotImplementedError) as error:
        reason = str(error).splitlines()[0].split(". ")[0].split(" (")[0][:120]
        remedy = "try --device cpu"
        if "kernel image" in reason or "not compatible" in reason:
            remedy = "install a PyTorch that is built for this GPU (a newer one for a new GPU), or " + remedy
        raise SemibodyError(f"--device {device} cannot be used here ({reason}); {remedy}") from None


def several_devices(names: str) -> list[str]:
    """The devices of ``cuda:0,cuda:1``. Raises SemibodyError, naming the one that is not there."""
    devices = [name.strip() for name in names.split(",") if name.strip()]
    if not devices:
        raise SemibodyError("--devices: name the devices, for example cuda:0,cuda:1")
    for device in devices:
        choose_device(device)
    return devices


def unused_gpu() -> str:
    """What is wrong where a GPU of NVIDIA is in the machine and PyTorch cannot use any; else ""."""
    import torch

    driver = Path("/proc/driver/nvidia/version").exists() or shutil.which("nvidia-smi") is not None
    if not driver or torch.cuda.is_available():
        return ""
    if torch.version.cuda is None:
        return "an NVIDIA GPU is here, but this PyTorch computes on CPUs only; install one built for CUDA"
    return f"PyTorch cannot use the NVIDIA GPU; update its driver to one for CUDA {torch.version.cuda}"


OUT_OF_MEMORY = "not enough memory"
"""How every message about a full memory begins."""


def out_of_memory(*, lower: str | None = None) -> str:
    """What to say of a full memory; ``lower``: a --memory that takes less."""
    first = f"use --memory {lower}, lower" if lower else "lower"
    return f"{OUT_OF_MEMORY}; {first} --size or --context, use --precision bf16, or close other programs"


def is_out_of_memory(error: BaseException) -> bool:
    """Whether an error is that of a full memory, the machine's or a GPU's."""
    text = str(error).lower()
    words = ("out of memory", "can't allocate memory", OUT_OF_MEMORY)
    return isinstance(error, MemoryError) or any(word in text for word in words)


def name_of(dtype: torch.dtype) -> str:
    """The precision's name, as ``choose_dtype`` takes it. Raises KeyError for one that weights never have."""
    return {torchs: name for name, torchs in PRECISIONS.items()}[str(dtype).removeprefix("torch.")]


def choose_dtype(precision: str, device: torch.device) -> torch.dtype:
    """What networks compute in: ``auto``, ``fp32``, ``bf16``, ``fp16``; with ``int8`` and ``fp8`` all but
    some layers. Raises SemibodyError for another name, or a device that cannot compute in it.

    ``auto`` is bf16 where the processor computes in it, fp16 on other GPUs, else fp32.
    """
    import torch

    if precision in EIGHT_BITS:
        _require_eight_bits(precision, device)
    elif precision != "auto":
        if precision not in PRECISIONS:
            raise SemibodyError(
                f"--precision {precision} is unknown; choose auto, fp32, bf16, fp16, int8 or fp8"
            )
        if precision == "fp16" and device.type == "cpu":
            raise SemibodyError("--precision fp16 does not work on a CPU; choose bf16 or fp32")
        dtype: torch.dtype = getattr(torch, PRECISIONS[precision])
        return dtype
    if device.type == "cuda":
        return torch.bfloat16 if cuda_has_bf16() else torch.float16
    if device.type == "mps":
        return torch.float16
    return torch.bfloat16 if cpu_has_bf16() else torch.float32


def _require_eight_bits(precision: str, device: torch.device) -> None:
    import torch

    if device.type != "cuda":
        raise SemibodyError(f"--precision {precision} needs an NVIDIA GPU; choose bf16 or fp32")
    if torch.cuda.get_device_capability(device) < EIGHT_BITS[precision]:
        remedy = "int8 or bf16" if precision == "fp8" else "fp16"
        raise SemibodyError(f"--precision {precision} is not known to this GPU; choose {remedy}")


def cuda_has_bf16() -> bool:
    """Whether the GPU computes in bfloat16 itself: older ones emulate it, at a fraction of fp16's speed."""
    import torch

    return torch.cuda.is_bf16_supported(including_emulation=False)


@functools.cache
def cpu_has_bf16() -> bool:
    """Whether this CPU multiplies bfloat16 natively (AMX or AVX512-BF16 on Intel and AMD, or ARM's bf16)."""
    if sys.platform == "linux":
        try:
            with open("/proc/cpuinfo", encoding="utf-8") as info:  # noqa: PTH123 - a device, not a path
                flags = info.read()
        except OSError:
            return False
        return any(flag in flags for flag in ("amx_bf16", "avx512_bf16", " bf16 "))
    return False


def prepare(device: torch.device) -> None:
    """To be called before networks run on a device: ``prepare_cpu``, or ``ask_determinism`` for CUDA."""
    if device.type == "cpu":
        prepare_cpu()
    elif device.type == "cuda":
        ask_determinism()


def ask_determinism() -> None:
    """Have this process compute with deterministic CUDA kernels; where there is none, PyTorch warns of it.

    CPU kernels are deterministic as they are, for one number of threads.
    """
    import torch

    os.environ.setdefault("CUBLAS_WORKSPACE_CONFIG", ":4096:8")  # or cuBLAS picks by what streams do
    torch.backends.cudnn.benchmark = False
    torch.backends.cudnn.deterministic = True
    torch.use_deterministic_algorithms(True, warn_only=True)
    # To fill new memory costs time, and nothing reads what it has not written.
    torch.utils.deterministic.fill_uninitialized_memory = False  # type: ignore[attr-defined]


@functools.cache
def prepare_cpu() -> None:
    """Keep freed memory for the next allocation, instead of returning it page by page (glibc only)."""
    if platform.libc_ver()[0] != "glibc":
        return
    libc = ctypes.CDLL(None)
    libc.mallopt(_M_MMAP_MAX, 0)
    libc.mallopt(_M_TRIM_THRESHOLD, 2**31 - 1)
    libc.mallopt(_M_TOP_PAD, 64 * 2**20)


def give_back(device: torch.device) -> None:
    """Return freed memory, which is otherwise kept for what comes next, to the system or the driver."""
    import torch

    if device.type == "cuda":
        torch.cuda.empty_cache()
    if platform.libc_ver()[0] == "glibc":
        ctypes.CDLL(None).malloc_trim(0)


def free_memory(device: torch.device) -> int:
    """Bytes that a device has free; the machine's, where its memory is the device's."""
    import torch

    if device.type == "cuda":
        return torch.cuda.mem_get_info(device)[0]
    import psutil

    return min([psutil.virtual_memory().available, *_free_in_groups()])


_LIMITS = (
    ("memory.max", "memory.current", "inactive_file"),
    ("memory.limit_in_bytes", "memory.usage_in_bytes", "total_inactive_file"),
)
"""What control groups of Linux, of version 2 and 1, call their limit, what counts towards it, and the part of
that which is freed when it is needed."""


def _free_in_groups(root: Path = Path("/sys/fs/cgroup"), own: Path = Path("/proc/self/cgroup")) -> list[int]:
    """Bytes that each control group around this process leaves it: containers have such limits."""
    try:
        lines = [line.split(":", 2) for line in own.read_text(encoding="utf-8").splitlines()]
    except OSError:
        return []
    found = []
    for _, controllers, path in lines:
        if controllers and "memory" not in controllers.split(","):
            continue
        top = root / "memory" if controllers else root
        group = top / path.lstrip("/")
        for folder in (group, *group.parents):
            if folder.is_relative_to(top):
                found += _free_in_group(folder)
    return found


def _free_in_group(folder: Path) -> list[int]:
    """What one control group leaves, if it has a limit."""
    for limit, used, freed in _LIMITS:
        try:
            most, now = (int((folder / name).read_text(encoding="utf-8")) for name in (limit, used))
            stat = (folder / "memory.stat").read_text(encoding="utf-8").splitlines()
            return [most - now + next((int(line.split()[1]) for line in stat if line.split()[0] == freed), 0)]
        except (OSError, ValueError, IndexError):  # no such file, or "max": no limit
            continue
    return []


def matmul_tflops(
    dtype: torch.dtype, device: torch.device, seconds: float = 0.5, *, largest: int = 4096
) -> float:
    """This machine's own peak: the best rate over several sizes of matrix product, in TFLOP/s.

    ``largest`` is the side of the largest product; 1024 takes under a second even on a busy CPU.
    """
    import torch

    best = 0.0
    with torch.inference_mode():
        for rows, inner, columns in ((largest,) * 3, (3 * largest, 320, 1280), (3072, 640, largest * 5 // 8)):
            a = torch.randn(rows, inner, device=device).to(dtype)
            b = torch.randn(columns, inner, device=device).to(dtype)
            torch.nn.functional.linear(a, b)
            until = time.perf_counter() + seconds / 3
            while True:
                _synchronise(device)
                start = time.perf_counter()
                torch.nn.functional.linear(a, b)
                _synchronise(device)
                now = time.perf_counter()
                best = max(best, 2e-12 * rows * inner * columns / (now - start))
                if now > until:
                    break
    return best


def attention_kernels(dtype: torch.dtype, device: torch.device, width: int = 40) -> list[str]:
    """Which of torch's kernels compute attention here for heads of ``width`` channels; torch picks one."""
    import warnings

    import torch
    from torch.nn.attention import SDPBackend, sdpa_kernel

    q = torch.zeros(1, 8, 64, width, device=device, dtype=dtype)
    found = []
    for name, kernel in (
        ("cuDNN", SDPBackend.CUDNN_ATTENTION),
        ("flash", SDPBackend.FLASH_ATTENTION),
        ("memory-efficient", SDPBackend.EFFICIENT_ATTENTION),
        ("plain", SDPBackend.MATH),
    ):
        with contextlib.suppress(RuntimeError), warnings.catch_warnings(), torch.inference_mode():
            warnings.simplefilter("ignore")  # they say why a kernel cannot be used
            with sdpa_kernel(kernel):
                torch.nn.functional.scaled_dot_product_attention(q, q, q)
            found.append(name)
    return found


def _synchronise(device: torch.device) -> None:
    import torch

    if device.type == "cuda":
        torch.cuda.synchronize(device)


def peak_memory() -> int:
    """Bytes of the largest resident size this process has had."""
    import resource

    peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    return peak if sys.platform == "darwin" else peak * 1024
