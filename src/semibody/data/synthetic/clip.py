"""One clip of one person: pictures, sound, gesture and truth, in memory.

    stage = Stage(256)
    person = build_person(draw_look(seed, assets), assets)
    clip = render_clip(stage, person, seed=7, seconds=1.5)

``people`` streams such clips without touching the disk, for a trainer that renders in the background.
"""

from __future__ import annotations

import dataclasses
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from semibody.clips.manifest import Kind
from semibody.clips.truth import Truth, box_around
from semibody.data.synthetic.arms import Followed, lift_arms, plan_arms
from semibody.data.synthetic.assets import find_assets, load_assets
from semibody.data.synthetic.camera import draw_camera
from semibody.data.synthetic.landmarks import EAR_VERTICES, FACE_VERTICES, HIP_VERTICES
from semibody.data.synthetic.motion import Motion, bone_columns, draw_motion
from semibody.data.synthetic.person import Person, build_person, draw_look
from semibody.data.synthetic.render import Scene, Stage
from semibody.data.synthetic.scenes import draw_scene
from semibody.data.synthetic.speech import JAW, loudness, mouth_from_energy, mouth_track, speak
from semibody.pose.skeleton import ARMS, LIPS
from semibody.types import BODY, FACE, HANDS, LEFT_HAND, N_JOINTS, RIGHT_HAND, Clip, Gesture, Speech

Floats = NDArray[np.float64]

_AT_ONCE = 72
"""Frames whose corners are moved together: more takes memory, fewer time."""
_NOT_MODELLED = [9, 10, 12, 13]
"""Knees and ankles."""
_FLESH = np.full(N_JOINTS, 0.5)
"""How deep (dm) a joint may lie under the visible surface and still count as seen."""
_FLESH[BODY] = 1.0
_FLESH[FACE] = 0.25
_FLESH[HANDS] = 0.35
_SHOULDERS_UP, _SHOULDERS_IN = 0.104, 0.031
"""Detectors find shoulders above the joint and nearer to the neck, by so many distances of the joints."""
_WRIST_ON, _KNUCKLES_BACK = 0.125, np.array([0.07, 0.13, 0.08, 0.08, 0.08])
"""And wrists nearer to the fingers, the root of each finger nearer to the wrist, by so many lengths of the
palm. All measured on 120 people with mediapipe: without, found and exact poses are not of one kind."""


@dataclass(frozen=True)
class Style:
    """How clips are made, beside what is drawn at random for each."""

    sway: float = 1.0
    """how far head and torso move about their place; hands and sound do not determine it, so a small model
    that is conditioned on them alone predicts sharper faces for calmer people"""
    photographed: float = 0.0
    """share of clips with camera faults: exposure, colour, softness, grain, compression"""
    planned: float = 0.5
    """share of clips whose arms follow a gesture planned from the speech or taken from the library; those of
    the others are drawn"""
    gestures: tuple[Path, ...] = ()
    """gesture files or folders that arms are lifted from instead"""
    lifted: float = 1.0
    """share of clips whose arms are lifted from them"""
    articulation: float = 1.0
    """how far mouths open in speech; 1 is a calm speaker, whose lips part by a pixel or two at 256 x 256"""
    held_out_voices: bool = False
    """speaks in voices that no network's lips are trained on"""


CLEAN = Style()


@dataclass(frozen=True)
class RenderedClip:
    """``clip`` pictures and speech · ``gesture`` joints in image space · ``truth`` · ``parameters`` drawn."""

    clip: Clip
    gesture: Gesture
    truth: Truth
    kind: Kind
    parameters: dict[str, Any]


def render_clip(
    stage: Stage, person: Person, seed: int, seconds: float, fps: float = 24.0, kind: Kind = "full",
    backgrounds: list[NDArray[np.uint8]] | None = None, speech: Speech | None = None, style: Style = CLEAN,
) -> RenderedClip:  # fmt: skip
    """Render a clip of a person.

    ``speech`` is the user's own recording: its first ``seconds`` are spoken, lips by energy; without it a
    sentence is synthesised. Same arguments, same clip.
    """
    rng = np.random.default_rng([seed, 3])
    frames = max(1, round(seconds * fps))
    others: dict[str, Any] = {"voice": "recording"}
    if speech is None:
        spoken = speak(rng, frames / fps, person.look.sex < 0.5, held_out=style.held_out_voices)
        speech, mouth = spoken.speech, mouth_track(spoken, frames, fps)
        phonemes = [[round(a, 3), round(b, 3), s] for a, b, s in spoken.phonemes]
        others = {"voice": spoken.voice, "text": spoken.text, "phonemes": phonemes}
    else:
        count = round(frames / fps * speech.rate)
        wave = speech.waveform[:count]
        speech = Speech(np.pad(wave, (0, count - len(wave))), speech.rate)
        mouth = mouth_from_energy(speech, frames, fps)
    mouth[:, JAW] = (style.articulation * mouth[:, JAW]).clip(0, 1)
    liveliness = float(rng.uniform(0.5, 1.0))
    followed = _draw_followed(style, speech, frames, fps, liveliness, np.random.default_rng([seed, 6]))
    motion = draw_motion(
        person, mouth, loudness(speech, frames, fps), fps, rng, liveliness=liveliness, sway=style.sway,
        followed=followed,
    )  # fmt: skip
    others["motion"] = followed.facts if followed else {"kind": "drawn"}
    space = joints_in_space(person, motion)
    drawn = draw_scene(person, rng, stage.size, kind, backgrounds or [], space)
    stage.dress(person)
    stage.light(drawn.scene)
    joints, _ = project(space, drawn.scene)
    pictures, surface = draw_frames(stage, person, motion, joints)
    taste = np.random.default_rng([seed, 5])
    if taste.random() < style.photographed:
        camera = draw_camera(taste)
        pictures = camera.photograph(pictures, taste)
        others["camera"] = dataclasses.asdict(camera)
    confidence = _visibility(space, joints, surface, drawn.scene)
    joints[:, _NOT_MODELLED] = 0.0
    gesture = Gesture(joints, confidence, fps, 1.0)
    parameters = {"liveliness": liveliness, **drawn.parameters, **others}
    truth = Truth(motion.jaw.astype(np.float32), _boxes(gesture, person, motion, drawn.scene))
    return RenderedClip(Clip(pictures, fps, speech), gesture, truth, kind, parameters)


def _draw_followed(
    style: Style, speech: Speech, frames: int, fps: float, liveliness: float, rng: np.random.Generator
) -> Followed | None:
    """What the arms of a clip follow; None: they are drawn."""
    if style.gestures and rng.random() < style.lifted:
        source = style.gestures[int(rng.integers(len(style.gestures)))]
        return lift_arms(source, frames, fps, rng)
    if rng.random() < style.planned:
        return plan_arms(speech, frames, fps, liveliness, rng)
    return None


def people(
    assets: Path | str | None, seed: int, size: int = 256, seconds: float = 1.5, fps: float = 24.0,
    clips_per_person: int = 2, head_share: float = 0.15, first: int = 0, style: Style = CLEAN,
) -> Iterator[tuple[int, RenderedClip]]:  # fmt: skip
    """Yield (person number, clip) without end, from person ``first`` on. Nothing is written."""
    loaded, stage, number = load_assets(str(find_assets(assets))), Stage(size), first
    while True:
        person = render_person(seed, number, loaded.folder, size)
        for take in range(clips_per_person):
            take_seed = clip_seed(seed, number, take)
            kind = clip_kind(take_seed, head_share)
            yield number, render_clip(stage, person, take_seed, seconds, fps, kind, style=style)
        number += 1


def render_person(seed: int, number: int, assets: Path | str, size: int = 256) -> Person:
    """Person ``number`` of the set ``seed``, ready for ``render_clip``."""
    loaded = load_assets(str(assets))
    return build_person(draw_look(person_seed(seed, number), loaded), loaded, 512 if size <= 320 else 1024)


def person_seed(seed: int, number: int) -> int:
    return int(np.random.SeedSequence([seed, number]).generate_state(1)[0])


def clip_seed(seed: int, number: int, take: int) -> int:
    return int(np.random.SeedSequence([seed, number, take + 1]).generate_state(1)[0])


def clip_kind(seed: int, head_share: float) -> Kind:
    return "head" if np.random.default_rng([seed, 4]).random() < head_share else "full"


def draw_frames(
    stage: Stage, person: Person, motion: Motion, joints: Floats
) -> tuple[NDArray[np.uint8], NDArray[np.float32]]:
    """Frames (f, s, s, 3), and the depth (f, 128) of the surface that is seen where each joint lies."""
    bones, size = len(person.bones), stage.size
    columns = bone_columns(person, motion)
    # Rest normals are turned by the same bones: weights are every fourth column of ``skin``.
    weighted = (person.skin[:, 3::4, None] * person.normals[:, None, :]).reshape(len(person.rest), -1)
    head = motion.rotations[:, person.bones.index("head")]
    at = np.floor(joints * size).astype(int).clip(0, size - 1)
    pictures = np.empty((len(joints), size, size, 3), np.uint8)
    surface = np.empty(joints.shape[:2], np.float32)
    for start in range(0, len(joints), _AT_ONCE):
        part = slice(start, min(start + _AT_ONCE, len(joints)))
        frames = part.stop - start
        turn = columns[:, 3 * start : 3 * part.stop]
        positions = (person.skin @ turn).reshape(-1, frames, 3)
        shifts = np.einsum("fu,ukx,fyx->kfy", motion.face[part], person.face_units, head[part], optimize=True)
        positions[person.moving_face] += shifts.astype(np.float32)
        turn = turn.reshape(bones, 4, -1)[:, :3].reshape(bones * 3, -1)
        normals = (weighted @ turn).reshape(-1, frames, 3)
        for i in range(frames):
            vertices = np.concatenate([positions[:, i], normals[:, i]], axis=1)
            pictures[start + i], depth = stage.draw(vertices)
            surface[start + i] = depth[at[start + i, :, 1], at[start + i, :, 0]]
    return pictures, surface


def landmarks(person: Person, motion: Motion, vertices: list[int]) -> Floats:
    """Base vertices moved like the skin: (f, k, 3)."""
    rest, weights = person.base[vertices].astype(np.float64), person.base_weights[vertices].astype(np.float64)
    moved = motion.positions - np.einsum("fbij,bj->fbi", motion.rotations, person.heads)
    points = np.einsum("kb,fbij,kj->fki", weights, motion.rotations, rest, optimize=True) + np.einsum(
        "kb,fbi->fki", weights, moved
    )
    head = motion.rotations[:, person.bones.index("head")]
    return points + np.einsum(
        "fu,ukx,fyx->fky", motion.face, person.base_units[:, vertices], head, optimize=True
    )


def joints_in_space(person: Person, motion: Motion) -> Floats:
    """All joints (f, 128, 3) in dm, where detectors find them; knees and ankles, not modelled, at 0."""
    at = {name: i for i, name in enumerate(person.bones)}

    def heads(*names: str) -> Floats:
        return motion.positions[:, [at[n] for n in names]]

    joints = np.zeros((len(motion.jaw), N_JOINTS, 3))
    face = landmarks(person, motion, list(FACE_VERTICES))
    joints[:, FACE] = face
    shoulders = _found_shoulders(heads("upperarm01.R", "upperarm01.L"), heads("spine05", "neck01"))
    joints[:, 0], joints[:, 1], joints[:, [2, 5]] = face[:, 30], shoulders.mean(axis=1), shoulders
    joints[:, [3, 6]] = heads("lowerarm01.R", "lowerarm01.L")
    joints[:, [8, 11]] = landmarks(person, motion, list(HIP_VERTICES))
    joints[:, 14], joints[:, 15] = face[:, 36:42].mean(axis=1), face[:, 42:48].mean(axis=1)
    joints[:, [16, 17]] = landmarks(person, motion, list(EAR_VERTICES))
    for side, (where, *_, on_body) in zip("LR", ARMS, strict=True):
        names = [f"finger{k}-{j}.{side}" for k in range(1, 6) for j in (1, 2, 3)]
        chains = heads(*names).reshape(-1, 5, 3, 3)
        ends = [at[f"finger{k}-3.{side}"] for k in range(1, 6)]
        reach = person.tails[ends] - person.heads[ends]
        tips = motion.positions[:, ends] + np.einsum("fbij,bj->fbi", motion.rotations[:, ends], reach)
        wrist = heads(f"wrist.{side}")[:, 0]
        palm = chains[:, 2, 0] - wrist
        chains[:, :, 0] -= _KNUCKLES_BACK[:, None] * palm[:, None]
        joints[:, where.start] = joints[:, on_body] = wrist + _WRIST_ON * palm
        joints[:, where.start + 1 : where.stop] = np.concatenate([chains, tips[:, :, None]], axis=2).reshape(
            -1, 20, 3
        )
    return joints


def _found_shoulders(joints: Floats, spine: Floats) -> Floats:
    """Right and left shoulder (f, 2, 3) as detectors find them; ``spine`` is its lower and upper end."""
    across = joints[:, 1] - joints[:, 0]
    width = np.linalg.norm(across, axis=1, keepdims=True)
    up = spine[:, 1] - spine[:, 0]
    up -= across * (up * across).sum(axis=1, keepdims=True) / width**2
    up *= width / np.linalg.norm(up, axis=1, keepdims=True)
    inwards = _SHOULDERS_IN * np.stack([across, -across], axis=1)
    return np.asarray(joints + inwards + _SHOULDERS_UP * up[:, None])


def project(points: Floats, scene: Scene) -> tuple[Floats, Floats]:
    """Points (…, 3) to fractions of the picture (…, 2) and window depth (…,)."""
    clip = points @ scene.view_projection[:, :3].T + scene.view_projection[:, 3]
    ndc = clip[..., :3] / clip[..., 3:]
    return ndc[..., :2] * (0.5, -0.5) + 0.5, (ndc[..., 2] + 1) / 2


def _visibility(space: Floats, joints: Floats, surface: NDArray[np.float32], scene: Scene) -> Floats:
    """Confidence (f, 128): 1 seen, 0.3 hidden by something, 0 outside the picture or not modelled.

    Seen = no surface in front of the joint, except the flesh it lies in.
    """
    towards = scene.eye - space
    lifted = space + towards / np.linalg.norm(towards, axis=-1, keepdims=True) * _FLESH[:, None]
    _, depth = project(lifted, scene)
    inside = ((joints >= 0) & (joints < 1)).all(axis=-1)
    confidence = np.where(inside & (depth <= surface), 1.0, np.where(inside, 0.3, 0.0))
    confidence[:, _NOT_MODELLED] = 0.0
    return confidence


def _boxes(gesture: Gesture, person: Person, motion: Motion, scene: Scene) -> dict[str, NDArray[np.float32]]:
    lips = gesture.joints[:, FACE][:, LIPS]
    head_vertices = list(np.flatnonzero(person.base_weights[:13380, person.bones.index("head")] > 0.9)[::7])
    head, _ = project(landmarks(person, motion, head_vertices), scene)
    parts = {
        "lips": (lips, 0.15), "face": (gesture.joints[:, FACE], 0.05), "head": (head, 0.04),
        "left_hand": (gesture.joints[:, LEFT_HAND], 0.12),
        "right_hand": (gesture.joints[:, RIGHT_HAND], 0.12),
    }  # fmt: skip
    return {name: box_around(points, margin) for name, (points, margin) in parts.items()}
