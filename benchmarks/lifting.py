"""How well gestures are lifted into space and followed by other people, as one JSON line a gesture.

    python benchmarks/lifting.py GESTURES --assets PACK --people 8

``angles``: mean distance between the source's joints and those of the lifted angles, in shoulder widths, each
measured from its own shoulder. ``people``: the same for the arms of rendered people who follow them, of other
proportions, kept out of their bodies and seen by a camera straight ahead.
"""

import argparse
import json
from pathlib import Path

import numpy as np

from semibody.data.synthetic.arms import Followed, gesture_sources
from semibody.data.synthetic.assets import find_assets
from semibody.data.synthetic.clip import joints_in_space, render_person
from semibody.data.synthetic.motion import draw_motion
from semibody.data.synthetic.person import Person
from semibody.pose.body import SEEN
from semibody.pose.files import load_gesture
from semibody.pose.kinematics import VIEWER
from semibody.pose.lift import Lifted, flat_error, lift
from semibody.types import LEFT_HAND, RIGHT_HAND, Floats, Gesture

ARMS = ((5, 6, 7, LEFT_HAND), (2, 3, 4, RIGHT_HAND))


def followed_error(gesture: Gesture, lifted: Lifted, person: Person) -> Floats:
    """(f, 2, 23) as ``flat_error``, of the person who follows ``lifted`` with torso and head held still."""
    frames = len(gesture)
    motion = draw_motion(
        person, np.zeros((frames, 6), np.float32), np.zeros(frames, np.float32), gesture.fps,
        np.random.default_rng(0), sway=0.0, followed=Followed(lifted.states, lifted.lengths, {}),
    )  # fmt: skip
    space = joints_in_space(person, motion)
    width = np.linalg.norm(space[:, 2] - space[:, 5], axis=-1).mean()
    space = (space - space[:, [1]]) / width
    return compare(gesture, space[..., :2] * (1, -1) / (1 - space[..., 2:] / VIEWER))


def compare(gesture: Gesture, shown: Floats) -> Floats:
    points = gesture.joints * (gesture.aspect, 1.0)
    points = points / np.median(np.hypot(*(points[:, 2] - points[:, 5]).T))
    off = []
    for shoulder, elbow, wrist, hand in ARMS:
        joints = np.r_[elbow, wrist, np.arange(hand.start, hand.stop)]
        wanted, found = (p[:, joints] - p[:, [shoulder]] for p in (points, shown))
        distance = np.linalg.norm(wanted - found, axis=-1)
        off.append(np.where(gesture.confidence[:, joints] >= SEEN, distance, np.nan))
    return np.stack(off, axis=1)


def means(off: Floats) -> dict[str, float]:
    parts = {"elbow": off[..., 0], "wrist": off[..., 1], "hand": off[..., 2:]}
    return {name: round(float(np.nanmean(values)), 4) for name, values in parts.items()}


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawTextHelpFormatter)
    parser.add_argument("gestures", type=Path)
    parser.add_argument("--assets", type=Path)
    parser.add_argument("--people", type=int, default=8)
    parser.add_argument("--frames", type=int, default=96, help="of each gesture, the first ones")
    given = parser.parse_args()
    assets = find_assets(given.assets)
    people = [render_person(1, number, assets) for number in range(given.people)]
    for source in gesture_sources(given.gestures):
        whole = load_gesture(source)
        gesture = Gesture(
            whole.joints[: given.frames],
            whole.confidence[: given.frames],
            whole.fps,
            whole.aspect,
            whole.name,
        )
        lifted = lift(gesture)
        taken = np.stack([followed_error(gesture, lifted, person) for person in people])
        line = {"gesture": gesture.name, "frames": len(gesture), "angles": means(flat_error(gesture, lifted)),
                "people": means(taken)}  # fmt: skip
        print(json.dumps(line))


if __name__ == "__main__":
    main()
