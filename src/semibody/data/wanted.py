"""What an ingest keeps. Light, so that the command line can make its options from it."""

from __future__ import annotations

from dataclasses import dataclass

from semibody.config import option
from semibody.files import require_name
from semibody.types import SemibodyError


@dataclass(frozen=True, kw_only=True)
class Wanted:
    """Which pieces are kept, and how they are written."""

    size: int = option(512, at_least=64, at_most=2048)
    """Width and height of a clip in pixels."""
    fps: float = option(24.0, at_least=1, at_most=120)
    """Frames per second."""
    shortest: float = option(2.0, at_least=0.1)
    """Seconds; a shorter scene is left out."""
    longest: float = option(10.0, at_least=0.1)
    """Seconds; a longer scene is cut into equal pieces."""
    sharpness: float = option(0.4, at_least=0, at_most=1)
    """The cropped square must have this share of the clip's side in pixels of the video; 1: nothing is
    enlarged."""
    outside: float = option(0.12, at_least=0, at_most=1)
    """Largest share of the square that may lie beyond the picture's edge."""
    face: float = option(0.9, at_least=0, at_most=1)
    """Least share of frames that show the face."""
    face_size: float = option(0.09, at_least=0, at_most=1)
    """Least height of the face, brows to chin, as a share of the square."""
    hands: float = option(0.6, at_least=0, at_most=1)
    """Least share of frames that show a hand."""
    hand_confidence: float = option(0.5, at_least=0, at_most=1)
    """Least mean confidence of the hands that are seen."""
    voice: float = option(0.3, at_least=0, at_most=1)
    """Least share of time with sound as loud as speech."""
    lips: float = option(0.15, at_least=-1, at_most=1)
    """Least correlation of the lips' opening, or motion, with loudness, at the best shift within 80 ms: asked
    for where --sync cannot be measured (below 1.8 s, mouths that are not seen)."""
    sync: float = option(0.7, at_least=-100, at_most=100)
    """Least margin by which lips agree more with their sound than with the same sound shifted, in standard
    deviations of the shifted ones: by SyncNet where its weights are, else with lips predicted from the
    sound."""
    turn: float = option(3.0, at_least=0, at_most=180)
    """Most degrees by which the camera may turn in a piece, where its path is given (--camera)."""
    heads: bool = False
    """Keep pieces without hands as head-only clips, cropped to the head."""
    pose_only: bool = False
    """Keep pieces without regard to their sound, and write them without it: they train poses only."""
    source: str = "real"
    """Name of the videos' collection, by which a recipe gives it a share of the samples."""
    detector: str = "auto"
    """Detector of poses: auto, mediapipe or dwpose."""

    def __post_init__(self) -> None:
        for name in ("size", "fps", "shortest", "longest"):
            if not getattr(self, name) > 0:
                raise SemibodyError(f"{name} = {getattr(self, name)}: must be positive")
        if self.size % 2:
            raise SemibodyError(f"size = {self.size}: must be even")
        if self.longest < self.shortest:
            raise SemibodyError(f"longest = {self.longest}: must not be below shortest = {self.shortest}")
        require_name(self.source, "source")
