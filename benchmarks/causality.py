"""Swap gesture, speech or portrait and measure what follows, on held-out people; one JSON line.

    python benchmarks/causality.py RUN --clips 8

RUN is a training folder (``semibody train``) with weights, packed clips and a keypoint network.
"""

import argparse
import json
from pathlib import Path

from semibody.animator import Animator
from semibody.training import checkpoint
from semibody.training.keypoints import KeypointNetwork
from semibody.training.measures import Judge, causality
from semibody.training.recipe import Recipe
from semibody.training.trainer import Training, split


def load_judge(run: Path, recipe: Recipe) -> Judge:
    """The keypoint network of a training."""
    network = KeypointNetwork(recipe.keypoints.width)
    network.load_state_dict(checkpoint.read(run / "keypoints" / checkpoint.FINAL).weights)
    return Judge(network.eval())


def main() -> None:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("run", type=Path)
    parser.add_argument("--packed", type=Path)
    parser.add_argument("--clips", type=int, default=8)
    parser.add_argument("--length", type=int, default=12)
    parser.add_argument("--precision", default="auto")
    asked = parser.parse_args()
    recipe = resolved(asked.run)
    clips = Training(recipe, asked.run).pack(None, asked.packed, lambda *_: None)
    _, held_out = split(clips)
    animator = Animator.load(asked.run / "weights", precision=asked.precision)
    figures = causality(animator, load_judge(asked.run, recipe), held_out[: asked.clips], length=asked.length)
    print(json.dumps({name: round(value, 3) for name, value in figures.items()}))


def resolved(run: Path) -> Recipe:
    """The recipe a training folder was made with."""
    from semibody import config

    return config.build(Recipe, json.loads((run / "recipe.json").read_text()), str(run))


if __name__ == "__main__":
    main()
