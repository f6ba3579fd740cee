"""Which clips a block of the curriculum draws: by source and share, silent ones only while audio is muted."""

from __future__ import annotations

from collections import Counter
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from semibody.clips.manifest import ClipEntry
from semibody.data.dataset import PackedClip, Packing, pack_clip, pack_manifest, packed_clips
from semibody.media import VideoWriter
from semibody.pose.files import save_gesture
from semibody.training.curriculum import at
from semibody.training.drawn import draw_clip
from semibody.training.samples import DenoisingSamples
from semibody.training.trainer import split, train
from semibody.types import SemibodyError
from training.nano import nano
from training.test_samples import samples

PACKING = Packing(size=64)
BLOCKS = [f"curriculum.{name}=2" for name in ("initial", "iterative", "lips", "head", "body", "mixed")]
SHARES = [
    "curriculum.shares.humanvid.initial=3.0", "curriculum.shares.studio.initial=1.0",
    "curriculum.shares.humanvid.mixed=1.0", "curriculum.shares.studio.mixed=1.0",
]  # fmt: skip


def make(folder: Path, name: str, number: int, *, source: str, silent: bool) -> PackedClip:
    pictures, gesture, speech, truth = draw_clip(0, number, 8, 64, 24.0)
    return PackedClip(
        pack_clip(
            folder / PACKING.key, name, pictures, gesture, None if silent else speech, truth, person=name,
            kind="full", split="train", packing=PACKING, source=source,
        )
    )  # fmt: skip


@pytest.fixture(scope="module")
def mixed(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Three silent people of one source, one person with sound of another."""
    folder = tmp_path_factory.mktemp("mixed")
    for number in range(3):
        make(folder, f"quiet{number}", number, source="humanvid", silent=True)
    make(folder, "spoken", 3, source="studio", silent=False)
    return folder


def drawn_at(drawn: DenoisingSamples, step: int, count: int = 400) -> Counter[str]:
    """How often each source is drawn at a step of the curriculum."""
    decided = at(drawn.recipe.curriculum, step)
    rng = np.random.default_rng(step)
    return Counter(drawn.choose(rng, decided).clip.source for _ in range(count))


def test_clips_keep_their_source_and_that_they_are_silent(mixed: Path) -> None:
    clips = {clip.id: clip for clip in packed_clips(mixed, PACKING)}
    assert {name: (clip.source, clip.silent) for name, clip in clips.items()} == {
        "quiet0": ("humanvid", True), "quiet1": ("humanvid", True), "quiet2": ("humanvid", True),
        "spoken": ("studio", False),
    }  # fmt: skip
    assert not clips["quiet0"].speech().waveform.any()
    chosen, held_out = split(list(clips.values()))
    assert len(chosen) == 4 and [clip.id for clip in held_out] == ["spoken"]


def test_silent_clips_are_drawn_only_while_audio_is_muted(mixed: Path, tmp_path: Path) -> None:
    drawn = samples(nano(*BLOCKS), packed_clips(mixed, PACKING), tmp_path)
    for step in range(12):
        found = drawn_at(drawn, step)
        if step < 4:  # initial, iterative; all four people alike
            assert found["humanvid"] == pytest.approx(300, abs=40)
        else:
            assert found == {"studio": 400}


def test_shares_hold_by_source_and_block(mixed: Path, tmp_path: Path) -> None:
    loud = make(tmp_path, "loud", 4, source="humanvid", silent=False)
    extra = make(tmp_path, "other", 5, source="elsewhere", silent=False)
    clips = [*packed_clips(mixed, PACKING), loud, extra]
    drawn = samples(nano(*BLOCKS, *SHARES), clips, tmp_path / "latents")
    found = drawn_at(drawn, 0)
    # Not by people: humanvid has four of them and studio one; and elsewhere has no share here.
    assert found["humanvid"] / found["studio"] == pytest.approx(3, rel=0.35)
    assert found["elsewhere"] == 0
    half = drawn_at(drawn, 11)
    assert half["humanvid"] == pytest.approx(200, abs=45) and half["elsewhere"] == 0
    # A block without shares takes people alike: humanvid's only clip with sound is one of three.
    assert drawn_at(drawn, 5)["elsewhere"] == pytest.approx(133, abs=40)


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        (["curriculum.shares.nowhere.initial=1.0"], "has humanvid, studio"),
        (["curriculum.shares.humanvid.lips=1.0"], "block lips has half-body clips; the data has studio"),
    ],
)
def test_a_share_of_what_is_not_there_is_named(
    mixed: Path, tmp_path: Path, changes: list[str], message: str
) -> None:
    with pytest.raises(SemibodyError, match=message):
        samples(nano(*BLOCKS, *changes), packed_clips(mixed, PACKING), tmp_path)


@pytest.mark.parametrize("wrong", ["first=1.0", "lips=-1.0"])
def test_shares_of_no_block_or_below_nothing_are_refused(wrong: str) -> None:
    with pytest.raises(SemibodyError, match=r"curriculum\.shares\.humanvid"):
        nano(f"curriculum.shares.humanvid.{wrong}")


def test_silent_clips_alone_train_no_block_with_audio(mixed: Path, tmp_path: Path) -> None:
    quiet = [clip for clip in packed_clips(mixed, PACKING) if clip.silent]
    with pytest.raises(SemibodyError, match="no half-body clips with sound"):
        samples(nano(*BLOCKS), quiet, tmp_path)
    with pytest.raises(SemibodyError, match="no half-body clips with sound"):
        samples(nano(), quiet, tmp_path, stage="motion")


def test_a_training_honours_it(mixed: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Three steps of the first stage, one of them muted."""
    seen: list[tuple[int, str]] = []
    sample = DenoisingSamples.sample

    def noted(self: DenoisingSamples, step: int, number: int) -> dict[str, Any]:
        made = sample(self, step, number)
        seen.append((step, str(made["name"]).partition(":")[0]))
        return made

    monkeypatch.setattr(DenoisingSamples, "sample", noted)
    recipe = nano(
        'stages=["vae","still"]', "vae.optimiser.steps=1", "vae.optimiser.warmup=1",
        "still.optimiser.steps=3",
        "curriculum.initial=1", "curriculum.iterative=0", "curriculum.lips=1", "curriculum.head=0",
        "curriculum.body=1", "curriculum.mixed=0", "loss.pose=0", "loss.low=0",
        "model.plate_latents=false", "run.validation_clips=1", "curriculum.shares.humanvid.initial=1.0",
    )  # fmt: skip
    assert train(recipe, tmp_path / "run", packed=mixed).finished
    muted = [name for step, name in seen if step == 0]
    others = [name for step, name in seen if step > 0]
    assert len(muted) >= 4 and all(name.startswith("quiet") for name in muted)
    assert len(others) >= 8 and set(others) == {"spoken"}


def test_pictures_below_the_recipes_size_are_refused_unless_asked_for(tmp_path: Path) -> None:
    pictures, gesture, _, _ = draw_clip(0, 0, 8, 64, 24.0)
    with VideoWriter(tmp_path / "a.mp4", fps=24, width=64, height=64) as video:
        video.write(pictures)
    save_gesture(gesture, tmp_path / "a.npz")
    entry = ClipEntry(
        id="a", split="train", person="a", kind="full", source="real", video=tmp_path / "a.mp4", audio=None,
        gesture=tmp_path / "a.npz", truth=None, frames=8, fps=24.0, width=64, height=64, seconds=8 / 24,
        parameters={"collection": "humanvid"},
    )  # fmt: skip
    with pytest.raises(
        SemibodyError, match=r"a: its pictures have 64 pixels and the recipe wants 96.*--size 96"
    ):
        pack_manifest([entry], tmp_path / "packed", Packing(size=96))
    assert not list((tmp_path / "packed").rglob("*.safetensors"))
    (clip,) = pack_manifest([entry], tmp_path / "packed", Packing(size=96, enlarge=True))
    assert (clip.size, clip.source, clip.silent) == (96, "humanvid", True)
    (clip,) = pack_manifest([entry], tmp_path / "packed", Packing(size=48))
    assert clip.size == 48, "larger pictures are scaled"
