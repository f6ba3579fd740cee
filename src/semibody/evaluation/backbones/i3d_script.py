"""The I3D of StyleGAN-V's FVD: the TorchScript file that goes round as ``i3d_torchscript.pt``.

A TorchScript file is a program, so only this one is loaded, and only if its bytes are those whose sha256 is
known here; any other is refused unopened. It scales frames to 224 × 224 itself (the aspect is not kept) and
holds the weights of TensorFlow Hub's I3D, which differ from those of ``i3d.py``.
"""

from __future__ import annotations

import hashlib
import io
import warnings
from collections.abc import Callable
from pathlib import Path

import torch
from jaxtyping import Float, UInt8
from torch import Tensor

from semibody.files import read_bytes
from semibody.types import SemibodyError
from semibody.weights.parts import PARTS

WIDTH = 400
"""Numbers of a feature vector (the logits)."""

_LARGEST = 2**28
"""Bytes that are read at most; the known file has 51 235 320."""

Detector = Callable[[UInt8[Tensor, "b 3 f h w"]], Float[Tensor, "b 400"]]


def load_i3d_script(path: Path, device: str = "cpu") -> Detector:
    """Windows of RGB frames, 0..255, to logits, as StyleGAN-V asks for them.

    Raises SemibodyError, before anything of the file is run, unless it is the known one.
    """
    remedy = "run: semibody weights fetch i3d-torchscript"
    content = read_bytes(path, remedy, _LARGEST)
    if hashlib.sha256(content).hexdigest() != PARTS["i3d-torchscript"].sha256:
        raise SemibodyError(f"{path}: is not the known file and, being a program, is not loaded; {remedy}")
    with warnings.catch_warnings():
        # torch.export cannot read what this file is.
        warnings.simplefilter("ignore", DeprecationWarning)
        network = torch.jit.load(io.BytesIO(content), map_location=device).eval()

    def logits(windows: UInt8[Tensor, "b 3 f h w"]) -> Float[Tensor, "b 400"]:
        found: Tensor = network(windows, rescale=True, resize=True, return_features=True)
        return found

    return logits
