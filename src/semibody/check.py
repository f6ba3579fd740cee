"""All findings of ``animate`` about its inputs, and a picture of them."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from semibody.inputs import fit
from semibody.pose import check as findings_of
from semibody.pose.check import Finding, Level
from semibody.pose.overlay import draw_skeleton
from semibody.settings import Settings
from semibody.types import Gesture, Picture, Pose, Speech


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
    """Check a portrait, and a gesture and a recording if they are given. Computes no video.

    The findings are those of ``inputs.prepare``; what it would refuse is an error among them. Raises
    SemibodyError for files that cannot be read.
    """
    fitted = fit(portrait, speech, gesture, settings or Settings())
    overlay = [_portrait_overlay(fitted.portrait, fitted.portrait_pose)]
    if fitted.gesture is not None:
        overlay.append(gesture_overlay(fitted.portrait, fitted.gesture))
    ordered = sorted(fitted.findings, key=lambda finding: -findings_of.LEVELS.index(finding.level))
    return Report(tuple(ordered), np.concatenate(overlay, axis=1))


def _portrait_overlay(picture: Picture, pose: Pose | None) -> Picture:
    return picture.copy() if pose is None else draw_skeleton(picture, pose, faint=False)


def gesture_overlay(picture: Picture, gesture: Gesture, count: int = 7) -> Picture:
    """Several poses of a gesture over a darkened picture: where the hands will go."""
    canvas = (picture * 0.55).astype(np.uint8)
    for frame in np.linspace(0, len(gesture) - 1, min(count, len(gesture))).astype(int):
        pose = gesture[int(frame)]
        hands = pose.confidence.copy()
        hands[8 : 18 + 68] = 0.0  # arms and hands only: other joints of several poses would overlap
        hands[:2] = 0.0
        canvas = draw_skeleton(canvas, Pose(pose.joints, hands), faint=False)
    return canvas
