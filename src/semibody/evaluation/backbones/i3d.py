"""I3D (Carreira & Zisserman 2017, Kinetics-400) as FVD uses it: Unterthiner et al. 2018.

Names are those of ``i3d_pretrained_400.pt``, the converted DeepMind weights, and results are those of the
code that comes with it (VideoGPT): its batch norms have an epsilon of 1e-5, those of the first PyTorch port
(pytorch-i3d) 1e-3. The TorchScript file that goes round for the same network is not accepted: it is a
program, and a state dict holds the same numbers without being one.
"""

from __future__ import annotations

from pathlib import Path

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from semibody.evaluation.backbones.published import load_published

WIDTH, FRAMES = 400, 16
"""Numbers of a feature vector (the logits), and frames of a window."""

Triple = tuple[int, int, int]


def _pad_same(x: Tensor, kernel: Triple, stride: Triple) -> Tensor:
    """Zeros around (b, c, f, h, w) as TensorFlow's SAME: the odd one goes behind."""
    pads: list[int] = []
    for size, k, s in reversed(list(zip(x.shape[2:], kernel, stride, strict=True))):
        total = max(k - s, 0) if size % s == 0 else max(k - size % s, 0)
        pads += [total // 2, total - total // 2]
    return F.pad(x, pads)


class Unit(nn.Module):
    """Convolution with SAME padding, then batch norm and ReLU, or a bare one with bias."""

    def __init__(
        self,
        inputs: int,
        outputs: int,
        kernel: Triple = (1, 1, 1),
        stride: Triple = (1, 1, 1),
        bare: bool = False,
    ) -> None:
        super().__init__()
        self._kernel, self._stride, self._bare = kernel, stride, bare
        self.conv3d = nn.Conv3d(inputs, outputs, kernel, stride, bias=bare)
        if not bare:
            # PyTorch's default epsilon, as in the code that comes with the file.
            self.bn = nn.BatchNorm3d(outputs)

    def forward(self, x: Tensor) -> Tensor:
        x = self.conv3d(_pad_same(x, self._kernel, self._stride))
        return x if self._bare else F.relu(self.bn(x))


def _pool(x: Tensor, kernel: Triple, stride: Triple) -> Tensor:
    return F.max_pool3d(_pad_same(x, kernel, stride), kernel, stride)


class Mixed(nn.Module):
    """The four branches of an Inception-v1 block, inflated to three dimensions."""

    def __init__(self, inputs: int, widths: tuple[int, int, int, int, int, int]) -> None:
        super().__init__()
        a, b, c, d, e, f = widths
        self.b0 = Unit(inputs, a)
        self.b1a, self.b1b = Unit(inputs, b), Unit(b, c, (3, 3, 3))
        self.b2a, self.b2b = Unit(inputs, d), Unit(d, e, (3, 3, 3))
        self.b3b = Unit(inputs, f)

    def forward(self, x: Tensor) -> Tensor:
        pooled = self.b3b(_pool(x, (3, 3, 3), (1, 1, 1)))
        return torch.cat([self.b0(x), self.b1b(self.b1a(x)), self.b2b(self.b2a(x)), pooled], 1)


class I3D(nn.Module):
    """Windows (b, 3, f=16, 224, 224) in −1..1 to logits (b, 400)."""

    def __init__(self) -> None:
        super().__init__()
        self.Conv3d_1a_7x7 = Unit(3, 64, (7, 7, 7), (2, 2, 2))
        self.Conv3d_2b_1x1 = Unit(64, 64)
        self.Conv3d_2c_3x3 = Unit(64, 192, (3, 3, 3))
        self.Mixed_3b = Mixed(192, (64, 96, 128, 16, 32, 32))
        self.Mixed_3c = Mixed(256, (128, 128, 192, 32, 96, 64))
        self.Mixed_4b = Mixed(480, (192, 96, 208, 16, 48, 64))
        self.Mixed_4c = Mixed(512, (160, 112, 224, 24, 64, 64))
        self.Mixed_4d = Mixed(512, (128, 128, 256, 24, 64, 64))
        self.Mixed_4e = Mixed(512, (112, 144, 288, 32, 64, 64))
        self.Mixed_4f = Mixed(528, (256, 160, 320, 32, 128, 128))
        self.Mixed_5b = Mixed(832, (256, 160, 320, 32, 128, 128))
        self.Mixed_5c = Mixed(832, (384, 192, 384, 48, 128, 128))
        self.logits = Unit(1024, WIDTH, bare=True)

    def forward(self, x: Tensor) -> Tensor:
        x = _pool(self.Conv3d_1a_7x7(x), (1, 3, 3), (1, 2, 2))
        x = _pool(self.Conv3d_2c_3x3(self.Conv3d_2b_1x1(x)), (1, 3, 3), (1, 2, 2))
        x = _pool(self.Mixed_3c(self.Mixed_3b(x)), (3, 3, 3), (2, 2, 2))
        for name in "bcdef":
            x = getattr(self, f"Mixed_4{name}")(x)
        x = self.Mixed_5c(self.Mixed_5b(_pool(x, (2, 2, 2), (2, 2, 2))))
        x = self.logits(F.avg_pool3d(x, (2, 7, 7), stride=1))
        return x.mean(dim=(2, 3, 4))


def load_i3d(path: Path) -> I3D:
    """Fill the network from a published state dict. Raises SemibodyError."""
    return load_published(I3D(), path)
