"""What the page does, without the page: check inputs, estimate the time, make a clip.

    studio = Studio(Source(), store)
    studio.check(order)               # in a second, beside a running clip
    jobs = Jobs(studio.make, prepare=studio.load)

Everything is done by the functions of the command line. The weights are loaded by ``load``, behind the page.
"""

from __future__ import annotations

import contextlib
import dataclasses
import functools
import hashlib
import math
import time
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from semibody.pose import library
from semibody.pose.check import LEVELS, Finding
from semibody.settings import AUTO, COLOUR, STILL, Settings, Source, Words, resolve
from semibody.types import Gesture, Picture, SemibodyError
from semibody.web import words
from semibody.web.bar import Bar
from semibody.web.jobs import Report
from semibody.web.uploads import VIDEOS, Store

if TYPE_CHECKING:
    from semibody.animator import Animator
    from semibody.networks.model import ModelConfig

CHECK_SECONDS = 1.5
"""What reading and fitting the inputs takes."""
PREPARE_SECONDS = 0.7
TRIAL_FRAMES, TRIAL_SECONDS = 12, 0.5
"""Frames that are made for nobody when the weights are loaded, unless they are estimated to take longer."""
VIDEO_FPS = 24.0
"""Poses a second that are taken from a video."""
_PREVIEW_SIDE, _PREVIEW_EVERY = 384, 0.5
"""Pixels of a preview's longer side, and seconds between two."""


@dataclass(frozen=True, kw_only=True)
class Order:
    """What a user wants: the inputs and the changed settings."""

    portrait: Path | None = None
    speech: Path | None = None
    gesture: str | Path = AUTO
    """a name of the library, ``auto``, ``still``, or a file of poses or a video"""
    words: Words | None = None
    """what ``speech`` was spoken from, where it was"""
    settings: Mapping[str, Any] = field(default_factory=dict)
    names: Mapping[str, str] = field(default_factory=dict)
    """what the user calls a file, by its path here"""
    folder: Path | None = None
    """where the clip goes"""
    controls: tuple[Any, ...] = ()
    """the values of the page's controls, which it was read from"""

    def called(self, path: Path | str | None) -> str:
        """What the user calls a file; a gesture of the library is called by its name."""
        return "" if path is None else self.names.get(str(path), Path(path).name)


@dataclass(frozen=True, kw_only=True)
class Checked:
    """What is known of an order before it is made."""

    findings: tuple[Finding, ...]
    portrait: bytes | None = None
    """the picture that will be used, as JPEG"""
    hands: bytes | None = None
    """where the hands will go, as JPEG"""
    frames: int = 0
    clip_seconds: float = 0.0
    seconds: float | None = None
    """it will take; None: not known yet"""

    @property
    def ok(self) -> bool:
        return all(finding.level != "error" for finding in self.findings)


@dataclass(frozen=True, kw_only=True)
class Made:
    """A finished clip."""

    video: Path
    thumbnail: bytes
    frames: int
    clip_seconds: float
    findings: tuple[Finding, ...]
    settings: Settings


class Studio:
    """One set of weights, and the functions of the command line applied to orders."""

    def __init__(self, source: Source, store: Store) -> None:
        self.source, self.store = source, store
        self.loading = 0.0
        """share of the weights that is read"""
        self._animator: Animator | None = None
        self._pace: dict[str | tuple[str, int], float] = {}
        """measured over estimated seconds of each stage: of the last clip, and by its pixels"""
        self._rate, self._timed = 0.0, False

    @functools.cached_property
    def resolved(self) -> Any:
        """The weights' sizes and default settings, known before they are loaded."""
        return resolve(self.source)

    @property
    def defaults(self) -> Settings:
        return self._animator.defaults if self._animator is not None else self.resolved.defaults

    @property
    def model(self) -> ModelConfig:
        return self._animator.model.config if self._animator is not None else self.resolved.info.model

    def load(self) -> None:
        """Load the weights and measure the machine. Raises SemibodyError."""
        from semibody.animator import Animator

        def progress(stage: str, done: int, total: int) -> None:  # noqa: ARG001
            self.loading = done / max(total, 1)

        self.use(Animator.load(**dataclasses.asdict(self.source), progress=progress), try_out=True)

    def use(self, animator: Animator, *, try_out: bool = False) -> None:
        """Make clips with these weights; ``try_out`` makes a few frames to measure how long they take."""
        from semibody import runtime
        from semibody.plan import EFFICIENCY

        measured = runtime.matmul_tflops(animator.dtype, animator.device, 0.3, largest=1024)
        self._rate = measured * EFFICIENCY
        self._animator = animator
        if try_out:
            self._try_out()
        self._timed = True

    def _try_out(self) -> None:
        """Make a few frames, so that the first estimate is as true as the later ones.

        Small networks are slower than their arithmetic says; large ones would take too long for a trial. The
        first clip of a user is sooner then, too: the libraries are loaded and the detector is open.
        """
        from semibody.weights import hub

        changes = {"length": TRIAL_FRAMES}
        seconds = self.estimate(self.settings(changes), TRIAL_FRAMES)
        portrait, speech = (hub.STARTER / name for name in ("portrait.png", "speech.wav"))
        if seconds["denoise"] + seconds["decode"] > TRIAL_SECONDS or not portrait.is_file():
            return
        with contextlib.suppress(SemibodyError):  # weights that refuse this person may take the user's
            order = self.accept(Order(portrait=portrait, speech=speech, settings=changes))
            try:
                self.make(order, lambda share, stage, **more: None)  # noqa: ARG005
            finally:
                self.discard(order)
        # Not that of the check, which held the loading of the libraries.
        self._pace = {key: pace for key, pace in self._pace.items() if "check" not in (key, key[0])}

    def settings(self, changes: Mapping[str, Any]) -> Settings:
        from semibody.settings import change

        background = changes.get("background")
        if background is not None and not COLOUR.fullmatch(background):
            # On the command line it may be a picture; here a text never becomes a path on this machine.
            raise SemibodyError(f"--background {background[:20]}: write a colour as #rrggbb")
        return change(self.defaults, changes, self.model)

    def speak(self, said: Words) -> Path:
        """The recording of a text, spoken once. Raises SemibodyError."""
        from semibody import media
        from semibody.voices import speaking

        name = hashlib.sha256(repr(said).encode()).hexdigest()[:32]
        path = self.store.uploads / name / "speech.wav"
        if not path.is_file():
            spoken = speaking.say(said.say or "", said.voice)
            path.parent.mkdir(mode=0o700, exist_ok=True)
            media.write_speech(path, spoken.speech)
        return path

    def fast(self) -> dict[str, Any]:
        """The changes that make a clip sooner: fewer steps, or where there are few, a smaller picture."""
        usual = self.defaults
        if usual.steps >= 9:
            return {"steps": math.ceil(usual.steps / 3), "solver": "dpm++"}
        return {"width": usual.width // 2, "height": usual.height // 2}

    # -- before ----------------------------------------------------------------------------

    def check(self, order: Order) -> Checked:
        """Look at whatever there is of an order. What is wrong with it is among the findings."""
        try:
            return self._check(order)
        except SemibodyError as error:
            return Checked(findings=(Finding("error", "inputs", str(error)),))

    def _check(self, order: Order) -> Checked:
        from semibody.check import gesture_overlay
        from semibody.inputs import clip_frames, fit

        if order.portrait is None:
            return Checked(findings=())
        self.admit(order)
        settings = self.settings(order.settings)
        video = is_video(order.gesture)
        planned = order.speech is not None or order.gesture not in (AUTO, STILL)
        fitted = fit(order.portrait, order.speech, order.gesture if planned and not video else None, settings)
        findings = list(fitted.findings)
        if video:
            text = "the gesture is taken from the video when the clip is made, which takes longer"
            findings.append(Finding("note", "gesture", text))
        hands = None if fitted.gesture is None else gesture_overlay(fitted.portrait, fitted.gesture)
        frames = 0
        if fitted.speech is not None:
            given = fitted.gesture
            frames = clip_frames(fitted.speech, settings) if given is None else len(given)
        return Checked(
            findings=tuple(sorted(findings, key=lambda one: -LEVELS.index(one.level))),
            portrait=as_jpeg(fitted.portrait),
            hands=None if hands is None else as_jpeg(hands),
            frames=frames,
            clip_seconds=frames / settings.fps,
            seconds=sum(self.estimate(settings, frames).values()) if frames and self._timed else None,
        )

    def admit(self, order: Order) -> None:
        """Raise SemibodyError for inputs that are too much for a page."""
        gesture = order.gesture if isinstance(order.gesture, Path) else None
        self.store.admit(speech=order.speech, gesture=gesture)

    def accept(self, order: Order) -> Order:
        """The order with its inputs in a folder of its own. Raises SemibodyError if something is missing."""
        if order.portrait is None:
            raise SemibodyError("add a portrait first")
        if order.speech is None:
            raise SemibodyError("add the speech first")
        self.settings(order.settings)
        self.admit(order)
        given = {"portrait": order.portrait, "speech": order.speech}
        if isinstance(order.gesture, Path):
            given["gesture"] = order.gesture
        folder, kept = self.store.keep(given)
        names = {str(kept[name]): order.called(path) for name, path in given.items()}
        return dataclasses.replace(
            order,
            portrait=kept["portrait"],
            speech=kept["speech"],
            gesture=kept.get("gesture", order.gesture),
            names=names,
            folder=folder,
        )

    def discard(self, order: Order) -> None:
        """Remove an order's files."""
        if order.folder is not None:
            self.store.discard(order.folder)

    def estimate(self, settings: Settings, frames: int) -> dict[str, float]:
        """Seconds of each stage of a clip, corrected by how long earlier clips took."""
        from semibody.conditioning.flops import count_work
        from semibody.plan import work_of_stages

        work = count_work(self.model, settings.height, settings.width, min(settings.window, frames))
        rate = max(self._rate, 1e-6) * 1e12
        seconds = {"check": CHECK_SECONDS, "prepare": 0.0}
        seconds |= {name: flop / rate for name, flop in work_of_stages(work, settings, frames).items()}
        seconds["prepare"] += PREPARE_SECONDS
        return {stage: value * self._pace_of(stage, settings) for stage, value in seconds.items()}

    def _pace_of(self, stage: str, settings: Settings) -> float:
        return self._pace.get((stage, settings.width * settings.height), self._pace.get(stage, 1.0))

    # -- the clip --------------------------------------------------------------------------

    def make(self, order: Order, report: Report) -> Made:
        """Make an accepted order's clip. Raises StoppedError from ``report``, and SemibodyError."""
        from semibody.inputs import prepare

        animator, folder = self._animator, order.folder
        assert animator is not None, "load comes first"
        assert folder is not None and order.portrait is not None and order.speech is not None, (
            "accept comes first"
        )
        report(0.0, "check")
        settings = self.settings(order.settings)
        clock = _Clock(report)
        gesture = self._gesture_of(order, clock)
        inputs = prepare(order.portrait, order.speech, gesture, settings)
        bar = Bar(self.estimate(settings, len(inputs)), clock)
        bar.preview = as_jpeg(inputs.portrait)
        bar("check", 1, 1)
        video, shown = folder / ("clip.webm" if settings.alpha else "clip.mp4"), 0.0

        def show(pixels: Picture) -> None:
            nonlocal shown
            if time.monotonic() - shown > _PREVIEW_EVERY:
                shown, bar.preview = time.monotonic(), as_jpeg(pixels[-1])

        animator.write(video, inputs, settings, progress=bar, watch=show)
        self._learn(clock.took, len(inputs), settings)
        return Made(
            video=video,
            thumbnail=as_jpeg(inputs.portrait, 128),
            frames=len(inputs),
            clip_seconds=len(inputs) / settings.fps,
            findings=tuple(one for one in inputs.findings if one.level != "good"),
            settings=settings,
        )

    def _gesture_of(self, order: Order, report: Report) -> str | Path | Gesture:
        if not is_video(order.gesture):
            return order.gesture
        from semibody.pose.detectors import shared_detector
        from semibody.pose.frame import crop_gesture
        from semibody.pose.track import extract

        def progress(stage: str, done: int, total: int) -> None:  # noqa: ARG001
            report(0.0, "video")

        with shared_detector() as detector:
            found = extract(order.gesture, VIDEO_FPS, detector=detector, progress=progress)
        return crop_gesture(found.gesture)

    def _learn(self, took: Mapping[str, float], frames: int, settings: Settings) -> None:
        for stage, seconds in self.estimate(settings, frames).items():
            if stage in took and seconds > 0:
                measured = self._pace_of(stage, settings) * took[stage] / seconds
                pace = min(max(measured, 0.02), 50.0)
                self._pace[stage] = self._pace[stage, settings.width * settings.height] = pace

    def command(self, order: Order, settings: Settings | None = None) -> str:
        """The command line that repeats an order."""
        usual = dataclasses.asdict(self.defaults)
        changed = {key: value for key, value in order.settings.items() if value not in (None, usual[key])}
        if settings is not None and changed.get("seed") == -1:
            changed["seed"] = settings.seed
        if {"width", "height"} & changed.keys():
            changed = {"width": usual["width"], "height": usual["height"], **changed}
        gesture = order.gesture if isinstance(order.gesture, str) else order.called(order.gesture)
        weights = self.source.weights
        known = weights if weights is None or "/" not in weights else Path(weights).name
        spoken = [order.called(order.speech)]
        if order.words is not None:
            voice = ["--voice", order.words.voice] if order.words.voice else []
            spoken = ["--say", order.words.say or "", *voice]
        return words.command([order.called(order.portrait), *spoken], gesture, changed, known)


class _Clock:
    """A Report that passes everything on and measures how long each stage took."""

    def __init__(self, report: Report) -> None:
        self._report, self._last = report, time.monotonic()
        self.took: dict[str, float] = {}

    def __call__(
        self, share: float, stage: str, *, preview: bytes | None = None, expected: float | None = None
    ) -> None:
        now = time.monotonic()
        self.took[stage] = self.took.get(stage, 0.0) + now - self._last
        self._last = now
        self._report(share, stage, preview=preview, expected=expected)


def require_known(gesture: str) -> None:
    """Raise SemibodyError unless this names a gesture: a caller's text never becomes a path."""
    known = (AUTO, STILL, *library.names())
    if gesture not in known:
        raise SemibodyError(f"{gesture[:40]!r} is no gesture; choose one of {', '.join(known)}")


def is_video(gesture: str | Path) -> bool:
    return isinstance(gesture, Path) and gesture.suffix.lower() in VIDEOS


def as_jpeg(picture: Picture, side: int = _PREVIEW_SIDE) -> bytes:
    """A picture (h, w, 3) as a small JPEG."""
    import cv2

    height, width = picture.shape[:2]
    scale = min(1.0, side / max(height, width))
    size = (max(1, round(width * scale)), max(1, round(height * scale)))
    small = cv2.resize(np.ascontiguousarray(picture), size, interpolation=cv2.INTER_AREA)
    good, data = cv2.imencode(".jpg", small[:, :, ::-1], [cv2.IMWRITE_JPEG_QUALITY, 82])
    assert good
    return bytes(data)
