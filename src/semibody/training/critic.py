"""A critic of pictures, for what the error of pixels cannot teach: sharp fingers, folds, stripes.

    real, made = critic(truth, known), critic(pixels, known)     # how real each patch looks
    terms = duel(critic, pixels, truth, known, weight)           # what critic and maker learn from

Where several pictures may be right, the error of pixels is least for their mean, and the mean of fingers
that may lie a pixel apart is a blur; it also changes less from frame to frame than any of them. The critic
sees what was made and what is true beside all that was known, and says which is which; the maker learns to
leave it in doubt. Pairs are judged relative to each other (Jolicoeur-Martineau 2018, arXiv 1807.00734, eqs. 5
and 6); layers are kept from steep slopes by their spectral norm (Miyato et al. 2018, arXiv 1802.05957).

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
    """Convolutions that see 40 pixels across and say a number for every block of 8 pixels."""

    def __init__(self, known: int) -> None:
        """``known`` is the number of channels that are shown beside the picture."""
        super().__init__()
        first, second, last = _WIDTHS
        self.layers = nn.ModuleList(
            [
                nn.Conv2d((3 + known) * _FOLD**2, first, 3, padding=1),
                nn.Conv2d(first, second, 4, stride=2, padding=1),
                nn.Conv2d(second, last, 4, stride=2, padding=1),
                # Pairs are compared: what is added to both would not matter.
                nn.Conv2d(last, 1, 3, padding=1, bias=False),
            ]
        )

    def forward(
        self, pixels: Float[Tensor, "n 3 H W"], known: Float[Tensor, "n k H W"]
    ) -> Float[Tensor, "n 1 h w"]:
        """How real each place of a picture (−1..1) looks, given what is known of it; h = H/8, w = W/8."""
        x = F.pixel_unshuffle(torch.cat([pixels, known], dim=1), _FOLD)
        for number, layer in enumerate(self.layers):
            assert isinstance(layer, nn.Conv2d)
            x = F.conv2d(x, _levelled(layer.weight), layer.bias, layer.stride, layer.padding)
            if number + 1 < len(self.layers):
                x = F.leaky_relu(x, _LEAK)
        return x


def _levelled(weight: Float[Tensor, "o i h w"]) -> Float[Tensor, "o i h w"]:
    """The weights over their largest singular value, exactly: an estimate would be a state to keep."""
    with torch.autocast(weight.device.type, enabled=False):
        return weight / torch.linalg.matrix_norm(weight.flatten(1), ord=2)


def duel(
    critic: Critic,
    made: Float[Tensor, "n 3 H W"],
    true: Float[Tensor, "n 3 H W"],
    known: Float[Tensor, "n k H W"],
    weight: Float[Tensor, "n 1 H W"],
) -> dict[str, Tensor]:
    """``critic``: what the critic learns from; ``rival``: what the maker does. Both are ln 2 in full doubt.

    Their gradients go to one of them each, so that one sum trains both. Places count by ``weight``.
    """
    found = critic(torch.cat([true, made.detach()]), known.repeat(2, 1, 1, 1)).float()
    real, unreal = found.chunk(2)
    resting = {name: p.detach() for name, p in critic.named_parameters()}
    seen = torch.func.functional_call(critic, resting, (made, known)).float()
    places = F.adaptive_avg_pool2d(weight, (real.shape[2], real.shape[3]))
    places = places / places.mean().clamp(min=1e-6)
    return {
        "critic": (F.softplus(unreal - real) * places).mean(),
        "rival": (F.softplus(real.detach() - seen) * places).mean(),
    }


def with_critic(terms: dict[str, Tensor], judged: dict[str, Tensor], rival: float) -> dict[str, Tensor]:
    """A maker's ``terms`` and those of ``duel``, whose part joins ``loss``; without a critic as they are."""
    if not judged:
        return terms
    loss = terms["loss"] + rival * judged["rival"] + judged["critic"]
    return {**terms, **judged, "loss": loss}
