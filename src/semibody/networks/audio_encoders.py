"""Speech to tokens per video frame, three ways.

============  ===================================================================================
``whisper``   Whisper tiny, 5 states x 384, 10 rows of 20 ms a frame: 50 tokens (published code)
``wav2vec2``  Wav2Vec2's last state, 15 rows a frame mapped along the token axis to 77 (the paper)
``logmel``    a log-mel spectrogram around the frame through two convolutions (small models)
============  ===================================================================================

Each encoder turns a waveform into *rows* at a fixed rate once (``rows``), and rows into the tokens of
chosen frames when a window needs them (``tokens``), so memory for long speech stays small.
"""

from __future__ import annotations

import math
from dataclasses import dataclass
from functools import lru_cache
from typing import Any, Literal

import numpy as np
import torch
import torch.nn.functional as F
from jaxtyping import Float, Int
from torch import Tensor, nn

from semibody import scratch
from semibody.types import RATE

QUIET_DB, RAISED_DB = -38.0, -26.0
"""Levels of speech: below the first it is brought to the second before it is encoded (``audible``)."""
MEL_RATE = 100
"""columns per second of the log-mel spectrogram: a hop of 160 samples"""


@dataclass(frozen=True, kw_only=True)
class AudioConfig:
    """Which audio encoder, and its sizes."""

    kind: Literal["whisper", "wav2vec2", "logmel"] = "whisper"
    before: int = 4
    """rows before a frame's centre row that belong to the frame"""
    after: int = 5
    """rows after it"""
    width: int = 384
    """width of a token"""
    mouth_token: bool = False
    """logmel: one more token, made of jaw and mouth as predicted from speech (training stage ``audio``)"""
    mapped_tokens: int = 77
    """wav2vec2: tokens a frame after the AudioFeatureMapper"""

    @property
    def rows_per_frame(self) -> int:
        return self.before + 1 + self.after


def audible(waveform: Float[Tensor, " n"]) -> Float[Tensor, " n"]:
    """A recording as encoders are to hear it: unchanged, as published, unless it is very quiet.

    Its level is the power that one in ten stretches of 20 ms exceeds; silence stays silence.
    """
    width = RATE // 50
    stretches = waveform[: len(waveform) // width * width].float().view(-1, width)
    if not len(stretches):
        return waveform
    power = stretches.square().mean(dim=1)
    level = 10 * power.quantile(0.9).clamp(min=1e-12).log10()
    if not -100 < float(level) < QUIET_DB:
        return waveform
    return waveform * 10 ** ((RAISED_DB - level) / 20)


def build_audio_encoder(config: AudioConfig) -> AudioEncoder:
    return {"whisper": WhisperEncoder, "wav2vec2": Wav2Vec2Encoder, "logmel": LogMelEncoder}[config.kind](
        config
    )


class AudioEncoder(nn.Module):
    """What all encoders share: rows at ``rate`` a second, and the rule which rows belong to a frame."""

    rate: int

    def __init__(self, config: AudioConfig) -> None:
        super().__init__()
        self.config = config

    @property
    def tokens_per_frame(self) -> int:
        raise NotImplementedError

    def rows(self, waveform: Float[Tensor, " n"]) -> Float[Tensor, "r ..."]:
        """Encode a 16 kHz waveform in −1..1 once."""
        raise NotImplementedError

    def tokens(
        self, rows: Float[Tensor, "r ..."], frames: Int[Tensor, " f"], fps: float
    ) -> Float[Tensor, "f l d"]:
        """The tokens of the numbered video frames."""
        return self.embed(self.windows(rows, frames, fps))

    def windows(
        self, rows: Float[Tensor, "r ..."], frames: Int[Tensor, " f"], fps: float
    ) -> Float[Tensor, "f k ..."]:
        """The rows of each numbered frame, k = ``rows_per_frame``; nothing is learned up to here."""
        return rows[self.frame_rows(len(rows), frames, fps)]

    def embed(self, windows: Float[Tensor, "n k ..."]) -> Float[Tensor, "n l d"]:
        """Tokens of frames from their rows: what small models train."""
        raise NotImplementedError

    def frame_rows(self, count: int, frames: Int[Tensor, " f"], fps: float) -> Int[Tensor, "f r"]:
        """Row numbers of each frame: from ``before`` to ``after`` its centre, clamped to the recording."""
        centre = (frames.double() * self.rate / fps).long()
        around = torch.arange(-self.config.before, self.config.after + 1)
        return (centre[:, None] + around).clamp(0, count - 1)


class WhisperEncoder(AudioEncoder):
    """Whisper tiny's encoder: the sum after the positions and the state after each of its 4 blocks.

    Rows are (r, 5, 384) at 50 a second. Whisper works on 30 s pieces; of a piece of m mel columns
    the first m // 2 rows are kept (official-format chunking). The final norm is not applied.
    """

    rate = 50
    piece = 3000
    """mel columns of a 30 s piece"""

    def __init__(self, config: AudioConfig) -> None:
        super().__init__(config)
        from transformers import WhisperConfig
        from transformers.models.whisper.modeling_whisper import WhisperEncoder as Encoder

        tiny = WhisperConfig(
            d_model=384, encoder_layers=4, encoder_attention_heads=6, encoder_ffn_dim=1536, num_mel_bins=80
        )
        self.encoder = Encoder(tiny)
        self.encoder.layer_norm = nn.Identity()
        with torch.no_grad():
            self.encoder.embed_positions.weight.copy_(whisper_positions(1500, 384))

    @property
    def tokens_per_frame(self) -> int:
        return self.config.rows_per_frame * 5

    def rows(self, waveform: Float[Tensor, " n"]) -> Float[Tensor, "r 5 d"]:
        mel = whisper_mel(waveform)
        weight = self.encoder.conv1.weight
        pieces = []
        for start in range(0, mel.shape[1], self.piece):
            piece = mel[:, start : start + self.piece]
            keep = piece.shape[1] // 2
            padded = F.pad(piece, (0, self.piece - piece.shape[1]))[None].to(weight)
            states = self.encoder(padded, output_hidden_states=True).hidden_states
            pieces.append(torch.stack(states, dim=2)[0, :keep])
        return torch.cat(pieces)

    def embed(self, windows: Float[Tensor, "n k 5 d"]) -> Float[Tensor, "n l d"]:
        return windows.flatten(1, 2)


class Wav2Vec2Encoder(AudioEncoder):
    """Wav2Vec2's last hidden state, then one linear map along the *token* axis (the paper's encoder).

    Rows are (r, d) at 50 a second. Speech up to ``whole`` rows is encoded at once, as published. Memory and
    the time of attention would grow without bound with longer speech, so that is encoded in pieces of
    ``piece`` rows: the convolutions give what they give of the whole recording, and attention sees the piece
    and ``context`` rows on either side of it.
    """

    rate = 50
    whole, piece, context = 3000, 2000, 500

    def __init__(self, config: AudioConfig) -> None:
        super().__init__(config)
        from transformers import Wav2Vec2Config, Wav2Vec2Model

        self.encoder = Wav2Vec2Model(Wav2Vec2Config(**wav2vec2_sizes(config.width)))
        self.mapper = AudioFeatureMapper(config.rows_per_frame, config.mapped_tokens)

    @property
    def tokens_per_frame(self) -> int:
        return self.config.mapped_tokens

    def rows(self, waveform: Float[Tensor, " n"]) -> Float[Tensor, "r d"]:
        wave = waveform.to(self.mapper.linear.weight)
        wave = (wave - wave.mean()) / (wave.var(unbiased=False) + 1e-7).sqrt()
        count = (len(wave) - _FIELD) // _HOP + 1
        if count <= self.whole:
            return self.encoder(F.pad(wave, (0, max(0, _FIELD - len(wave))))[None]).last_hidden_state[0]
        level = self._level(wave)
        pieces = []
        for start in range(0, count, self.piece):
            first, last = max(0, start - self.context), min(count, start + self.piece + self.context)
            features = self._features(wave[first * _HOP : (last - 1) * _HOP + _FIELD], level)
            states = self.encoder.encoder(self.encoder.feature_projection(features)[0]).last_hidden_state[0]
            pieces.append(states[start - first : min(count, start + self.piece) - first])
        return torch.cat(pieces)

    def _features(
        self, wave: Float[Tensor, " n"], level: tuple[Tensor, Tensor] | None
    ) -> Float[Tensor, "1 r c"]:
        """The convolutions' output for a piece of a recording whose first layer has mean and variance
        ``level``."""
        first, *others = self.encoder.feature_extractor.conv_layers
        x = wave[None, None]
        if level is None:
            x = first(x)
        else:
            norm = first.layer_norm
            x = F.batch_norm(first.conv(x), *level, norm.weight, norm.bias, eps=norm.eps)
            x = first.activation(x)
        for layer in others:
            x = layer(x)
        return x.transpose(1, 2)

    def _level(self, wave: Float[Tensor, " n"]) -> tuple[Tensor, Tensor] | None:
        """Mean and variance (c,) over the recording of each channel of the first convolution, by which the
        base size's group norm divides; None for the large size, which has no such norm.

        A channel is w · x for the windows x of the sound, so both follow from the windows' mean and second
        moments, without the channels themselves, which are a hundred times as large as the sound.
        """
        first = self.encoder.feature_extractor.conv_layers[0]
        if not isinstance(first.layer_norm, nn.GroupNorm):
            return None
        weight = first.conv.weight.detach()[:, 0].double()
        windows = wave.unfold(0, first.conv.kernel_size[0], first.conv.stride[0])
        total, products = weight.new_zeros(weight.shape[1]), weight.new_zeros(2 * weight.shape[1:])
        for some in windows.split(_WINDOWS):
            part = some.double()
            total += part.sum(dim=0)
            products += part.T @ part
        mean = weight @ (total / len(windows))
        square = ((weight @ (products / len(windows))) * weight).sum(dim=1)
        variance = square - mean.square()
        if first.conv.bias is not None:
            mean = mean + first.conv.bias.detach()
        return mean.to(wave), variance.to(wave)

    def embed(self, windows: Float[Tensor, "n k d"]) -> Float[Tensor, "n l d"]:
        return self.mapper(windows)


_HOP, _FIELD = 320, 400
"""Samples from one row of Wav2Vec2's convolutions to the next, and samples that one row is made of."""
_WINDOWS = 2**20
"""Windows of sound whose moments are computed at a time."""


class AudioFeatureMapper(nn.Module):
    """One linear map along the token axis: (n, l_in, d) -> (n, l_out, d)."""

    def __init__(self, tokens_in: int = 15, tokens_out: int = 77) -> None:
        super().__init__()
        self.linear = nn.Linear(tokens_in, tokens_out)

    def forward(self, x: Float[Tensor, "n l d"]) -> Float[Tensor, "n m d"]:
        return self.linear(x.transpose(1, 2)).transpose(1, 2)


class LogMelEncoder(AudioEncoder):
    """80 log-mel bands around each frame, two strided convolutions: a trainable encoder for small models.

    Rows are (r, 80) at 100 a second; ``before`` and ``after`` are in mel columns. A recording is brought to
    the usual level as a whole, by 20 dB at most, so that quiet speech moves the lips as far as loud speech
    and silence stays silence.
    """

    rate = MEL_RATE
    usual = 1.1
    """log10 of the power over all bands that one column in twenty of a recording exceeds"""

    def __init__(self, config: AudioConfig) -> None:
        super().__init__(config)
        self.conv1 = nn.Conv1d(80, config.width, 3, padding=1, stride=2)
        self.conv2 = nn.Conv1d(config.width, config.width, 3, padding=1, stride=2)
        self.norm = nn.LayerNorm(config.width)
        if config.mouth_token:
            # Two layers, because how far a sound opens a mouth also depends on its loudness.
            sound, inner = self._around * config.width, 2 * config.width
            self.mouth = nn.Sequential(nn.Linear(sound, inner), nn.GELU(), nn.Linear(inner, 2))
            self.tell = nn.Linear(2, config.width)
            # Jaw openings differ by tenths only; large weights bring this token to the size of the others.
            # On the meta device torch would import its compiler for this, a second's work for nothing.
            if not self.tell.weight.is_meta:
                nn.init.normal_(self.tell.weight, std=4.0)

    @property
    def _around(self) -> int:
        """Tokens of the sound around a frame."""
        return math.ceil(math.ceil(self.config.rows_per_frame / 2) / 2)

    @property
    def tokens_per_frame(self) -> int:
        return self._around + self.config.mouth_token

    def rows(self, waveform: Float[Tensor, " n"]) -> Float[Tensor, "r 80"]:
        return self.rows_of(mel_power(waveform))

    @classmethod
    def rows_of(cls, power: Float[Tensor, "80 m"]) -> Float[Tensor, "m 80"]:
        """Rows of the mel power of a recording, which is overwritten."""
        level = power.sum(dim=0).quantile(0.95).clamp(min=1e-12).log10()
        power.mul_(10 ** (cls.usual - level).clamp(-2.0, 2.0))
        return power.clamp_(min=1e-7).log10_().add_(4.0).div_(3.0).T

    def embed(self, windows: Float[Tensor, "n k 80"]) -> Float[Tensor, "n l d"]:
        tokens = self._sound(windows)
        if not self.config.mouth_token:
            return tokens
        return torch.cat([tokens, self.tell(self.mouth(tokens.flatten(1)))[:, None]], dim=1)

    def predict_mouth(self, windows: Float[Tensor, "n k 80"]) -> Float[Tensor, "n 2"]:
        """Opening of the jaw, 0..1, and width of the mouth over the distance of the eyes."""
        return self.mouth(self._sound(windows).flatten(1))

    def _sound(self, windows: Float[Tensor, "n k 80"]) -> Float[Tensor, "n l d"]:
        bands = windows.transpose(1, 2).to(self.conv1.weight)
        return self.norm(self.conv2(F.gelu(self.conv1(bands))).transpose(1, 2))


# -- spectrograms ------------------------------------------------------------------------------

MEL_ROWS = 6000
"""Rows, of 10 ms, whose spectra are in memory at a time."""


def whisper_mel(waveform: Float[Tensor, " n"]) -> Float[Tensor, "80 m"]:
    """Whisper's log-mel of a whole recording: floor at the loudest − 8 (log10), then (x + 4) / 4."""
    log = mel_power(waveform).clamp(min=1e-10).log10()
    return (torch.maximum(log, log.max() - 8.0) + 4.0) / 4.0


def mel_power(waveform: Float[Tensor, " n"]) -> Float[Tensor, "80 m"]:
    """Mel power spectrogram: STFT 400/160, Hann, last column dropped; m = n // 160, at least one."""
    # Reflection at the ends needs more than half a window of sound.
    waveform = F.pad(waveform.float(), (0, max(0, 400 - len(waveform))))
    hann = torch.hann_window(400, device=waveform.device)
    padded = F.pad(waveform[None], (200, 200), mode="reflect")[0]
    filters, rows = mel_filters().to(waveform.device), len(waveform) // 160
    power = torch.from_numpy(scratch.empty((len(filters), rows), np.float32)).to(waveform.device)
    # A spectrum is ten times as large as its sound, so an hour's is made piece by piece.
    for start in range(0, rows, MEL_ROWS):
        stop = min(start + MEL_ROWS, rows)
        piece = padded[start * 160 : (stop - 1) * 160 + 400]
        spectrum = torch.stft(piece, 400, 160, window=hann, center=False, return_complex=True)
        power[:, start:stop] = filters @ spectrum.abs().square()
    return power


@lru_cache(maxsize=1)
def mel_filters(bands: int = 80, bins: int = 201) -> Float[Tensor, "80 201"]:
    """Slaney's mel filters for 16 kHz and a 400-point transform: triangles of unit area."""
    edges = _mel_to_hz(torch.linspace(0.0, _hz_to_mel(RATE / 2), bands + 2, dtype=torch.float64))
    hertz = torch.linspace(0.0, RATE / 2, bins, dtype=torch.float64)
    slopes = edges[:, None] - hertz[None]
    width = edges.diff()
    rising = -slopes[:-2] / width[:-1, None]
    falling = slopes[2:] / width[1:, None]
    area = 2.0 / (edges[2:] - edges[:-2])
    return (torch.minimum(rising, falling).clamp(min=0) * area[:, None]).float()


_LINEAR_HZ = 200.0 / 3.0
"""Slaney's scale is linear up to 1000 Hz (15 mel) and logarithmic above: 27 mel per factor 6.4."""
_LOG_STEP = math.log(6.4) / 27.0


def _hz_to_mel(hertz: float) -> float:
    return hertz / _LINEAR_HZ if hertz < 1000.0 else 15.0 + math.log(hertz / 1000.0) / _LOG_STEP


def _mel_to_hz(mel: Tensor) -> Tensor:
    return torch.where(mel < 15.0, mel * _LINEAR_HZ, 1000.0 * torch.exp((mel - 15.0) * _LOG_STEP))


def whisper_positions(length: int, width: int) -> Float[Tensor, "l d"]:
    """Whisper's sinusoid table: sines in the first half of the channels, cosines in the second."""
    half = width // 2
    rates = torch.exp(torch.arange(half, dtype=torch.float32) * (-math.log(10000.0) / (half - 1)))
    angles = torch.arange(length, dtype=torch.float32)[:, None] * rates
    return torch.cat([angles.sin(), angles.cos()], dim=1)


def wav2vec2_sizes(width: int) -> dict[str, Any]:
    """transformers' settings by width: the published base (768) and large (1024), else two small layers."""
    sizes: dict[str, Any] = {
        "hidden_size": width,
        "num_hidden_layers": {768: 12, 1024: 24}.get(width, 2),
        "num_attention_heads": max(1, width // 64),
        "intermediate_size": 4 * width,
    }
    if width == 1024:
        sizes |= {"do_stable_layer_norm": True, "feat_extract_norm": "layer", "conv_bias": True}
    return sizes


def frame_count(seconds: float, fps: float) -> int:
    """Video frames that a recording fills."""
    return int(seconds * fps)
