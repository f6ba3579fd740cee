"""Packed clips and the samples drawn from them."""

from __future__ import annotations

import dataclasses
import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from numpy.typing import NDArray

from semibody import media
from semibody.clips.manifest import ClipEntry
from semibody.clips.mouth import mouth_opening
from semibody.clips.truth import BOXES, Truth
from semibody.data import dataset
from semibody.data.dataset import (
    LatentStore,
    PackedClip,
    Packing,
    pack_clip,
    pack_manifest,
    packed_clips,
    pad_head,
)
from semibody.networks.audio_encoders import AudioConfig, build_audio_encoder
from semibody.pose.files import save_gesture
from semibody.pose.regions import audio_mask
from semibody.pose.skeleton import GROUPS
from semibody.training.batches import generator
from semibody.training.crops import CropSamples
from semibody.training.drawn import draw_clip
from semibody.training.parts import coverage
from semibody.training.recipe import Recipe, load_recipe
from semibody.training.samples import (
    DenoisingSamples,
    Draw,
    PortraitFrame,
    draw_noise,
    draw_timestep,
    is_decoded,
    portrait_frame,
)
from semibody.training.settings import NoiseSettings
from semibody.training.stages import STAGES
from semibody.training.stages.denoise import MotionStage, StillStage
from semibody.types import FACE, SemibodyError, Speech
from training.nano import nano

PACKING = Packing(size=64)


@pytest.fixture(scope="module")
def clips(folder: Path) -> list[PackedClip]:
    return packed_clips(folder, PACKING)


def fake_store(folder: Path, clips: list[PackedClip]) -> LatentStore:
    store = LatentStore(folder)

    def encode(pictures: NDArray[np.uint8]) -> NDArray[np.float16]:
        small = pictures[:, ::8, ::8].transpose(0, 3, 1, 2).astype(np.float16) / 128 - 1
        return np.concatenate([small, small[:, :1]], axis=1)

    def encode_audio(speech: Speech) -> NDArray[np.float16]:
        ear = build_audio_encoder(AudioConfig(kind="logmel", width=16))
        return ear.rows(torch.from_numpy(speech.waveform)).numpy().astype(np.float16)

    store.fill(clips, encode, encode_audio)
    return store


def samples(recipe: Recipe, clips: list[PackedClip], folder: Path, stage: str = "still") -> DenoisingSamples:
    ear = build_audio_encoder(recipe.model.audio)
    kind = STAGES[stage]
    assert issubclass(kind, StillStage | MotionStage)
    return DenoisingSamples(recipe, kind.drawing(recipe), recipe.model, clips, fake_store(folder, clips), ear)


def test_packing_a_clip_loses_nothing(clips: list[PackedClip]) -> None:
    pictures, gesture, speech, truth = draw_clip(0, 0, 8, 64, 24.0)
    clip = clips[0]
    back = clip.pictures([5, 2])
    assert np.abs(back.astype(int) - pictures[[5, 2]].astype(int)).mean() < 2
    assert np.allclose(clip.pose(3).joints, gesture.joints[3], atol=1e-6)
    assert np.allclose(clip.gesture().confidence, gesture.confidence)
    assert np.allclose(clip.jaw(), truth.jaw)
    assert np.abs(clip.speech().waveform - speech.waveform).max() < 1e-4
    x0, y0, x1, y1 = clip.boxes(0)["lips"]
    lips = gesture.joints[0, GROUPS["lips"]]
    assert x0 < lips[:, 0].min() < lips[:, 0].max() < x1
    assert y0 < lips[:, 1].min() < lips[:, 1].max() < y1
    assert [c.split for c in clips] == ["train", "train", "val"]


def test_the_detected_mouth_opens_with_the_true_one() -> None:
    _, gesture, _, truth = draw_clip(0, 1, 24, 64, 24.0)
    assert np.corrcoef(mouth_opening(gesture), truth.jaw)[0, 1] > 0.95


def test_heads_are_padded_into_the_half_body_frame() -> None:
    pictures, gesture, _, _ = draw_clip(0, 0, 3, 64, 24.0)
    boxes = np.full((3, len(BOXES), 4), np.nan, np.float32)
    boxes[:, BOXES.index("head")] = (0.2, 0.1, 0.8, 0.9)
    padded, moved, new_boxes, valid = pad_head(pictures, gesture, boxes, PACKING)
    x0, y0, x1, y1 = new_boxes[0, BOXES.index("head")]
    assert y1 - y0 == pytest.approx(PACKING.head_height, abs=0.02)
    assert y0 == pytest.approx(PACKING.head_top, abs=0.02)
    assert (x0 + x1) / 2 == pytest.approx(0.5, abs=0.02)
    inside = coverage(np.array(valid, np.float32), 64, 64)
    assert padded[0][inside == 0].max() == 0
    assert padded[0][inside == 1].min() > 0
    # The joints move with the picture: what was at a joint is still there.
    joint = moved.joints[0, 5] * 64
    before = gesture.joints[0, 5] * 64
    at_new = padded[0][int(joint[1]), int(joint[0])].astype(int)
    at_old = pictures[0][int(before[1]), int(before[0])].astype(int)
    assert np.abs(at_new - at_old).max() < 60


def test_stored_latents_are_read_back(clips: list[PackedClip], tmp_path: Path) -> None:
    ear = build_audio_encoder(AudioConfig(kind="logmel", width=16))
    rows = ear.rows(torch.from_numpy(clips[0].speech().waveform)).numpy()
    stored = fake_store(tmp_path, clips[:1])
    np.testing.assert_allclose(stored.rows(clips[0]), rows, atol=2e-3)
    pictures = clips[0].pictures([3])[0]
    latents = stored.latents(clips[0], [3])[0]
    np.testing.assert_allclose(latents[:3], pictures[::8, ::8].transpose(2, 0, 1) / 128 - 1, atol=1e-3)


def test_samples_depend_on_step_and_number_alone(clips: list[PackedClip], tmp_path: Path) -> None:
    drawn = samples(nano(), clips[:2], tmp_path)
    whole, single = drawn.batch(3, [0, 1, 2, 3]), [drawn.batch(3, [k]) for k in range(4)]
    assert torch.equal(whole.noise, torch.cat([p.noise for p in single]))
    assert torch.equal(whole.pose, torch.cat([p.pose for p in single]))
    assert whole.names == [p.names[0] for p in single]
    assert not torch.equal(whole.noise, drawn.batch(4, [0, 1, 2, 3]).noise)
    assert len(whole.decoded) == 2  # every second one


@pytest.mark.parametrize("processes", [1, 2, 4, 8])
def test_decoding_is_spread_over_processes(processes: int) -> None:
    """Each process has every n-th sample of a batch of 32, of which one in four is decoded."""
    for step in range(8):
        counts = [
            sum(is_decoded(step, n, 4) for n in range(rank, 32, processes)) for rank in range(processes)
        ]
        assert counts == [8 // processes] * processes
    for number in range(32):
        assert sum(is_decoded(step, number, 4) for step in range(4)) == 1
        assert is_decoded(3, number, 1)


def test_a_sample_opens_few_files_however_many_frames_it_has(
    clips: list[PackedClip], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    opened: list[Path] = []
    real = dataset._open

    def noted(path: Path) -> Any:
        opened.append(path)
        return real(path)

    counts = []
    for frames in (1, 6):
        drawn = samples(nano(f"still.frames={frames}", "loss.arms=2", "loss.hands=2"), clips[:2], tmp_path)
        monkeypatch.setattr(dataset, "_open", noted)
        opened.clear()
        drawn.sample(0, 0)
        counts.append(len(opened))
        monkeypatch.setattr(dataset, "_open", real)
    assert counts[0] == counts[1] <= 10


def test_shapes_and_masks_of_a_window(clips: list[PackedClip], tmp_path: Path) -> None:
    drawn = samples(nano("loss.lips=5"), clips[:2], tmp_path, "motion")
    batch = drawn.batch(0, [0, 1])
    assert batch.latents.shape == batch.noise.shape == (2, 3, 4, 8, 8)
    assert batch.pose.shape == (2, 3, 3, 64, 64)
    assert batch.portrait_pose is not None and batch.portrait_pose.shape == (2, 3, 64, 64)
    assert batch.rows.shape[:2] == (2, 3)
    assert batch.weight.shape == batch.audio_mask.shape == (2, 3, 8, 8)
    assert 1.5 < batch.weight.max() <= 5
    assert batch.audio_mask.min() == 1
    (row, frame, top, left, side), picture = batch.decoded[0].tolist(), batch.pixels[0]
    assert picture.shape == (3, 32, 32)
    assert side == 4
    assert 0 <= top <= 4
    assert 0 <= left <= 4
    assert (row, frame < 3) == (0, True)


def test_the_curriculum_decides_what_is_drawn(clips: list[PackedClip], tmp_path: Path) -> None:
    blocks = [f"curriculum.{name}=10" for name in ("initial", "iterative", "lips", "head", "body")]
    drawn = samples(nano(*blocks, "curriculum.pose_dropout_after=0.0"), clips[:2], tmp_path)
    ink = [int((drawn.batch(step, [0, 1]).pose > 0).sum()) for step in (0, 25, 35, 45)]
    assert ink == sorted(ink, reverse=True)
    assert ink[0] > ink[-1] > 0
    masks = [float(drawn.batch(step, [0]).audio_mask.mean()) for step in (0, 25, 35, 45)]
    assert masks == sorted(masks)
    assert masks[0] == 0
    assert masks[-1] == 1


def test_the_portraits_own_map_may_show_more_than_the_frames(clips: list[PackedClip], tmp_path: Path) -> None:
    hands, arms = (
        samples(nano(f"model.portrait_parts={parts}"), clips[:2], tmp_path).sample(0, 0)
        for parts in ('["hands"]', '["body","hands"]')
    )
    assert (hands["pose"] == arms["pose"]).all()
    assert (arms["portrait_pose"] > 0).sum() > 1.5 * (hands["portrait_pose"] > 0).sum() > 0


def test_audio_attention_may_be_masked_to_the_mouth(clips: list[PackedClip], tmp_path: Path) -> None:
    drawn = samples(nano("model.audio_region=face"), clips[:2], tmp_path)
    clip = clips[0]
    made = drawn.at_pure_noise(Draw(clip, [1, 5], PortraitFrame(clip, 7)), np.random.default_rng(0))
    region = audio_mask(clip.pose(7), "face", 8, 8, drawn.recipe.model.hints.audio_dilation)
    assert 0 < region.mean() < 1
    assert (made["audio_mask"] == region).all()


def head_clip(folder: Path) -> PackedClip:
    pictures, gesture, speech, truth = draw_clip(0, 9, 8, 64, 24.0)
    path = pack_clip(
        folder, "head", pictures, gesture, speech, truth, person="h", kind="head", split="train",
        packing=PACKING,
    )  # fmt: skip
    return PackedClip(path)


def test_padded_heads_mask_audio_to_the_face_and_leave_their_border_out_of_the_loss(
    clips: list[PackedClip], tmp_path: Path
) -> None:
    everything = [*clips[:2], head_clip(tmp_path / "heads")]
    drawn = samples(nano("curriculum.head_share=1.0"), everything, tmp_path / "on")
    batch = drawn.batch(0, [0, 1])
    assert all(name.startswith("head") for name in batch.names)
    assert 0 < batch.audio_mask.mean() < 0.6
    assert batch.weight.min() == 0
    without = samples(
        nano("curriculum.head_share=1.0", "curriculum.partial_attention=false"), everything, tmp_path / "on"
    ).batch(0, [0])
    assert without.audio_mask.min() == 1
    assert without.weight.min() > 0
    none = samples(nano("curriculum.head_share=0.0"), everything, tmp_path / "on").batch(0, list(range(8)))
    assert not any(name.startswith("head") for name in none.names)


def test_decoded_estimates_know_the_padding(clips: list[PackedClip], tmp_path: Path) -> None:
    everything = [*clips[:2], head_clip(tmp_path / "heads")]
    whole = ("loss.decode_every=1", "loss.decode_cells=0")
    batch = samples(nano("curriculum.head_share=1.0", *whole), everything, tmp_path).batch(0, [0])
    (picture,), (inside,) = batch.pixels, batch.inside
    assert inside.shape == (1, 64, 64)
    assert 0.05 < inside.float().mean() < 0.9
    assert picture[:, ~inside[0]].max() < 16  # black, but for what JPEG adds
    half = samples(nano("curriculum.head_share=0.0", *whole), everything, tmp_path).batch(0, [0])
    assert bool(half.inside[0].all())


def test_dropped_audio_is_unmasked_and_the_curriculum_still_mutes(
    clips: list[PackedClip], tmp_path: Path
) -> None:
    drawn = samples(
        nano("noise.drop_audio=1.0", "curriculum.initial=5", "curriculum.lips=5"), clips, tmp_path
    )
    muted, lips = drawn.batch(0, [0, 1]), drawn.batch(7, [0, 1])
    assert (muted.has_audio.tolist(), float(muted.audio_mask.max())) == ([1, 1], 0)
    assert (lips.has_audio.tolist(), float(lips.audio_mask.min())) == ([0, 0], 1)


def test_stills_of_one_person_may_share_a_portrait(clips: list[PackedClip], tmp_path: Path) -> None:
    recipe = nano("still.frames=3", "data.gap=2")
    made = samples(recipe, clips, tmp_path).batch(5, range(4))
    assert made.latents.shape[:2] == (4, 3)
    assert made.portrait.ndim == 4
    for one in made.latents:
        assert len({tuple(frame.flatten()[:64].tolist()) for frame in one}) == 3


def test_frames_of_calm_stills_have_the_head_where_the_portrait_has_it(
    clips: list[PackedClip], tmp_path: Path
) -> None:
    recipe = nano("still.frames=2", "data.gap=1", "data.calm=0.4")
    drawn = samples(recipe, clips, tmp_path)
    for clip in clips[:3]:
        faces = clip.gesture().joints[:, FACE][:, :48]
        for number in range(10):
            rng = np.random.default_rng(number)
            _, frames, (_, portrait) = drawn._of_person(rng, [clip], clip)
            away = np.linalg.norm(faces - faces[portrait], axis=-1).mean(axis=-1)
            others = np.delete(away, portrait)
            assert portrait not in frames
            assert away[frames].max() <= np.sort(others)[round(0.4 * len(clip)) - 1] + 1e-9


def test_the_portrait_is_far_from_the_frames() -> None:
    rng = np.random.default_rng(0)
    for _ in range(50):
        assert abs(portrait_frame(rng, 40, [20], 8) - 20) >= 8
    assert portrait_frame(rng, 4, [0, 1, 2], 8) == 3


def test_timesteps_are_drawn_as_asked() -> None:
    plain, noisy = nano("noise.power=1"), nano("noise.power=3")
    few = nano("noise.sampler_steps=4", "noise.sampler_share=1.0")
    draws = {
        key: [draw_timestep(generator(0, STAGES["still"].source, i, 0), recipe) for i in range(400)]
        for key, recipe in (("plain", plain), ("noisy", noisy), ("few", few))
    }
    assert np.mean(draws["plain"]) == pytest.approx(500, abs=60)
    assert np.mean(draws["noisy"]) > 680
    assert set(draws["few"]) == {999, 749, 499, 249}


def test_the_last_steps_have_the_samplers_timesteps_only(clips: list[PackedClip], tmp_path: Path) -> None:
    recipe = nano("noise.sampler_steps=1", "noise.refine=0.5", "still.optimiser.steps=40")
    ours = samples(recipe, clips, tmp_path)
    drawn = [ours.batch(step, [0, 1]).t.tolist() for step in range(40)]
    assert len({t for pair in drawn[:20] for t in pair}) > 10
    assert {t for pair in drawn[20:] for t in pair} == {999}


def test_refinement_needs_a_number_of_steps() -> None:
    with pytest.raises(SemibodyError, match="sampler_steps"):
        load_recipe("tiny", ["noise.refine=0.5", "noise.sampler_steps=0"])


def test_noise_is_drawn_as_asked() -> None:
    rng = np.random.default_rng(0)
    shape = (4, 3, 32, 32)
    assert np.abs(draw_noise(rng, shape, NoiseSettings(clamp=1.5))).max() == 1.5
    shared = draw_noise(rng, shape, NoiseSettings(shared=0.5))
    assert shared.std() == pytest.approx(1, abs=0.03)
    assert np.corrcoef(shared[0].ravel(), shared[1].ravel())[0, 1] == pytest.approx(0.5, abs=0.05)
    offset = draw_noise(rng, shape, NoiseSettings(offset=0.5))
    assert offset.mean(axis=(0, 2, 3)).std() > 0.1


def test_crops_lie_on_faces_and_hands(clips: list[PackedClip]) -> None:
    drawn = CropSamples(recipe=nano(), source=1, clips=clips[:2], side=32, on_parts=1.0, factor=3.0)
    crops = drawn.batch(0, list(range(8)))
    assert crops.pixels.shape == (8, 3, 32, 32)
    assert crops.weight.shape == (8, 1, 32, 32)
    assert float(crops.weight.amax(dim=(1, 2, 3)).min()) > 1.5


def entry(folder: Path, frames: int = 6, number: int = 0) -> ClipEntry:
    pictures, gesture, speech, truth = draw_clip(0, number, frames, 64, 24.0)
    folder.mkdir(parents=True, exist_ok=True)
    with media.VideoWriter(folder / "a.mp4", fps=24, width=64, height=64, speech=None, metadata={}) as video:
        video.write(pictures)
    media.write_speech(folder / "a.wav", speech)
    save_gesture(gesture, folder / "a.npz")
    truth.save(folder / "truth.npz")
    return ClipEntry(
        id="a", split="train", person="p", kind="full", source="synthetic", video=folder / "a.mp4",
        audio=folder / "a.wav", gesture=folder / "a.npz", truth=folder / "truth.npz", frames=frames, fps=24.0,
        width=64, height=64, seconds=frames / 24,
    )  # fmt: skip


def test_a_manifest_is_packed_once(tmp_path: Path) -> None:
    made = entry(tmp_path / "data")
    (clip,) = pack_manifest([made], tmp_path / "packed", PACKING)
    assert len(clip) == 6
    stamp = clip.path.stat().st_mtime_ns
    pack_manifest([made], tmp_path / "packed", PACKING)
    assert clip.path.stat().st_mtime_ns == stamp


def break_gesture(made: ClipEntry) -> ClipEntry:
    assert made.truth is not None
    jaw = np.full(6, np.nan, np.float32)
    Truth(jaw, {}).save(made.truth)
    return made


@pytest.mark.parametrize(
    ("mistake", "message"),
    [
        (lambda e: dataclasses.replace(e, video=e.video.with_name("gone.mp4")), "gone.mp4 is missing"),
        (break_gesture, "NaN"),
    ],
)
def test_unusable_clips_are_named(
    tmp_path: Path, mistake: Callable[[ClipEntry], ClipEntry], message: str
) -> None:
    made = mistake(entry(tmp_path / "data"))
    with pytest.raises(SemibodyError, match=message):
        pack_manifest([made], tmp_path / "packed", PACKING)
    assert not packed_clips(tmp_path / "packed", PACKING)


def test_clips_shorter_than_the_window_are_named(clips: list[PackedClip], tmp_path: Path) -> None:
    with pytest.raises(SemibodyError, match="drawn-0000: has 8 frames"):
        samples(nano("motion.frames=8"), clips, tmp_path, "motion")


def test_a_damaged_packed_clip_is_named(tmp_path: Path) -> None:
    place = tmp_path / PACKING.key
    place.mkdir()
    (place / "x.clip.safetensors").write_bytes(json.dumps({}).encode() * 20)
    with pytest.raises(SemibodyError, match="damaged"):
        packed_clips(tmp_path, PACKING)
