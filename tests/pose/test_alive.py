"""Small movements of a speaker: what is measured of people, and the portrait's pose to begin with."""

from __future__ import annotations

import numpy as np
import pytest

from made import STRESSES, spoken
from semibody.pose import library
from semibody.pose.alive import Life, enliven
from semibody.pose.body import face_height
from semibody.pose.prosody import Prosody, Syllable, analyse
from semibody.types import FACE, HANDS, Pose

SPEECH = spoken(STRESSES, 10.0, [(3.5, 6.0)])
MINUTES, FPS = 5, 24.0


@pytest.fixture(scope="module")
def portrait() -> Pose:
    return library.render(np.zeros((1, 57)), FPS)[0]


@pytest.fixture(scope="module")
def life(portrait: Pose) -> Life:
    """Five minutes of speech with a stress twice a second."""
    seconds = 60.0 * MINUTES
    syllables = tuple(Syllable(t, 1.0) for t in np.arange(1.0, seconds, 0.5))
    made = enliven(
        portrait, Prosody(((0.0, seconds),), syllables, seconds), frames=int(seconds * FPS), fps=FPS
    )
    assert made is not None
    return made


def test_it_begins_at_the_portraits_pose(portrait: Pose, life: Life) -> None:
    assert np.abs(life.offsets[0]).max() < 1e-12
    assert np.abs(np.diff(life.offsets[:12], axis=0)).max() < 0.004


def test_the_same_arguments_give_the_same_and_seeds_differ(portrait: Pose) -> None:
    prosody = analyse(SPEECH)
    made = [enliven(portrait, prosody, frames=120, fps=FPS, seed=seed) for seed in (3, 3, 4)]
    assert all(m is not None for m in made)
    first, second, other = (m.offsets for m in made if m is not None)
    assert (first == second).all()
    assert np.abs(first - other).max() > 0.002


def test_people_blink_8_to_20_times_a_minute(life: Life) -> None:
    shut = life.closed > 0.9
    blinks = np.count_nonzero(np.diff(shut.astype(int)) == 1)
    assert 8 <= blinks / MINUTES <= 20
    # From half closed to half open: 0.1 to 0.4 s are measured of people.
    half = np.flatnonzero(np.diff((life.closed > 0.5).astype(int)))
    assert (np.diff(half)[::2] <= 0.4 * FPS).all()


def test_the_head_moves_1_to_4_percent_of_the_face(portrait: Pose, life: Life) -> None:
    centre = life.offsets[:, FACE][:, 27:36].mean(axis=1)
    moved = np.sqrt(np.square(centre - centre.mean(axis=0)).sum(axis=1).mean())
    assert 0.01 < moved / float(face_height(portrait.joints)) < 0.04


def test_nods_follow_stresses(portrait: Pose) -> None:
    syllables = tuple(Syllable(t, 2.0) for t in (4.0, 9.0, 14.0))
    told = [
        enliven(portrait, Prosody(((0.0, 20.0),), beats, 20.0), frames=480, fps=FPS)
        for beats in (syllables, ())
    ]
    nod = [m.offsets[:, FACE][:, 30, 1] for m in told if m is not None]
    lower = nod[0] - nod[1]
    assert sorted(np.argsort(lower)[-3:].tolist()) == pytest.approx([96, 216, 336], abs=1)


def test_hands_and_hips_do_not_move(life: Life) -> None:
    assert (life.offsets[:, HANDS] == 0).all()
    assert (life.offsets[:, [3, 4, 6, 7, 8, 11]] == 0).all()


def test_without_a_face_nothing_lives(portrait: Pose) -> None:
    confidence = portrait.confidence.copy()
    confidence[FACE] = 0
    assert enliven(Pose(portrait.joints, confidence), None, frames=24, fps=FPS) is None


def test_eyes_glance_aside_for_moments_and_look_at_the_camera_most_of_the_time(life: Life) -> None:
    aside = np.abs(life.gaze) > 0.1
    glances = np.count_nonzero(np.diff(aside.astype(int)) == 1)
    assert 6 <= glances / MINUTES <= 20
    assert 0.05 < aside.mean() < 0.3
    assert life.gaze.min() >= -1
    assert life.gaze.max() <= 1
    assert life.gaze[0] == 0
    # A saccade takes one frame or two.
    moving = np.abs(np.diff(life.gaze)) > 1e-3
    assert np.count_nonzero(moving) <= 4 * glances + 4
