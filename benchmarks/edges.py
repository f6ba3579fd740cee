"""How much of what Canny calls an edge L_detail's soft map sees, by threshold and softness.

    python benchmarks/edges.py PICTURES [--size 768] [--most 28]

``edges``: share of Canny's edge pixels (thresholds 100 and 200) above 0.5 in the soft map; ``flat``: the same
of pixels more than 3 from any edge; ``mean``: what the map is on average. The map should be near 1 on edges
and near 0 elsewhere.
"""

from __future__ import annotations

import argparse
from collections.abc import Sequence
from pathlib import Path

import cv2
import numpy as np
import torch
from numpy.typing import NDArray

from semibody.media import read_image, resize_image
from semibody.training.losses import edge_magnitude
from semibody.types import Picture

CANNY = (100, 200)
CHOICES = ((0.25, 0.08), (0.15, 0.05), (0.12, 0.04), (0.10, 0.03), (0.10, 0.02), (0.08, 0.025))
ENDINGS = (".png", ".jpg", ".jpeg", ".webp")


def magnitudes(pictures: Sequence[Picture]) -> tuple[NDArray[np.float32], NDArray[np.float32]]:
    """The magnitudes that L_detail sees on Canny's edges, and far from them."""
    edges, flat = [], []
    for picture in pictures:
        found = cv2.Canny(cv2.cvtColor(picture, cv2.COLOR_RGB2GRAY), *CANNY) > 0
        near = cv2.dilate(found.astype(np.uint8), np.ones((7, 7), np.uint8)) > 0
        pixels = torch.from_numpy(picture.copy()).permute(2, 0, 1)[None].float() / 127.5 - 1
        magnitude = edge_magnitude(pixels)[0, 0].numpy()
        edges.append(magnitude[found])
        flat.append(magnitude[~near])
    return np.concatenate(edges), np.concatenate(flat)


def main() -> None:
    ask = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    ask.add_argument("pictures", type=Path, help="folder of pictures")
    ask.add_argument("--size", type=int, default=768)
    ask.add_argument("--most", type=int, default=28)
    given = ask.parse_args()
    paths = sorted(path for path in given.pictures.iterdir() if path.suffix.lower() in ENDINGS)[: given.most]
    if not paths:
        ask.error(f"{given.pictures}: no pictures; name a folder with {', '.join(ENDINGS)}")
    edges, flat = magnitudes([resize_image(read_image(path), given.size, given.size) for path in paths])
    print(f"{len(paths)} pictures at {given.size}², {len(edges):,} edge pixels")
    print(f"magnitude on edges, quartiles: {np.round(np.quantile(edges, (0.25, 0.5, 0.75)), 3)}")
    print("threshold softness  edges>0.5  flat>0.5  flat mean  edge mean")
    for threshold, softness in CHOICES:
        soft = [1 / (1 + np.exp(-(x - threshold) / softness)) for x in (edges, flat)]
        print(
            f"{threshold:9.2f} {softness:8.3f} {(soft[0] > 0.5).mean():10.3f} {(soft[1] > 0.5).mean():9.4f} "
            f"{soft[1].mean():10.3f} {soft[0].mean():10.3f}"
        )


if __name__ == "__main__":
    main()
