"""TFLOP of one guided 12-frame step of the full-size denoiser, counted on the meta device.

Prints one JSON line: {"256": …, "512": …, "768": …}.
"""

import json

from semibody.conditioning.flops import count_work
from semibody.networks.model import ModelConfig

GUIDANCE, FRAMES = 2.5, 12

if __name__ == "__main__":
    counted = {
        str(side): round(count_work(ModelConfig(), side, side, FRAMES).step(GUIDANCE) / 1e12, 3)
        for side in (256, 512, 768)
    }
    print(json.dumps(counted))
