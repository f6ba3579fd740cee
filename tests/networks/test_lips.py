"""The network that predicts the shapes of the lips."""

from __future__ import annotations

import pytest
import torch

from semibody.networks.lips import LipsConfig, LipShapes

CONFIG = LipsConfig(width=16, layers=3, after=12)


def network() -> LipShapes:
    torch.manual_seed(0)
    return LipShapes(CONFIG).eval()


@torch.no_grad()
def test_a_window_gives_what_a_whole_recording_gives_there() -> None:
    lips, rows = network(), torch.randn(200, 80)
    whole = lips.logits(rows[None]).sigmoid()[0]
    # The prediction at place s is made from the rows from 2 s on; a frame is ``after`` rows before their end.
    places = torch.tensor([0, 5, 40])
    frames = 2 * places + CONFIG.rows - 1 - CONFIG.after
    torch.testing.assert_close(lips(lips.windows(rows, frames, 100.0)), whole[places], atol=1e-5, rtol=1e-4)


@torch.no_grad()
def test_it_hears_no_farther_ahead_than_it_says() -> None:
    lips, rows = network(), torch.randn(300, 80)
    frame = torch.tensor([36])  # second 1.5 at 24 frames a second
    before = lips(lips.windows(rows, frame, 24.0))
    rows[150 + CONFIG.after + 1 :] = 0
    rows[: 150 + CONFIG.after + 1 - CONFIG.rows] = 0
    assert (lips(lips.windows(rows, frame, 24.0)) == before).all()
    rows[150 + CONFIG.after] += 5
    assert (lips(lips.windows(rows, frame, 24.0)) != before).any()


def test_a_recording_shorter_than_a_window_goes_on() -> None:
    lips = network()
    windows = lips.windows(torch.randn(3, 80), torch.arange(2), 24.0)
    assert windows.shape == (2, CONFIG.rows, 80)


def test_sizes_that_contradict_each_other() -> None:
    with pytest.raises(ValueError, match=r"lips\.after"):
        LipsConfig(layers=1, after=8)
