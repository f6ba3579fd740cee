"""How pictures hold when hands move from where the portrait has them: anchored gestures or the library's.

    python benchmarks/anchored.py FOLDER_OF_PORTRAITS SPEECH --sheet sheet.png

For each portrait and way of moving (the library's gestures as planned without the portrait, or a liveliness)
a clip is made with the given weights and held against the portrait, as `semibody bench-quality photographs`
does (``quality.likeness``). The sheet, a row a clip, is for looking at; portraits of people are nobody's to
publish.
"""

from __future__ import annotations

import argparse
import dataclasses
import json
from pathlib import Path
from typing import Any

import numpy as np

from semibody import media
from semibody.animator import Animator
from semibody.inputs import Inputs, prepare
from semibody.pose.align import align
from semibody.pose.anchor import plan_anchored
from semibody.pose.overlay import contact_sheet
from semibody.pose.plan import plan_gesture
from semibody.quality.likeness import Observer
from semibody.quality.photographs import SHOWN, cut
from semibody.settings import Settings
from semibody.types import Gesture, Picture


def planned(inputs: Inputs, settings: Settings, way: str) -> Gesture:
    """The clip's gesture: ``library`` as planned without the portrait, or a liveliness."""
    own = inputs.portrait_pose
    assert own is not None
    aspect, frames = settings.width / settings.height, len(inputs)
    common: dict[str, Any] = {"seed": settings.seed, "fps": settings.fps, "seconds": frames / settings.fps}
    if way == "library":
        return align(plan_gesture(inputs.speech, **common).gesture, own, aspect)[0]
    return plan_anchored(inputs.speech, own, aspect=aspect, liveliness=float(way), **common).gesture


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("portraits", type=Path)
    parser.add_argument("speech", type=Path)
    parser.add_argument("--weights", default="starter")
    parser.add_argument("--ways", nargs="+", default=["library", "0.5", "1", "2"])
    parser.add_argument("--names", nargs="*", help="only these portraits")
    parser.add_argument("--seconds", type=float, default=3.0)
    parser.add_argument("--size", type=int, default=256)
    parser.add_argument("--sheet", type=Path, help="picture of frames to write, one for each way")
    given = parser.parse_args()
    paths = [p for p in sorted(given.portraits.glob("*.png")) if not given.names or p.stem in given.names]
    speech = cut(media.read_speech(given.speech), given.seconds)
    animator = Animator.load(given.weights)
    rows: dict[str, list[dict[str, float]]] = {way: [] for way in given.ways}
    pictures: dict[str, list[Picture]] = {way: [] for way in given.ways}
    with Observer() as observer:
        for number, path in enumerate(paths):
            settings = animator.settings(width=given.size, height=given.size, seed=number)
            inputs = prepare(path, speech, "rest", settings)
            for way in given.ways:
                used = dataclasses.replace(inputs, gesture=planned(inputs, settings, way))
                frames = np.concatenate(list(animator.frames(used, settings)))
                rows[way].append(observer.measure(frames, used))
                chosen = np.linspace(0, len(frames) - 1, SHOWN).astype(int)
                pictures[way] += [inputs.portrait, *frames[chosen]]
                rounded = {key: round(value, 3) for key, value in rows[way][-1].items()}
                print(json.dumps({"portrait": path.stem, "way": way, **rounded}), flush=True)
                if given.sheet:
                    target = given.sheet.with_stem(f"{given.sheet.stem}-{way}")
                    media.write_image(
                        target, contact_sheet(pictures[way], columns=SHOWN + 1, side=given.size)
                    )
    for way, found in rows.items():
        known = {key: [row[key] for row in found if np.isfinite(row[key])] for key in found[0]}
        means = {key: round(float(np.mean(values)), 3) for key, values in known.items() if values}
        print(json.dumps({"portraits": len(found), "way": way} | means))


if __name__ == "__main__":
    main()
