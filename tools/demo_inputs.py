"""Make the portraits and the speeches that come with the starter.

    python tools/demo_inputs.py --assets MAKEHUMAN_DATA --sheet out/candidates.png   # people to choose from
    python tools/demo_inputs.py --assets MAKEHUMAN_DATA                              # writes the chosen two

The people are rendered from a seed of their own, so that they are in no training set; the frame is the
calmest one: hands seen, mouth shut. The speeches are spoken by flite. Needs the extras
``synth`` and ``pose``.
"""

from __future__ import annotations

import argparse
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from semibody.data.synthetic.assets import find_assets
from semibody.data.synthetic.clip import RenderedClip, Style, clip_seed, render_clip, render_person
from semibody.data.synthetic.render import Stage
from semibody.demo import PEOPLE
from semibody.media import resize_image, write_image, write_speech
from semibody.types import HANDS, Speech
from semibody.voices.speaking import by_flite
from semibody.weights.hub import STARTER

SEED, SIDE = 20261123, 512


@dataclass(frozen=True)
class Chosen:
    """A person of the demo: the ``number`` of those of the seed, who says what in which voice of flite."""

    number: int
    voice: str
    stretch: float
    text: str


CHOSEN = {
    "suit": Chosen(
        8, "rms", 0.82,
        "Hello, and welcome! Nobody filmed me: I was drawn by a computer. "
        "But my hands move with my words, and so do my lips.",
    ),
    "shirt": Chosen(
        2, "slt", 0.95,
        "Good morning! My sleeves are short, so that you can see my arms. "
        "I was drawn by a computer as well, and I like to talk.",
    ),
}  # fmt: skip


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--assets", type=Path)
    parser.add_argument("--out", type=Path, default=STARTER)
    parser.add_argument("--sheet", type=Path, help="only draw candidates, 4 in a row")
    parser.add_argument("--people", type=int, default=12)
    arguments = parser.parse_args()
    assets, stage = find_assets(arguments.assets), Stage(SIDE)
    if arguments.sheet is not None:
        people = [portrait(stage, assets, number) for number in range(arguments.people)]
        small = [resize_image(picture, 256, 256) for picture in people]
        rows = [np.concatenate(small[k : k + 4], axis=1) for k in range(0, len(small) - 3, 4)]
        write_image(arguments.sheet, np.concatenate(rows))
        return
    for who, files in PEOPLE.items():
        write_image(arguments.out / files.portrait, portrait(stage, assets, CHOSEN[who].number))
        write_speech(arguments.out / files.speech, speech(CHOSEN[who]))


def portrait(stage: Stage, assets: Path, number: int) -> NDArray[np.uint8]:
    """The calmest frame of a short clip of person ``number``: uint8 (SIDE, SIDE, 3)."""
    person = render_person(SEED, number, assets, SIDE)
    clip = render_clip(stage, person, clip_seed(SEED, number, 0), 1.5, 8.0, "full", style=Style(sway=0.35))
    return clip.clip.frames[calmest(clip)]


def calmest(clip: RenderedClip) -> int:
    """The frame with most of the hands in view and the mouth most shut."""
    seen = (clip.gesture.confidence[:, HANDS] >= 0.5).mean(axis=1)
    return int(np.argmax(seen - clip.truth.jaw))


def speech(chosen: Chosen) -> Speech:
    """The spoken text, at half of full scale, with a short silence at both ends."""
    spoken = by_flite(chosen.text, chosen.voice, chosen.stretch).speech
    pause = np.zeros(spoken.rate // 4, np.float32)
    loud = spoken.waveform * np.float32(0.5 / np.abs(spoken.waveform).max())
    return Speech(np.concatenate([pause, loud, pause]), spoken.rate)


if __name__ == "__main__":
    main()
