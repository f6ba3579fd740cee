"""Audio-Pose Dynamic Harmonization and Head Partial Attention as pure functions of the step.

The first stage walks through six blocks of steps (EchoMimicV2, Sec. 3.2 and 3.3):

===========  =====================================  ==================  =============================
block        keypoints drawn                        audio attention     data
===========  =====================================  ==================  =============================
initial      all                                    muted               half bodies
iterative    all; whole map dropped, 0 % -> 20 %    muted               half bodies
lips         all but lips                           on the lips         half bodies
head         body and hands                         on the face         half bodies and padded heads
body         hands                                  everywhere          half bodies and padded heads
mixed        hands                                  everywhere          half bodies and padded heads
===========  =====================================  ==================  =============================

In a padded head clip audio attention is always masked to the face (HPA), so that audio never conditions its
border. What the paper leaves open is a setting of ``Curriculum``. Nothing here draws random numbers or
imports torch.
"""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Literal

from semibody.pose.regions import Region

Block = Literal["initial", "iterative", "lips", "head", "body", "mixed"]
BLOCKS: tuple[Block, ...] = ("initial", "iterative", "lips", "head", "body", "mixed")

REMOVED: dict[str, Block] = {"lips": "lips", "head": "head", "body": "body"}
"""Group of keypoints -> the block from which it is no longer drawn; the hands always stay."""
AUDIO_REGION: dict[Block, Region] = {
    "initial": "none",
    "iterative": "none",
    "lips": "lips",
    "head": "face",
    "body": "body",
    "mixed": "body",
}


@dataclass(frozen=True, kw_only=True)
class Curriculum:
    """The schedule of the first stage. Lengths are steps; 0 leaves a block out."""

    initial: int = 10_000
    """complete keypoints, audio muted"""
    iterative: int = 10_000
    """the whole pose map is dropped more and more often"""
    lips: int = 10_000
    """lips no longer drawn, audio on the lips"""
    head: int = 10_000
    """head no longer drawn, audio on the face"""
    body: int = 10_000
    """only hands drawn, audio everywhere"""
    mixed: int = 10_000
    """as ``body``; head clips may start here only (see head_from). The last block never ends"""
    pose_dropout: float = 0.2
    """probability of dropping a sample's whole pose map at the end of ``iterative``"""
    pose_dropout_after: float = 0.2
    """the same from then on"""
    ramp: float = 0.0
    """share of a block over which the removal of its keypoints sets in (0: at once)"""
    head_share: float = 0.3
    """share of samples that are padded head clips, once they take part"""
    head_from: Block = "head"
    """the block from which head clips take part"""
    partial_attention: bool = True
    """mask audio attention to the face in padded head clips, and their border out of the loss (HPA)"""
    mask_dilation: float = 0.35
    """how far the hull of lips or face grows, as a share of its longer side"""
    shares: dict[str, dict[str, float]] = field(default_factory=dict)
    """source of clips (``data ingest --source``) -> block -> its share of that block's samples; sources
    without one are left out of a block in which others have one. A block without shares takes all people
    alike. Silent clips take part only while audio is muted, whatever their share"""

    def __post_init__(self) -> None:
        for name in ("pose_dropout", "pose_dropout_after", "ramp", "head_share"):
            if not 0.0 <= getattr(self, name) <= 1.0:
                raise ValueError(f"curriculum.{name} must be from 0 to 1")
        for source, shares in self.shares.items():
            if unknown := shares.keys() - set(BLOCKS):
                raise ValueError(
                    f"curriculum.shares.{source}: no block {min(unknown)}; choose from {', '.join(BLOCKS)}"
                )
            if min(shares.values(), default=0.0) < 0:
                raise ValueError(f"curriculum.shares.{source}: no share may be negative")
        if min(self.lengths) < 0 or sum(self.lengths) == 0:
            raise ValueError("curriculum: no block may have a negative length, and one must have steps")

    @property
    def lengths(self) -> tuple[int, ...]:
        return (self.initial, self.iterative, self.lips, self.head, self.body, self.mixed)


@dataclass(frozen=True, slots=True)
class CurriculumStep:
    """What the curriculum decides for one step."""

    block: Block
    keep: dict[str, float]
    """group of keypoints (lips, head, body, hands) -> probability that it is drawn"""
    pose_dropout: float
    """probability that a sample's whole pose map is dropped"""
    region: Region
    """where audio attention may write"""
    head_share: float
    """share of samples that are padded head clips"""
    shares: dict[str, float]
    """source -> its share of the samples; empty: all people alike"""

    @property
    def muted(self) -> bool:
        """Whether audio is muted, so that silent clips may take part."""
        return self.region == "none"


def at(curriculum: Curriculum, step: int) -> CurriculumStep:
    """What step ``step`` (from 0) of the first stage trains."""
    block, into = locate(curriculum, step)
    return CurriculumStep(
        block=block,
        keep={
            group: keep_probability(curriculum, group, step) for group in ("lips", "head", "body", "hands")
        },
        pose_dropout=pose_dropout(curriculum, block, into),
        region=AUDIO_REGION[block],
        head_share=head_share(curriculum, block),
        shares={
            source: share for source, by in curriculum.shares.items() if (share := by.get(block, 0.0)) > 0
        },
    )


def final(curriculum: Curriculum) -> CurriculumStep:
    """The end of the first stage, which is also what the second stage trains on."""
    return at(curriculum, sum(curriculum.lengths))


def described(curriculum: Curriculum, steps: int) -> list[tuple[str, str]]:
    """Each block in words: which steps of the first stage it lasts, what is drawn, where audio writes."""
    found: list[tuple[str, str]] = []
    start = 0
    for block, length in zip(BLOCKS, curriculum.lengths, strict=True):
        if length and start < steps:
            last = start + length == sum(curriculum.lengths)
            end = steps if last else min(steps, start + length)
            middle = at(curriculum, start + length // 2)
            drawn = [g for g, p in middle.keep.items() if p > 0]
            audio = {"none": "muted", "body": "everywhere"}.get(AUDIO_REGION[block], AUDIO_REGION[block])
            found.append((block, f"{start:,} … {end:,}: draws {', '.join(drawn)}; audio {audio}"))
        start += length
    return found


def locate(curriculum: Curriculum, step: int) -> tuple[Block, float]:
    """The block of ``step`` and how far into it, 0..1; after the end, the last block that has steps."""
    start = 0
    last: Block = "initial"
    for block, length in zip(BLOCKS, curriculum.lengths, strict=True):
        if length == 0:
            continue
        if step < start + length:
            return block, (step - start) / length
        start, last = start + length, block
    return last, 1.0


def keep_probability(curriculum: Curriculum, group: str, step: int) -> float:
    """Spatial pose sampling: probability that a group of keypoints is drawn."""
    if group not in REMOVED:
        return 1.0
    block, into = locate(curriculum, step)
    now, gone = BLOCKS.index(block), BLOCKS.index(REMOVED[group])
    if now != gone:
        return 1.0 if now < gone else 0.0
    return max(0.0, 1.0 - into / curriculum.ramp) if curriculum.ramp else 0.0


def pose_dropout(curriculum: Curriculum, block: Block, into: float) -> float:
    """Iterative pose sampling: probability of dropping the whole map."""
    if block == "initial":
        return 0.0
    return curriculum.pose_dropout * into if block == "iterative" else curriculum.pose_dropout_after


def head_share(curriculum: Curriculum, block: Block) -> float:
    """Head Partial Attention: share of padded head clips."""
    return curriculum.head_share if BLOCKS.index(block) >= BLOCKS.index(curriculum.head_from) else 0.0


def trains(block: Block, parameter: str) -> bool:
    """Whether the first stage trains ``parameter`` (``network.name``) in a block: all but autoencoder and
    motion modules, and nothing of audio while it is muted."""
    if parameter.startswith("vae.") or is_motion(parameter):
        return False
    return AUDIO_REGION[block] != "none" or not is_audio(parameter)


def is_motion(parameter: str) -> bool:
    """Whether a parameter belongs to the motion modules, which the second stage trains alone."""
    return "motion_modules" in parameter


def is_audio(parameter: str) -> bool:
    """Whether a parameter belongs to audio: encoder, cross-attention, projection into the time embedding."""
    return (
        parameter.startswith("audio_encoder.")
        or ".attn2." in parameter
        or ("transformer_blocks" in parameter and ".norm2." in parameter)
        or ".audio_time." in parameter
    )
