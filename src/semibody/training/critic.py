"""A critic (discriminator) of pictures, and the adversarial loss it gives: sharp fingers, folds, stripes.

    real, fake = critic(true, condition), critic(predicted, condition)             # logits of each patch
    terms = adversarial_losses(critic, predicted, true, condition, weight)

Where several pictures are plausible, the error of pixels is smallest for their mean. The mean of fingers that
may lie a pixel apart is blurred, and it changes less from frame to frame than any of them. The critic is
given predicted and true pictures, both with their condition, and learns to distinguish them; the predicting
network learns to make them indistinguishable. The loss is relativistic, it compares pairs (Jolicoeur-
Martineau 2018, arXiv 1807.00734, eqs. 5 and 6). Layers are normalised by their spectral norm (Miyato et al.
2018, arXiv 1802.05957).

It is for small models and neither in the paper nor in the published code; it is not part of the weights.
"""

from __future__ import annotations

import torch
import torch.nn.functional as F
from jaxtyping import Float
from torch import Tensor, nn

_WIDTHS = (32, 64, 96)
_FOLD = 2
"""Side of the pixel blocks that become channels first."""
_LEAK = 0.2


class Critic(nn.Module):
    """Convolutions with a receptive field of 40 pixels that predict a logit for every block of 8 pixels."""

    def __init__(self, condition: int) -> None:
        """``condition``: channels of the condition, which are concatenated with the picture's."""
        super().__init__()
        first, second, last = _WIDTHS
        self.layers = nn.ModuleList(
            [
                nn.Conv2d((3 + condition) * _FOLD**2, first, 3, padding=1),
                nn.Conv2d(first, second, 4, stride=2, padding=1),
                nn.Conv2d(second, last, 4, stride=2, padding=1),
                # Pairs are compared, so a bias would cancel.
                nn.Conv2d(last, 1, 3, padding=1, bias=False),
            ]
        )

    def forward(
        self, pixels: Float[Tensor, "n 3 H W"], condition: Float[Tensor, "n k H W"]
    ) -> Float[Tensor, "n 1 h w"]:
        """Logits: how real each block of a picture (−1..1) is, given its condition; h = H/8, w = W/8."""
        x = F.pixel_unshuffle(torch.cat([pixels, condition], dim=1), _FOLD)
        for number, layer in enumerate(self.layers):
            assert isinstance(layer, nn.Conv2d)
            x = F.conv2d(x, _normalised(layer.weight), layer.bias, layer.stride, layer.padding)
            if number + 1 < len(self.layers):
                x = F.leaky_relu(x, _LEAK)
        return x


def _normalised(weight: Float[Tensor, "o i h w"]) -> Float[Tensor, "o i h w"]:
    """The weights over their exact largest singular value: an estimate would be one more state to keep."""
    with torch.autocast(weight.device.type, enabled=False):
        return weight / torch.linalg.matrix_norm(weight.flatten(1), ord=2)


def adversarial_losses(
    critic: Critic,
    predicted: Float[Tensor, "n 3 H W"],
    true: Float[Tensor, "n 3 H W"],
    condition: Float[Tensor, "n k H W"],
    weight: Float[Tensor, "n 1 H W"],
) -> dict[str, Tensor]:
    """``critic``: the critic's loss; ``adversarial``: the loss of the network that predicted the pictures.

    Both are ln 2 when the critic cannot distinguish predicted from true. Each has gradients for its own
    network only, so their sum trains both. Blocks are weighted by ``weight``.
    """
    logits = critic(torch.cat([true, predicted.detach()]), condition.repeat(2, 1, 1, 1)).float()
    real, fake = logits.chunk(2)
    frozen = {name: p.detach() for name, p in critic.named_parameters()}
    through_frozen = torch.func.functional_call(critic, frozen, (predicted, condition)).float()
    blocks = F.adaptive_avg_pool2d(weight, (real.shape[2], real.shape[3]))
    blocks = blocks / blocks.mean().clamp(min=1e-6)
    return {
        "critic": (F.softplus(fake - real) * blocks).mean(),
        "adversarial": (F.softplus(real.detach() - through_frozen) * blocks).mean(),
    }


def add_adversarial(
    terms: dict[str, Tensor], adversarial: dict[str, Tensor], weight: float
) -> dict[str, Tensor]:
    """A network's ``terms`` and those of ``adversarial_losses``, summed in ``loss``, the adversarial one with
    its ``weight``. Without a critic (an empty ``adversarial``) the terms are unchanged."""
    if not adversarial:
        return terms
    loss = terms["loss"] + weight * adversarial["adversarial"] + adversarial["critic"]
    return {**terms, **adversarial, "loss": loss}
