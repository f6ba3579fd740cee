from __future__ import annotations

import dataclasses
import shutil
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch

import made
from semibody import media, runtime
from semibody.animator import Animator
from semibody.diffusion.stream import parts
from semibody.inputs import fit_portrait, prepare
from semibody.networks.hints import Hints
from semibody.pipeline import SemibodyPipeline
from semibody.pose.draw import draw_parts
from semibody.pose.skeleton import GROUPS
from semibody.settings import Settings
from semibody.types import Clip, Gesture, Pose, SemibodyError, Speech
from semibody.weights import hub, store

PLAIN = {
    "width": 64,
    "height": 64,
    "steps": 1,
    "guidance": 1.0,
    "fps": 12.0,
    "frame": "keep",
    "align": "none",
}


@pytest.fixture(scope="module")
def animator() -> Animator:
    return made.animator()


def test_a_clip_has_the_asked_shape(animator: Animator) -> None:
    clip = animator.animate(made.picture(), made.tone(1.0), made.gesture(), width=64, height=80)
    assert clip.frames.shape == (12, 80, 64, 3)
    assert clip.speech is not None
    assert clip.seconds == pytest.approx(clip.speech.seconds)


def test_one_frame_and_no_guidance_work(animator: Animator) -> None:
    for guidance in (0.0, 1.0, 2.5):
        clip = animator.animate(made.picture(), made.tone(), made.gesture(), length=1, guidance=guidance)
        assert len(clip) == 1


def test_a_single_pose_is_held(animator: Animator) -> None:
    inputs = prepare(made.picture(), made.tone(), made.gesture(1), animator.defaults)
    assert len(inputs) == 12
    assert any("one pose" in notice for notice in inputs.notices)


@pytest.mark.parametrize(("how", "frames"), [("pingpong", 24), ("loop", 24), ("hold", 24), ("stop", 6)])
def test_short_gestures(animator: Animator, how: str, frames: int) -> None:
    settings = animator.settings(on_short_gesture=how)
    inputs = prepare(made.picture(), made.tone(2.0), made.gesture(12, fps=24), settings)
    assert len(inputs) == frames
    assert how in " ".join(inputs.notices) or inputs.notices


def test_same_seed_same_file(animator: Animator, tmp_path: Path) -> None:
    contents = []
    for name, seed in (("a", 1), ("b", 1), ("c", 2)):
        path = tmp_path / f"{name}.mp4"
        animator.animate_to(path, made.picture(), made.tone(), made.gesture(), seed=seed)
        contents.append(path.read_bytes())
    assert contents[0] == contents[1] != contents[2]
    assert media.read_metadata(tmp_path / "a.mp4")["settings"]["seed"] == 1


def test_audio_acts_where_the_portraits_mouth_is() -> None:
    config = dataclasses.replace(made.small_config(), hints=Hints(audio_region="lips"))
    animator = Animator.random(config, seed=0, **PLAIN)
    inputs = prepare(made.picture(), made.tone(), made.gesture(), animator.defaults)
    pose = Pose.empty()
    pose.joints[GROUPS["lips"]] = [[0.45 + 0.1 * (i % 2), 0.3 + 0.03 * (i % 3)] for i in range(20)]
    pose.confidence[GROUPS["lips"]] = 1.0
    for shown, everywhere in ((pose, False), (None, True)):
        seen = dataclasses.replace(inputs, portrait_pose=shown)
        mask = animator.conditions(seen, animator.defaults).of([0, 1]).audio_mask
        assert (mask is None) == everywhere
        if mask is not None:
            assert mask.shape == (1, 2, 8, 8)
            assert mask[0, 0, 2, 4] > 0.5
            assert mask[0, 0, 6:].max() == 0


def test_pose_features_are_given_less_the_portraits_own() -> None:
    parts = ("body", "hands")
    config = dataclasses.replace(made.small_config(), hints=Hints(pose="change", own_parts=parts))
    animator = Animator.random(config, seed=0, **PLAIN)
    inputs = prepare(made.picture(), made.tone(), made.gesture(), animator.defaults)

    def features(shown: Pose | None) -> torch.Tensor:
        seen = animator.conditions(dataclasses.replace(inputs, portrait_pose=shown), animator.defaults)
        pose = seen.of([0, 1]).pose
        assert pose is not None
        return pose[0]

    own = inputs.gesture[5]
    drawn = torch.from_numpy(draw_parts(own, 64, 64, parts)).permute(2, 0, 1)[None].float() / 255
    with torch.inference_mode():
        away = animator.model.pose_encoder(drawn)
    torch.testing.assert_close(features(None) - away, features(own), atol=1e-5, rtol=1e-4)
    assert away.abs().max() > 1e-3


@pytest.mark.parametrize("solver", ["ddim", "dpm++", "unipc"])
def test_solvers(animator: Animator, solver: str) -> None:
    clip = animator.animate(made.picture(), made.tone(0.3), made.gesture(), solver=solver, steps=4)
    assert len(clip) == 3


def test_size_is_rounded_to_the_grid(animator: Animator) -> None:
    settings = animator.settings(width=67, height=101)
    assert (settings.width % 4, settings.height % 4) == (0, 0)
    assert abs(settings.width - 67) <= 4


@pytest.mark.parametrize(
    "bad",
    [{"steps": 0}, {"fps": 0.0}, {"guidance": -1.0}, {"length": 0}, {"overlap": 12}, {"width": 8},
     {"window": 64}, {"seed": -2}, {"solver": "euler"}, {"stepz": 3}],
)  # fmt: skip
def test_impossible_settings(animator: Animator, bad: dict[str, object]) -> None:
    with pytest.raises(SemibodyError):
        animator.settings(**bad)


@pytest.mark.parametrize("frame", ["auto", "keep"])
@pytest.mark.parametrize("size", [(100, 200), (200, 100), (128, 128)])
def test_portraits_are_never_stretched(frame: str, size: tuple[int, int]) -> None:
    """A drawn circle stays as wide as it is high."""
    import cv2

    canvas = np.zeros((*size, 3), np.uint8)
    radius = 25
    cv2.circle(canvas, (size[1] // 2, 50), radius, (255, 255, 255), -1)
    fitted = fit_portrait(canvas, Settings(width=128, height=128, frame=frame)).picture  # type: ignore[arg-type]
    lit = np.argwhere(fitted[..., 0] > 127)
    height, width = lit.max(0) - lit.min(0)
    assert abs(int(height) - int(width)) <= 2


@pytest.mark.parametrize("size", [(10, 10000), (10000, 10), (20, 20)])
def test_impossible_portraits(size: tuple[int, int]) -> None:
    with pytest.raises(SemibodyError, match="half-body picture"):
        fit_portrait(np.zeros((*size, 3), np.uint8), Settings())


def test_speech_is_checked(animator: Animator) -> None:
    silent = Speech(np.zeros(16000, np.float32))
    for speech, says in ((silent, "silent"), (made.tone(0.05), "lasts 0.05 s")):
        with pytest.raises(SemibodyError, match=says):
            prepare(made.picture(), speech, made.gesture(), animator.defaults)
    allowed = dataclasses.replace(animator.defaults, allow_silence=True)
    assert len(prepare(made.picture(), silent, made.gesture(), allowed)) == 12


def test_memory_grows_by_latents_only(animator: Animator) -> None:
    """40 times the frames: what is alive between slices is counted, not the process, which is noisy."""
    import tracemalloc

    def peak(seconds: float) -> int:
        settings = animator.settings(width=64, height=64, steps=1)
        inputs = prepare(made.picture(), made.tone(seconds), made.gesture(), settings)
        tracemalloc.start()
        for _ in animator.frames(inputs, settings):
            pass
        size = tracemalloc.get_traced_memory()[1]
        tracemalloc.stop()
        return size

    peak(1.0)
    short, long = peak(1.0), peak(10.0)
    one_frame = 64 * 64 * 3
    assert long - short < 108 * one_frame, "pixels of the whole clip are never held"


@pytest.mark.parametrize(("part", "where"), [("denoising_unet.conv_out", "step 1 of 2"), ("vae", "frame 0")])
@pytest.mark.parametrize(
    ("dtype", "remedy"), [(torch.bfloat16, "--precision fp32"), (torch.float32, "weights verify")]
)
def test_values_that_are_not_finite_never_become_a_video(
    part: str, where: str, dtype: torch.dtype, remedy: str, tmp_path: Path
) -> None:
    broken = made.animator()
    for parameter in broken.model.get_submodule(part).parameters():
        parameter.data.fill_(float("inf"))
    broken = Animator(broken.model.to(dtype), defaults=broken.defaults)
    if part == "vae":
        for parameter in broken.model.vae.encoder.parameters():
            parameter.data.fill_(0.0)
        broken.model.vae.quant_conv.weight.data.fill_(0.0)
        assert broken.model.vae.quant_conv.bias is not None
        broken.model.vae.quant_conv.bias.data.fill_(0.0)
    with pytest.raises(SemibodyError, match=f"{where}.*{remedy}"):
        broken.animate_to(tmp_path / "out.mp4", made.picture(), made.tone(), made.gesture())
    assert not list(tmp_path.iterdir())


def test_bf16_is_close_to_fp32(animator: Animator) -> None:
    inputs = (made.picture(), made.tone(0.3), made.gesture())
    half = SemibodyPipeline.from_animator(made.animator()).to(dtype=torch.bfloat16)
    clip = half(*inputs).clip
    assert clip is not None
    difference = clip.frames.astype(int) - animator.animate(*inputs).frames
    assert np.abs(difference).mean() < 6


def test_machine_choices() -> None:
    import torch

    cpu = torch.device("cpu")
    assert runtime.choose_dtype("fp32", cpu) == torch.float32
    for precision in ("fp16", "int3"):
        with pytest.raises(SemibodyError, match=precision):
            runtime.choose_dtype(precision, cpu)
    for device in ("cuda:99", "meta", "gpu"):
        with pytest.raises(SemibodyError, match=f"--device {device} .*--device cpu") as error:
            runtime.choose_device(device)
        assert "\n" not in str(error.value)
    assert runtime.peak_memory() > 10**7


def test_gesture_needs_a_pose() -> None:
    with pytest.raises(ValueError, match="at least one"):
        Gesture(np.zeros((0, 128, 2)), np.zeros((0, 128)))


@pytest.mark.parametrize("resume", [False, True])
def test_a_disk_that_is_too_small_is_noticed_before_the_work(
    animator: Animator, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, resume: bool
) -> None:
    inputs = prepare(made.picture(), made.tone(), made.gesture(), animator.settings())
    monkeypatch.setattr(shutil, "disk_usage", lambda path: shutil._ntuple_diskusage(100, 0, 100))
    with pytest.raises(SemibodyError, match=r"o\.mp4: takes about .* MB are free there; make room"):
        animator.write(tmp_path / "new" / "o.mp4", inputs, animator.settings(), resume=resume)
    assert list(tmp_path.iterdir()) == []


def test_the_least_size_of_a_video_is_below_that_of_a_still_one(animator: Animator, tmp_path: Path) -> None:
    """A grey wall takes less than any person, so what is refused can never have fitted."""
    frames = np.full((24, 256, 256, 3), 128, np.uint8)
    frames[:, 64:192, 64:192] += np.random.default_rng(0).integers(0, 64, (128, 128, 3), np.uint8)
    for crf in (8, 18, 28):
        media.write_clip(Clip(frames, 24.0), tmp_path / "o.mp4", crf=crf)
        assert media.least_bytes(256, 256, 24, crf) < (tmp_path / "o.mp4").stat().st_size


def test_a_full_memory_is_one_line_wherever_clips_are_made(monkeypatch: pytest.MonkeyPatch) -> None:
    """Batch and page catch users' mistakes only: a traceback of the GPU's says nothing to do."""
    full = made.animator()

    def decode(*_: object) -> None:
        raise torch.OutOfMemoryError("CUDA out of memory. Tried to allocate 20.00 MiB. GPU 0 has …")

    monkeypatch.setattr(full.model, "decode", decode)
    with pytest.raises(SemibodyError, match="not enough memory; lower --size"):
        full.animate(made.picture(), made.tone(0.3), made.gesture())


@pytest.mark.parametrize(("steps", "most"), [(1, 12), (2, 48)])
def test_with_one_step_only_one_window_is_kept(animator: Animator, steps: int, most: int) -> None:
    """Of 48 frames; what neighbouring windows share is computed once all the same."""
    settings = animator.settings(**{**PLAIN, "fps": 24.0, "steps": steps})
    conditions = animator.conditions(
        prepare(made.picture(), made.tone(2.0), made.gesture(), settings), settings
    )
    encoded: list[int] = []
    make = conditions._features._make
    conditions._features._make = lambda frames: (encoded.extend(frames), make(frames))[1]  # type: ignore[func-returns-value]
    kept = []
    for start in (*range(0, 37, 9), 36):
        conditions.of(list(range(start, min(start + 12, 48))))
        kept.append(len(conditions._features._kept))
    assert encoded == list(range(48))
    assert max(kept) == most


@pytest.mark.skipif(not store.is_store(hub.STARTER), reason="the starter's weights are not here")
def test_a_stream_has_the_frames_of_the_clip() -> None:
    """The starter's frames share their noise and no layer, so each is the same bits whenever it is made."""
    animator = Animator.load("starter", device="cpu")
    settings = animator.settings(width=128, height=128, frame="keep", length=30)
    prepared = prepare(hub.STARTER / "portrait.png", hub.STARTER / "speech.wav", "auto", settings)
    conditions = animator.conditions(prepared, settings)
    whole = np.concatenate(list(animator.decode(animator.denoise(conditions, settings), conditions)))
    made = animator.stream(prepared, settings)
    first = next(made)
    assert len(first) <= 4
    assert np.array_equal(np.concatenate([first, *made]), whole)
    told: list[str] = []
    frames = animator.frames(prepared, settings, progress=lambda stage, *_: told.append(stage))
    assert np.array_equal(np.concatenate(list(frames)), whole)
    assert told.index("decode") < len(told) - told[::-1].index("denoise"), "decoding waited for all windows"


def test_a_stream_is_a_clip_whatever_windows_share(animator: Animator) -> None:
    """Other frames than the clip's, but as many, and no seam among them."""
    settings = animator.settings(shared_noise=0.5, window=4, overlap=1, shift=1)
    prepared = prepare(made.picture(), made.tone(6.0), made.gesture(72, 12.0), settings)
    frames = np.concatenate(list(animator.stream(prepared, settings))).astype(np.float32)
    assert len(frames) == len(prepared)
    change = np.abs(np.diff(frames, axis=0)).mean(axis=(1, 2, 3))
    seams = np.array([part.frames[part.old] for part in parts(len(frames), 4, alone=False)][1:]) - 1
    elsewhere = np.delete(change, seams)
    assert len(seams) >= 4
    assert change[seams].max() <= elsewhere.max()
    assert np.quantile(elsewhere, 0.1) <= change[seams].mean() <= np.quantile(elsewhere, 0.9)


def test_a_stream_goes_to_a_file_that_can_be_played(animator: Animator, tmp_path: Path) -> None:
    path = tmp_path / "out.mp4"
    inputs = animator.stream_to(path, made.picture(), made.tone(), made.gesture())
    clip = media.read_clip(path)
    assert len(clip) == len(inputs) == 12
    assert clip.metadata["settings"]["steps"] == 2


@pytest.mark.parametrize(("name", "settings"), [("a.webm", {}), ("a.mp4", {"alpha": True}), ("a.txt", {})])
def test_a_stream_that_cannot_be_written_is_refused(
    animator: Animator, tmp_path: Path, name: str, settings: dict[str, Any]
) -> None:
    with pytest.raises(SemibodyError):
        animator.stream_to(tmp_path / name, made.picture(), made.tone(), made.gesture(), **settings)
    assert not (tmp_path / name).exists()
