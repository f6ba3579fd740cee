"""Live sound: what is planned and heard as it comes, against the same of whole recordings."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from numpy.typing import NDArray

import made
from semibody.animator import Animator
from semibody.live import AHEAD, Live, RunningSpectrum, Sound
from semibody.networks.audio_encoders import AudioConfig, LogMelEncoder
from semibody.pose import alive, library
from semibody.pose.anchor import AnchoredRepertoire
from semibody.pose.kinematics import Body, reach
from semibody.pose.plan import Improvisation
from semibody.pose.prosody import Listener, analyse
from semibody.types import RATE, Floats, Pose, SemibodyError, Speech
from semibody.weights import hub, store

LEFT_WRIST, RIGHT_WRIST = (0.62, 0.86, 0.62), (0.66, 0.80, 0.60)
"""In shoulder widths from the middle of the shoulders."""
needs_starter = pytest.mark.skipif(
    not store.is_store(hub.STARTER), reason="the starter's weights are not here"
)


@pytest.fixture(scope="module")
def half_body() -> Pose:
    """Somebody with a face, whose hands are before the chest."""
    arms = [reach(wrist, (-0.2, -0.8, 0.4), (0.3, -0.3, 0.9), "soft") for wrist in (LEFT_WRIST, RIGHT_WRIST)]
    return library.render(np.concatenate([*arms, np.zeros(3)])[None], 24.0, body=Body(shoulders=0.3))[0]


def in_chunks(speech: Speech, size: int = 1600) -> list[Sound]:
    return [speech.waveform[i : i + size] for i in range(0, len(speech.waveform), size)]


@pytest.mark.parametrize("size", [160, 1600, 1777, 50_000])
def test_a_listener_finds_what_the_whole_recording_has(size: int) -> None:
    speech = made.spoken(made.STRESSES[:6], 7.5)
    listener, whole = Listener(), analyse(speech)
    for chunk in in_chunks(speech, size):
        listener.hear(chunk)
    assert listener.seconds == pytest.approx(7.5)
    known = [one for one in whole.syllables if one.time < 7.3]
    found = [one for one in listener.recent().syllables if one.time < 7.3]
    np.testing.assert_allclose([one.time for one in found], [one.time for one in known], atol=0.011)
    np.testing.assert_allclose([one.stress for one in found], [one.stress for one in known], atol=0.2)


def test_a_listener_forgets() -> None:
    listener = Listener()
    for _ in range(5):
        for chunk in in_chunks(made.spoken(made.STRESSES, 10.0)):
            listener.hear(chunk)
    recent = listener.recent()
    assert 50.0 - recent.seconds < 0.1
    assert recent.syllables[0].time > 50.0 - Listener.SECONDS - 0.2
    assert listener._wave.nbytes + listener._level.nbytes < 40_000


@pytest.mark.parametrize("size", [160, 1600, 1777])
def test_the_running_spectrum_is_that_of_the_recording_at_its_level(size: int) -> None:
    """Rows differ by one number, the level, wherever they are known."""
    torch.manual_seed(0)
    encoder = LogMelEncoder(AudioConfig(kind="logmel", width=8, before=15, after=16))
    speech = made.spoken(made.STRESSES[:3], 3.0)
    running, whole = RunningSpectrum(encoder), encoder.rows(torch.from_numpy(speech.waveform))
    frames, got = list(range(48)), list[torch.Tensor]()
    for number, chunk in enumerate(in_chunks(speech, size)):
        running.hear(chunk)
        while len(got) < len(frames) and (len(got) / 24 + 0.25) * RATE < (number + 1) * size:
            number_in_rows = torch.tensor([len(got) - 24 * running.dropped])
            got.append(encoder.windows(running.rows, number_in_rows, 24.0)[0])
    wanted = encoder.windows(whole, torch.tensor(frames[: len(got)]), 24.0)
    assert len(got) > 40
    heard = torch.stack(got)[12:].flatten(0, 1)
    off, wanted = heard - wanted[12:].flatten(0, 1), wanted[12:].flatten(0, 1)
    # Where a band is at the least that is told, it is so at any level.
    told = (wanted > -0.5) & (heard > -0.5)
    levels = [row[where] for row, where in zip(off, told, strict=True) if where.sum() > 10]
    assert len(levels) > 200
    assert max(float(level.std()) for level in levels) < 1e-3
    assert max(float(level.abs().max()) for level in levels) < 0.2


def test_a_quiet_voice_is_brought_to_the_usual_level_and_a_pause_is_not() -> None:
    encoder = LogMelEncoder(AudioConfig(kind="logmel", width=8, before=15, after=16))

    def loudest(scale: float, seconds: float) -> float:
        running = RunningSpectrum(encoder)
        speech = made.spoken(made.STRESSES, 9.0)
        for _ in range(round(seconds / 9)):
            for chunk in in_chunks(speech):
                running.hear(scale * chunk)
        return float(running.rows[-200:].max())

    assert loudest(0.15, 18) == pytest.approx(loudest(1.0, 18), abs=0.05)
    assert loudest(0.0, 18) == pytest.approx(-1.0)


def planned(pose: Pose, speech: Speech, ahead: float = AHEAD) -> tuple[Floats, Improvisation]:
    """States (f, 6) of a voice that is heard ``ahead`` of them."""
    plan, listener = Improvisation(arms(pose), often=1.0, seed=3), Listener()
    states: list[Floats] = []
    for chunk in in_chunks(speech):
        listener.hear(chunk)
        while (len(states) + 1) * 0.25 + ahead <= listener.seconds:
            plan.follow(listener.recent(), len(states) * 0.25)
            states.append(plan.states(len(states) * 6, 6, 24.0))
    return np.concatenate(states), plan


def arms(pose: Pose) -> AnchoredRepertoire:
    return AnchoredRepertoire(pose, 1.0, seed=3, liveliness=1.0)


def test_strokes_of_a_live_voice_end_on_its_stresses(half_body: Pose) -> None:
    speech = made.spoken(made.STRESSES, 9.5)
    states, plan = planned(half_body, speech)
    assert len(plan.strokes) >= 4
    for stroke in plan.strokes:
        assert min(abs(stroke.time - stress) for stress in made.STRESSES) < 0.15
    assert np.abs(states).max() > 0.1


def test_what_was_shown_is_gone_on_from_without_a_jump(half_body: Pose) -> None:
    states, _ = planned(half_body, made.spoken(made.STRESSES, 9.5))
    speed = np.abs(np.diff(states, axis=0)).max(axis=1)
    between = speed[5::6]
    inside = np.delete(speed, np.arange(5, len(speed), 6))
    assert between.max() <= 1.1 * inside.max()


def test_hands_go_to_rest_in_a_pause_and_stay_there(half_body: Pose) -> None:
    speech = made.spoken([0.92, 1.92, 2.92], 9.0, gaps=[(3.3, 9.0)])
    states, plan = planned(half_body, speech)
    assert plan.strokes
    assert not states[24 * 6 :].any()


def test_small_movements_go_on_as_in_one_piece(half_body: Pose) -> None:
    speech = made.spoken(made.STRESSES, 9.5)
    prosody = analyse(speech)

    def lively(frames: int, first: int = 0) -> NDArray[np.float32]:
        life = alive.enliven(half_body, prosody, frames=frames, fps=24.0, seed=5, first=first)
        assert life is not None
        return life.offsets

    whole = lively(228)
    parts = np.concatenate([lively(6, first) for first in range(0, 228, 6)])
    assert np.abs(whole[:-6]).max() > 1e-3
    np.testing.assert_allclose(parts[:-6], whole[:-6], atol=1e-6)


@needs_starter
def test_frames_of_live_sound() -> None:
    animator = Animator.load("starter", device="cpu")
    live = Live(animator, hub.STARTER / "portrait.png", width=128, height=128, frame="keep", fps=8.0)
    heard, frames = 0, []
    for chunk in in_chunks(made.spoken(made.STRESSES[:2], 2.5)):
        heard += len(chunk)
        for few in live.hear(chunk):
            assert few.shape == (2, 128, 128, 3)
            frames.append(few)
            assert heard / RATE >= sum(map(len, frames)) / 8 + AHEAD
    assert sum(map(len, frames)) >= 8 * (2.5 - AHEAD - 0.25) - 1
    frames += live.finish()
    clip = np.concatenate(frames)
    assert len(clip) == 20
    assert np.abs(np.diff(clip.astype(int), axis=0)).max() > 20


def test_weights_that_need_the_whole_recording_are_refused() -> None:
    with pytest.raises(SemibodyError, match="whole recording"):
        Live(made.animator(), made.picture())


@needs_starter
@pytest.mark.parametrize(
    "bad", [np.zeros(10), np.zeros((10, 2), np.float32), np.full(10, np.nan, np.float32)]
)
def test_sound_of_another_kind_is_refused(bad: Sound) -> None:
    live = object.__new__(Live)
    with pytest.raises(SemibodyError, match="float32"):
        next(live.hear(bad))
