"""What moves within a face, taken where a moved head has it."""

from __future__ import annotations

import cv2
import numpy as np
import pytest

from semibody.pose.head import FaceFlow


@pytest.mark.parametrize("shift", [(0.0, 0.0), (7.3, -4.6), (-60.0, 30.0)])
def test_a_face_s_flow_is_taken_wherever_the_head_has_come(shift: tuple[float, float]) -> None:
    """As a flow over the whole picture would be, though only the pixels about the face are looked at."""
    rng = np.random.default_rng(0)
    height, width, top, left, high, wide = 90, 120, 30, 40, 24, 20
    inner = rng.normal(size=(3, high, wide)).astype(np.float32)
    face = FaceFlow(left, top, inner[:2], inner[2])
    around = np.empty((2, height, width), np.float32)
    around[:] = np.array(shift, np.float32)[:, None, None]
    around += rng.uniform(-1, 1, around.shape).astype(np.float32)

    whole = np.zeros((3, height, width), np.float32)
    whole[:, top : top + high, left : left + wide] = inner
    x, y = np.meshgrid(np.arange(width, dtype=np.float32), np.arange(height, dtype=np.float32))
    wanted = [cv2.remap(part, x + around[0], y + around[1], cv2.INTER_LINEAR) for part in whole]

    flow, mouth = face.taken_at(around)
    np.testing.assert_allclose(np.stack([*flow, mouth]), np.stack(wanted), atol=1e-5)
    assert np.abs(flow).max() > 1


def test_what_is_behind_lips_appears_gradually_and_reaches_the_lower_lip() -> None:
    """A slit of a fraction of a pixel must not show a bar; a wide mouth leaves no line of closed lips."""
    size = 200
    face = np.tile([100.0, 100.0], (68, 1))
    face[8], face[27], face[33], face[57], face[51] = (100, 190), (100, 10), (100, 70), (100, 112), (100, 90)
    face[[48, 60]], face[[54, 64]] = (70, 100), (130, 100)
    shown = []
    for opened in np.arange(0, 16, 0.5):
        away = np.zeros((68, 2))
        away[66, 1] = away[57, 1] = opened
        flow = FaceFlow.of(face, away, size, size)
        shown.append(flow.mouth[:, 100 - flow.left].sum())
        if opened > 8:
            assert flow.mouth[int(100 + opened - 0.6) - flow.top, 100 - flow.left] > 0.9
    assert shown[0] == 0
    assert shown[-1] > 13
    assert np.diff(shown).max() < 1.3
