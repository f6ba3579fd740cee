"""Mel spectrogram, Whisper features and their frames against the published code's."""

from __future__ import annotations

from functools import cache
from typing import Any

import numpy as np
import pytest
import torch

from parity.golden import WHISPER_NAMES, Case, cases, fill
from semibody.networks.audio_encoders import AudioConfig, WhisperEncoder, mel_filters, whisper_mel

FORWARD = 5e-5
"""As for every network's single pass; it starts from the spectrogram's own differences."""
MEL = 3e-5
"""The recorded spectrogram is itself up to 1.8e-5 from one computed in double precision, and which
side of it a processor's Fourier transform falls on differs between processors."""


@cache
def whisper() -> Any:
    return fill(WhisperEncoder(AudioConfig()), "whisper/", WHISPER_NAMES)


@cache
def rows(case: Case) -> torch.Tensor:
    return whisper().rows(waveform(case))


def waveform(case: Case) -> torch.Tensor:
    holder = case if "pcm16k" in case else Case(case.path.with_name(f"{case.name}_pcm.npz"))
    return torch.from_numpy(holder["pcm16k"].astype(np.float32) / 32768)


SPEECH = cases("whisper_*.npz", "mel")


@pytest.mark.parametrize("case", cases("mel_filterbank*.npz", "filters"))
def test_mel_filters(case: Case, compare: Any) -> None:
    compare(mel_filters(), case["filters"], 1e-7)


@pytest.mark.parametrize("case", SPEECH)
def test_mel(case: Case, compare: Any) -> None:
    mel = whisper_mel(waveform(case))
    assert list(mel.shape) == case.meta["mel_shape"]
    compare(mel[:, :: case.meta.get("mel_step", 1)], case["mel"], MEL)


@pytest.mark.parametrize("case", SPEECH)
def test_features(case: Case, compare: Any) -> None:
    recorded = Case(case.path.with_name(f"{case.name}_feat.npz"))
    ours = rows(case)
    assert list(ours.shape) == case.meta["feat_shape"]
    compare(ours[recorded["rows"]] if "rows" in recorded else ours, recorded["features"], FORWARD)


@pytest.mark.parametrize("case", cases("whisper_*.npz", "chunk_index/fps24"))
def test_frame_rows(case: Case, compare: Any) -> None:
    count = case.meta["feat_shape"][0]
    for key in case.names("chunk_index/fps"):
        index, fps = case[key], int(key.removeprefix("chunk_index/fps"))
        compare(whisper().frame_rows(count, torch.arange(len(index)), fps), index, 0, f"rows at {fps} fps")


@pytest.mark.parametrize("case", cases("whisper_*.npz", "mel", "chunks/fps24"))
def test_tokens(case: Case, compare: Any) -> None:
    for key in case.names("chunks/fps"):
        fps = int(key.removeprefix("chunks/fps"))
        picked = case.tensor(f"chunk_pick/fps{fps}")
        tokens = whisper().tokens(rows(case), picked, fps)
        compare(tokens, case[key], FORWARD, f"tokens at {fps} fps")
