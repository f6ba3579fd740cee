"""TFLOP of one guided 12-frame step of the full-size denoiser, counted on the meta device, as one JSON line.

    {"commit": …, "256": …, "512": …, "768": …, "cache 3": {"256": …, …}}

``cache 3`` is the mean of a step that computes all layers and of two that reuse the deep ones.
"""

import json

from machine import commit

from semibody.conditioning.flops import count_work
from semibody.networks.model import ModelConfig

GUIDANCE, FRAMES, CACHE = 2.5, 12, 3

if __name__ == "__main__":
    works = {str(side): count_work(ModelConfig(), side, side, FRAMES) for side in (256, 512, 768)}
    exact = {side: round(work.step(GUIDANCE) / 1e12, 3) for side, work in works.items()}
    cached = {
        side: round(work.steps(CACHE, cache=CACHE, guided=lambda done: done < 1) / CACHE / 1e12, 3)
        for side, work in works.items()
    }
    print(json.dumps({"commit": commit(), **exact, f"cache {CACHE}": cached}))
