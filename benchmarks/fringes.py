"""How often hair hides an eye, for each hair style of a pack, as one JSON line a style.

    python benchmarks/fringes.py --assets PACK --people 4

Each person is drawn with and without the hair; an eye is hidden in a frame when most of its six points lie
behind something that is not there without the hair. ``left`` and ``right``: share of frames, ``points``:
share of all points of the eyes.
"""

import argparse
import dataclasses
import json
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from semibody.data.synthetic.assets import Assets, find_assets, load_assets
from semibody.data.synthetic.clip import draw_frames, joints_in_space, person_seed, project
from semibody.data.synthetic.motion import draw_motion
from semibody.data.synthetic.person import Look, build_person, draw_look
from semibody.data.synthetic.render import Stage
from semibody.data.synthetic.scenes import draw_scene
from semibody.types import FACE

EYES = {"right": slice(FACE.start + 36, FACE.start + 42), "left": slice(FACE.start + 42, FACE.start + 48)}
THIN = 1e-5
"""Depth by which hair lies before an eye at least, of the range 0 to 1."""


def hidden_points(stage: Stage, assets: Assets, look: Look, seed: int, frames: int = 6) -> NDArray[np.bool_]:
    """(f, 128): which joints the person's hair hides."""
    rng = np.random.default_rng(seed)
    depths: list[NDArray[np.float32]] = []
    for hair in (look.hair, ""):
        person = build_person(dataclasses.replace(look, hair=hair), assets)
        if not depths:
            quiet = np.zeros(frames, np.float32)
            motion = draw_motion(person, np.zeros((frames, 6), np.float32), quiet, 2.0, rng)
            space = joints_in_space(person, motion)
            scene = draw_scene(person, rng, stage.size, "head", [], space).scene
        stage.dress(person)
        stage.light(scene)
        depths.append(draw_frames(stage, person, motion, project(space, scene)[0])[1])
    with_hair, without = depths
    return np.asarray(with_hair < without - THIN)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawTextHelpFormatter)
    parser.add_argument("--assets", type=Path)
    parser.add_argument("--people", type=int, default=4)
    given = parser.parse_args()
    assets, stage = load_assets(str(find_assets(given.assets))), Stage(256)
    for hair in assets.choices("hair"):
        looks = [draw_look(person_seed(0, number), assets) for number in range(given.people)]
        hidden = np.concatenate([
            hidden_points(stage, assets, dataclasses.replace(look, hair=hair), number)
            for number, look in enumerate(looks)
        ])  # fmt: skip
        line: dict[str, object] = {"hair": hair, "frames": len(hidden)}
        for side, points in EYES.items():
            line[side] = round(float((hidden[:, points].mean(axis=1) > 0.5).mean()), 3)
        line["points"] = round(float(np.mean([hidden[:, points].mean() for points in EYES.values()])), 4)
        print(json.dumps(line), flush=True)


if __name__ == "__main__":
    main()
