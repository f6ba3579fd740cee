"""Everything that ``animate`` would say about its inputs, and a picture of it (floor 5)."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from semibody import media
from semibody.inputs import Settings, fit_portrait, name_of, read_gesture
from semibody.pose import check as findings_of
from semibody.pose.align import align
from semibody.pose.check import Finding, Level
from semibody.pose.overlay import draw_skeleton
from semibody.pose.prosody import analyse
from semibody.types import RATE, Gesture, Picture, Pose, Speech


@dataclass(frozen=True)
class Report:
    """``findings``, worst first, and ``overlay``: the framed portrait with its pose, and beside it with
    the gesture's hands over the whole time."""

    findings: tuple[Finding, ...]
    overlay: Picture

    @property
    def worst(self) -> Level:
        return findings_of.worst(self.findings)

    def as_dict(self) -> dict[str, Any]:
        rows = [
            {"level": f.level, "topic": f.topic, "text": f.text, "remedy": f.remedy} for f in self.findings
        ]
        return {"worst": self.worst, "findings": rows}


def check_inputs(
    portrait: str | Path | Picture,
    gesture: str | Path | Gesture | None = None,
    speech: str | Path | Speech | None = None,
    settings: Settings | None = None,
) -> Report:
    """Look at a portrait, and at a gesture and a recording if they are given. Computes no video.

    Raises SemibodyError for files that cannot be read.
    """
    settings = settings or Settings()
    picture = portrait if isinstance(portrait, np.ndarray) else media.read_image(portrait)
    shown = fit_portrait(picture, settings, name_of(portrait, "the portrait"))
    found = list(shown.findings)
    if shown.framing is not None and not shown.framing.kept:
        crop = shown.framing.crop
        text = f"the portrait is cut to {crop.size[0]} x {crop.size[1]} pixels at {crop.x0}, {crop.y0}"
        found.append(Finding("good", "framing", text))
    if shown.pose is not None and not found:
        found.append(Finding("good", "portrait", "one person, well framed"))
    sound, prosody = None, None
    if speech is not None:
        sound = speech if isinstance(speech, Speech) else media.read_speech(speech, RATE)
        prosody = analyse(sound)
        heard = findings_of.check_speech(sound, prosody)
        text = f"{sound.seconds:.1f} s, {len(prosody.syllables)} syllables in {len(prosody.phrases)} phrases"
        found += heard or [Finding("good", "speech", text)]
    overlay = [_portrait_overlay(shown.picture, shown.pose)]
    if gesture is not None:
        poses = read_gesture(gesture, settings, sound, prosody)
        found += findings_of.check_gesture(poses)
        if shown.pose is not None:
            aligned, alignment = align(poses, shown.pose, settings.width / settings.height)
            used = aligned if settings.align == "auto" else poses
            found.append(Finding("good", "align", alignment.line()))
            found += findings_of.check_fit(used, alignment, shown.pose, may_align=settings.align == "auto")
            poses = used
        if sound is not None:
            found += findings_of.check_length(poses, sound)
        overlay.append(gesture_overlay(shown.picture, poses))
    ordered = sorted(found, key=lambda finding: -findings_of.LEVELS.index(finding.level))
    return Report(tuple(ordered), np.concatenate(overlay, axis=1))


def _portrait_overlay(picture: Picture, pose: Pose | None) -> Picture:
    return picture.copy() if pose is None else draw_skeleton(picture, pose, faint=False)


def gesture_overlay(picture: Picture, gesture: Gesture, shown: int = 7) -> Picture:
    """Several moments of a gesture over a darkened picture: where the hands will go."""
    canvas = (picture * 0.55).astype(np.uint8)
    for frame in np.linspace(0, len(gesture) - 1, min(shown, len(gesture))).astype(int):
        pose = gesture[int(frame)]
        hands = pose.confidence.copy()
        hands[8 : 18 + 68] = 0.0  # arms and hands only: the rest would cover each other
        hands[:2] = 0.0
        canvas = draw_skeleton(canvas, Pose(pose.joints, hands), faint=False)
    return canvas
