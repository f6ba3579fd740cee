"""How pictures hold when hands move from where the portrait has them: anchored gestures or the library's.

    python benchmarks/anchored.py FOLDER_OF_PORTRAITS SPEECH --sheet sheet.png

For each portrait and way of moving a clip is made with the given weights, and hands are looked for in it:
``found`` is the share of frames with both shown hands, ``hkc`` the mean confidence of hand joints over the
portrait's own, ``joints`` how far found joints are from those asked for (of the shoulders' width), ``rest``
the PSNR of frames at rest against the portrait outside the mouth, ``hkv`` the planned hands' movement in
pixels of 768. The sheet, a row a clip, is for looking at; portraits of people are nobody's to publish.
"""

from __future__ import annotations

import argparse
import dataclasses
import json
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from semibody import media
from semibody.animator import Animator
from semibody.inputs import Inputs, prepare
from semibody.pose.align import align
from semibody.pose.anchor import plan_anchored
from semibody.pose.body import SEEN, hands_found
from semibody.pose.detectors import Detector, open_detector
from semibody.pose.hands import hand_variation
from semibody.pose.overlay import contact_sheet
from semibody.pose.plan import plan_gesture
from semibody.pose.regions import hull_mask
from semibody.settings import Settings
from semibody.types import FACE, HANDS, Gesture, Picture, Pose, Speech

LOOK_EVERY = 3
"""Hands are looked for in every so many frames."""
SHOWN = 9
"""Frames of a clip on the sheet."""


def planned(inputs: Inputs, settings: Settings, way: str) -> Gesture:
    """The clip's gesture: ``library`` as planned without the portrait, or a liveliness."""
    own = inputs.portrait_pose
    assert own is not None
    aspect, frames = settings.width / settings.height, len(inputs)
    common: dict[str, Any] = {"seed": settings.seed, "fps": settings.fps, "seconds": frames / settings.fps}
    if way == "library":
        return align(plan_gesture(inputs.speech, **common).gesture, own, aspect)[0]
    return plan_anchored(inputs.speech, own, aspect=aspect, liveliness=float(way), **common).gesture


def measure(frames: NDArray[np.uint8], inputs: Inputs, detector: Detector) -> dict[str, float]:
    own, gesture = inputs.portrait_pose, inputs.gesture
    assert own is not None
    size = np.array(frames.shape[2:0:-1])
    width = float(np.hypot(*((own.joints[2] - own.joints[5]) * size)))
    shown = np.repeat(hands_found(own), 21)
    at_best = detector.people(inputs.portrait)
    best = _confidence(at_best[0] if at_best else Pose.empty(), shown)
    found, confidence, off = [], [], []
    for number in range(0, len(frames), LOOK_EVERY):
        people = detector.people(frames[number])
        pose = people[0] if people else Pose.empty()
        sides = hands_found(pose)
        found.append(all(s for s, wanted in zip(sides, hands_found(own), strict=True) if wanted))
        confidence.append(_confidence(pose, shown))
        seen = shown & (pose.confidence[HANDS] >= SEEN)
        miss = (pose.joints[HANDS] - gesture.joints[number, HANDS]) * size
        off += (np.hypot(miss[:, 0], miss[:, 1])[seen] / width).tolist()
    resting = (gesture.joints == own.joints).all(axis=(1, 2))
    moved = hand_variation(gesture.hands, gesture.hands_confidence, threshold=SEEN)
    return {
        "found": float(np.mean(found)),
        "hkc": float(np.mean(confidence)) / best if best else float("nan"),
        "joints": float(np.mean(off)) if off else float("nan"),
        "rest": _psnr(frames[resting], inputs.portrait, own),
        "hkv": 768 * moved,
    }


def _confidence(pose: Pose, shown: NDArray[np.bool_]) -> float:
    return float(np.minimum(pose.confidence[HANDS][shown], 1).mean()) if shown.any() else 0.0


def _psnr(frames: NDArray[np.uint8], portrait: Picture, own: Pose) -> float:
    """In dB outside the lower half of the face; NaN without frames."""
    if not len(frames):
        return float("nan")
    face = own.joints[FACE]
    height, width = portrait.shape[:2]
    mouth = hull_mask(np.concatenate([face[2:15], face[31:36]]), height, width, 0.1) > 0
    error = (frames.astype(float) - portrait) ** 2
    return float(10 * np.log10(255**2 / max(error[:, ~mouth].mean(), 1e-9)))


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
    sound = media.read_speech(given.speech)
    speech = Speech(sound.waveform[: int(given.seconds * sound.rate)], sound.rate)
    animator = Animator.load(given.weights)
    rows: dict[str, list[dict[str, float]]] = {way: [] for way in given.ways}
    pictures: dict[str, list[Picture]] = {way: [] for way in given.ways}
    with open_detector() as detector:
        for number, path in enumerate(paths):
            settings = animator.settings(width=given.size, height=given.size, seed=number)
            inputs = prepare(path, speech, "rest", settings)
            for way in given.ways:
                used = dataclasses.replace(inputs, gesture=planned(inputs, settings, way))
                frames = np.concatenate(list(animator.frames(used, settings)))
                rows[way].append(measure(frames, used, detector))
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
