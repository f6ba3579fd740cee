"""Inspects a data folder: numbers of the whole set, and one self-contained HTML page with pictures.

The page shows every clip once, a choice of clips with their truth drawn over the picture (skeleton, boxes,
a bar for the mouth), the numbers, and what is wrong with which clip.
"""

from __future__ import annotations

import base64
import html
import math
from collections import Counter
from collections.abc import Callable, Mapping, Sequence
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any

import cv2
import numpy as np

from semibody.clips.manifest import ClipEntry, read_manifest
from semibody.clips.mouth import correlation
from semibody.clips.truth import Truth
from semibody.media import VideoReader, atomic_write, loudness, read_speech
from semibody.pose.files import load_gesture
from semibody.pose.hands import hand_confidence, hand_variation
from semibody.pose.overlay import contact_sheet, draw_skeleton
from semibody.types import FACE, Picture, Progress, SemibodyError, silent

SEEN = 0.5
"""Confidence from which a joint counts as visible; hidden joints of the truth have 0.3."""
LOUDNESS_WINDOW = 0.08
"""Seconds of sound around a frame by which its loudness is measured."""
JAW_BINS = 10
_SHOWN, _OVERLAID, _STILLS = 120, 8, 4
_REFERENCE = 768
_BOX_COLOURS = {
    "lips": (255, 80, 120), "face": (255, 255, 120), "head": (140, 255, 140),
    "left_hand": (255, 150, 60), "right_hand": (80, 160, 255),
}  # fmt: skip


@dataclass(frozen=True)
class ClipNumbers:
    """One clip. Shares are of its frames; NaN where the clip lacks what is needed.

    ``face``, ``both_hands`` share of frames that show the face, most of both hands · ``hands_cut`` share of
    frames in which a hand crosses the picture's edge · ``confidence`` mean of the hands' joints (HKC) ·
    ``variation`` of the hands over time in pixels of a 768² picture (HKV, a standard deviation) ·
    ``jaw_follows_voice`` correlation of jaw opening and loudness · ``jaw`` histogram, shares of JAW_BINS.
    """

    face: float
    both_hands: float
    hands_cut: float
    confidence: float
    variation: float
    jaw_follows_voice: float
    jaw: tuple[float, ...]


@dataclass(frozen=True)
class Survey:
    """A whole set: counts, means over the full-body clips, and ``faults`` (clip id, reason)."""

    clips: int
    people: int
    frames: int
    seconds: float
    splits: dict[str, int]
    kinds: dict[str, int]
    sources: dict[str, int]
    face: float
    both_hands: float
    hands_cut: float
    confidence: float
    variation: float
    jaw_follows_voice: float
    jaw: list[float]
    faults: list[tuple[str, str]] = field(default_factory=list)

    def as_dict(self) -> dict[str, Any]:
        """Plain values for JSON; what is unknown is None."""
        values = asdict(self)
        return {k: None if isinstance(v, float) and math.isnan(v) else v for k, v in values.items()}


def survey(folder: Path | str, progress: Progress = silent) -> Survey:
    """Read every clip of a set. A clip that cannot be read becomes a fault and is left out of the means.

    Raises SemibodyError if there is no manifest or it is broken.
    """
    entries = read_manifest(folder)
    if not entries:
        raise SemibodyError(
            f"{folder}: the manifest lists no clip; make some with `semibody data synthesise`"
        )
    numbers, faults = _measure_all(entries, progress)
    full = [numbers[e.id] for e in entries if e.kind == "full" and e.id in numbers]

    def mean(value: Callable[[ClipNumbers], float], of: Sequence[ClipNumbers]) -> float:
        known = [value(n) for n in of if not math.isnan(value(n))]
        return float(np.mean(known)) if known else math.nan

    every = list(numbers.values())
    jaws = np.array([n.jaw for n in every if n.jaw])
    return Survey(
        clips=len(entries),
        people=len({e.person for e in entries}),
        frames=sum(e.frames for e in entries),
        seconds=round(sum(e.seconds for e in entries), 3),
        splits=dict(Counter(e.split for e in entries)),
        kinds=dict(Counter(e.kind for e in entries)),
        sources=dict(Counter(e.source for e in entries)),
        face=mean(lambda n: n.face, every),
        both_hands=mean(lambda n: n.both_hands, full),
        hands_cut=mean(lambda n: n.hands_cut, full),
        confidence=mean(lambda n: n.confidence, full),
        variation=mean(lambda n: n.variation, full),
        jaw_follows_voice=mean(lambda n: n.jaw_follows_voice, every),
        jaw=[round(float(share), 4) for share in jaws.mean(axis=0)] if len(jaws) else [],
        faults=faults,
    )


def _measure_all(
    entries: Sequence[ClipEntry], progress: Progress
) -> tuple[dict[str, ClipNumbers], list[tuple[str, str]]]:
    """Numbers by clip id, and (clip id, reason) of those that cannot be read."""
    numbers: dict[str, ClipNumbers] = {}
    faults = []
    for done, entry in enumerate(entries):
        progress("clips", done, len(entries))
        try:
            numbers[entry.id] = measure(entry)
        except SemibodyError as error:
            faults.append((entry.id, str(error)))
    progress("clips", len(entries), len(entries))
    return numbers, faults


def measure(entry: ClipEntry) -> ClipNumbers:
    """The numbers of one clip. Raises SemibodyError if one of its files is missing, broken or too short."""
    gesture = load_gesture(entry.gesture)
    _require_length(entry, "gesture", len(gesture))
    with VideoReader(entry.video) as video:
        # A container may lack the number of frames, and may be off by one.
        if video.frame_count and abs(video.frame_count - entry.frames) > 1:
            _require_length(entry, "video", video.frame_count)
    seen = gesture.hands_confidence >= SEEN
    hands = gesture.hands
    visible = np.median(seen, axis=2) >= 1
    outside = ((hands < 0) | (hands > 1)).any(axis=-1)
    cut = (outside.any(axis=2) & ~outside.all(axis=2)).any(axis=1)
    follows, histogram = math.nan, ()
    if entry.truth is not None:
        truth = Truth.load(entry.truth)
        _require_length(entry, "truth", len(truth.jaw))
        counts, _ = np.histogram(truth.jaw, bins=JAW_BINS, range=(0, 1))
        histogram = tuple(counts / len(truth.jaw))
        if entry.audio is not None:
            follows = correlation(
                truth.jaw, loudness(read_speech(entry.audio), entry.frames, entry.fps, LOUDNESS_WINDOW)
            )
    return ClipNumbers(
        face=float((gesture.confidence[:, FACE].mean(axis=1) >= SEEN).mean()),
        both_hands=float(visible.all(axis=1).mean()),
        hands_cut=float(cut.mean()),
        confidence=hand_confidence(gesture.hands_confidence),
        variation=hand_variation(hands, gesture.hands_confidence, threshold=SEEN) * _REFERENCE,
        jaw_follows_voice=follows,
        jaw=histogram,
    )


def _require_length(entry: ClipEntry, what: str, frames: int) -> None:
    if frames != entry.frames:
        raise SemibodyError(f"{entry.id}: its {what} has {frames} frames, the manifest {entry.frames}")


# --- the page ------------------------------------------------------------------------------------------


def write_report(folder: Path | str, out: Path, numbers: Survey, progress: Progress = silent) -> None:
    """Write the page as one HTML file without references to other files."""
    broken = dict(numbers.faults)
    entries = [e for e in read_manifest(folder) if e.id not in broken]
    listed = entries[:: max(1, -(-len(entries) // _SHOWN))]
    chosen = _spread(entries, _OVERLAID)
    stills, labels = [], []
    for done, entry in enumerate(listed):
        progress("pictures", done, len(listed) + len(chosen))
        stills.append(_frames(entry, [entry.frames // 2])[0])
        labels.append(f"{entry.id} {entry.split} {entry.kind}")
    parts = [_section("Every clip" if len(listed) == len(entries) else "A choice of clips")]
    parts += [_picture(contact_sheet(s, t, columns=8, side=160)) for s, t in _chunks(stills, labels, 48)]
    parts.append(_section("Truth over the picture"))
    for done, entry in enumerate(chosen):
        progress("pictures", len(listed) + done, len(listed) + len(chosen))
        at = np.linspace(0, entry.frames - 1, min(_STILLS, entry.frames)).round().astype(int).tolist()
        drawn = [draw_truth(picture, entry, i) for picture, i in zip(_frames(entry, at), at, strict=True)]
        sheet = contact_sheet(drawn, [f"{entry.id} {i}" for i in at], columns=_STILLS, side=320)
        parts.append(_picture(sheet))
    progress("pictures", 1, 1)
    page = _PAGE.format(
        title=html.escape(Path(folder).resolve().name), numbers=_table(numbers), jaw=_bars(numbers.jaw),
        faults=_faults(numbers.faults), pictures="\n".join(parts),
    )  # fmt: skip
    with atomic_write(out) as unfinished:
        unfinished.write_text(page, encoding="utf-8")


def draw_truth(picture: Picture, entry: ClipEntry, frame: int) -> Picture:
    """A frame with its skeleton, its boxes, and at the left a bar as high as the mouth is open."""
    scale = max(1.0, 384 / min(picture.shape[:2]))
    large = cv2.resize(picture, None, fx=scale, fy=scale, interpolation=cv2.INTER_CUBIC)
    canvas = draw_skeleton(np.asarray(large, np.uint8), load_gesture(entry.gesture)[frame])
    if entry.truth is None:
        return canvas
    truth = Truth.load(entry.truth)
    height, width = canvas.shape[:2]
    for part, boxes in truth.boxes.items():
        if np.isfinite(boxes[frame]).all():
            x0, y0, x1, y1 = (boxes[frame] * (width, height, width, height)).round().astype(int).tolist()
            cv2.rectangle(canvas, (x0, y0), (x1, y1), _BOX_COLOURS[part], 1, cv2.LINE_AA)
    bar = int(truth.jaw[frame] * 0.4 * height)
    cv2.rectangle(canvas, (4, height - 4 - bar), (10, height - 4), (255, 80, 120), -1)
    return canvas


def _frames(entry: ClipEntry, wanted: Sequence[int]) -> list[Picture]:
    """Frames ``wanted``, in rising order; the last that can be read stands in for those beyond."""
    found: list[Picture] = []
    with VideoReader(entry.video) as video:
        picture: Picture | None = None
        for number, picture in enumerate(video):
            if number == wanted[len(found)]:
                found.append(picture)
                if len(found) == len(wanted):
                    return found
    if picture is None:
        raise SemibodyError(f"{entry.video}: holds no frame that can be read; make the clip again")
    return found + [picture] * (len(wanted) - len(found))


def _spread(entries: Sequence[ClipEntry], count: int) -> list[ClipEntry]:
    """``count`` clips of as many people as possible, spread over the set."""
    firsts = list({entry.person: entry for entry in reversed(entries)}.values())[::-1]
    pool = firsts if len(firsts) >= count else list(entries)
    at = np.linspace(0, len(pool) - 1, min(count, len(pool))).round()
    return [pool[int(i)] for i in at] if pool else []


def _chunks(pictures: list[Picture], labels: list[str], size: int) -> list[tuple[list[Picture], list[str]]]:
    return [(pictures[i : i + size], labels[i : i + size]) for i in range(0, len(pictures), size)]


def _section(title: str) -> str:
    return f"<h2>{html.escape(title)}</h2>"


def _picture(sheet: Picture) -> str:
    done, data = cv2.imencode(".jpg", cv2.cvtColor(sheet, cv2.COLOR_RGB2BGR), [cv2.IMWRITE_JPEG_QUALITY, 88])
    assert done
    return f'<img src="data:image/jpeg;base64,{base64.b64encode(data.tobytes()).decode()}">'


def _table(numbers: Survey) -> str:
    rows = {
        "people": f"{numbers.people}",
        "clips": f"{numbers.clips} ({_counts(numbers.kinds)}; {_counts(numbers.splits)})",
        "source": _counts(numbers.sources),
        "length": f"{numbers.seconds:.0f} s, {numbers.frames} frames",
        "frames that show the face": _share(numbers.face),
        "frames that show both hands (full clips)": _share(numbers.both_hands),
        "frames in which a hand crosses the edge": _share(numbers.hands_cut),
        "hand confidence (HKC)": _number(numbers.confidence),
        "hand variation (HKV), px of 768": _number(numbers.variation),
        "jaw opening follows loudness, r": _number(numbers.jaw_follows_voice),
    }
    lines = (f"<tr><th>{html.escape(k)}</th><td>{html.escape(v)}</td></tr>" for k, v in rows.items())
    return f"<table>{''.join(lines)}</table>"


def summary(numbers: Survey) -> list[str]:
    """The numbers for a terminal, a line each."""
    lines = [
        f"{numbers.people} people, {numbers.clips} clips ({_counts(numbers.kinds)}), "
        f"{numbers.seconds:.1f} s, {numbers.frames} frames",
        f"splits: {_counts(numbers.splits)}; source: {_counts(numbers.sources)}",
        f"face seen {_share(numbers.face)}, both hands {_share(numbers.both_hands)}, "
        f"a hand cut by the edge {_share(numbers.hands_cut)} of frames",
        f"HKC {_number(numbers.confidence)}, HKV {_number(numbers.variation)} px of 768, "
        f"jaw follows the voice r = {_number(numbers.jaw_follows_voice)}",
    ]
    lines += [f"fault: {name}: {reason}" for name, reason in numbers.faults[:10]]
    if len(numbers.faults) > 10:
        lines.append(f"... and {len(numbers.faults) - 10} more clips with faults")
    return lines


def _counts(counts: Mapping[str, int]) -> str:
    return ", ".join(f"{count} {name}" for name, count in sorted(counts.items()))


def _share(value: float) -> str:
    return "unknown" if math.isnan(value) else f"{value:.1%}"


def _number(value: float) -> str:
    return "unknown" if math.isnan(value) else f"{value:.3g}"


def _bars(shares: Sequence[float]) -> str:
    """A histogram as SVG."""
    if not shares:
        return "<p>No clip has the opening of the mouth.</p>"
    top = max(shares)
    bars = []
    for i, share in enumerate(shares):
        height = 100 * share / top
        bars.append(f'<rect x="{i * 40}" y="{110 - height:.1f}" width="36" height="{height:.1f}"/>')
        label = f"{i / len(shares):.1f}"
        bars.append(f'<text x="{i * 40 + 2}" y="125">{label}</text>')
    return f'<svg width="{40 * len(shares)}" height="130">{"".join(bars)}</svg>'


def _faults(faults: Sequence[tuple[str, str]]) -> str:
    if not faults:
        return "<p>None.</p>"
    return "<ul>" + "".join(f"<li>{html.escape(reason)}</li>" for _, reason in faults) + "</ul>"


_PAGE = """<!doctype html>
<html lang="en"><head><meta charset="utf-8"><title>{title}</title><style>
body {{ font: 15px/1.5 system-ui, sans-serif; margin: 2em; background: #181a1f; color: #ddd; }}
table {{ border-collapse: collapse; }} th {{ text-align: left; font-weight: normal; padding-right: 2em; }}
td {{ font-weight: bold; }} img {{ max-width: 100%; display: block; margin: .5em 0; }}
svg {{ fill: #6cf; }} text {{ font-size: 11px; fill: #999; }}
</style></head><body>
<h1>{title}</h1>
{numbers}
<h2>How far the mouth is open (share of frames)</h2>
{jaw}
<h2>Faults</h2>
{faults}
{pictures}
</body></html>
"""
