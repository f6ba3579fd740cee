"""What can be measured: the table of metrics, each with its measure (``measures``) and what it needs.

Standard metrics carry the field's names and are only computed with the field's networks. A stand-in carries
the name of what it is made of (``FID-effnet``) and never appears under the standard's.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass

from semibody.evaluation import faces
from semibody.evaluation.extract import KINDS
from semibody.evaluation.measures import Measure, hands, identity, mouth, pixels, sets
from semibody.types import SemibodyError


@dataclass(frozen=True)
class Metric:
    """A row of the table.

    ``family`` what stand-ins and standard share · ``better`` "higher", "lower", "zero" or "" (neither) ·
    ``kinds`` what must be found in the files · ``needs`` of "real", "truth or real" · ``absent`` why it
    can never be computed here, for a standard metric we have no network for.
    """

    name: str
    family: str
    standard: bool
    better: str
    unit: str
    about: str
    kinds: tuple[str, ...]
    needs: tuple[str, ...]
    measure: Measure
    absent: str = ""

    @property
    def stand_in(self) -> bool:
        """Whether it stands in for a standard metric of its family (and is not a measure of our own)."""
        return not self.standard and self.family in _STANDARD_FAMILIES

    def missing(self) -> str:
        """Empty when this machine can compute it; otherwise what is missing and how to get it."""
        return self.absent or next((why for kind in self.kinds if (why := _missing(kind))), "")


def _missing(kind: str) -> str:
    if kind == "pixels":
        return ""
    return faces.expressions_missing() if kind == "expressions" else KINDS[kind].missing()


def files_kinds(metrics: Iterable[Metric]) -> set[str]:
    """The kinds of ``extract.KINDS`` that must be gathered for these metrics."""
    named = {kind for metric in metrics for kind in metric.kinds} - {"pixels"}
    return {"faces" if kind == "expressions" else kind for kind in named}


# -- the table ----------------------------------------------------------------------------------------

_NO_FACE_MODEL = (
    "the 3D face models of published E-FIDs (Deep3DFaceRecon and others) are made from face data whose "
    "licence forbids redistribution, and papers do not agree on one; use E-FID-mediapipe instead"
)

# What a metric needs besides the generated clip.
_PAIR: tuple[str, ...] = ("real",)
_TRUTH: tuple[str, ...] = ("truth or real",)
_CLIP: tuple[str, ...] = ()

_TABLE: tuple[Metric, ...] = (
    Metric("FID", "FID", True, "lower", "", "Fréchet distance of Inception-v3 pool features of frames",
           ("inception",), _PAIR, sets.features("inception")),
    Metric("FID-effnet", "FID", False, "lower", "", "Fréchet distance of EfficientNet-lite0 features",
           ("effnet",), _PAIR, sets.features("effnet")),
    Metric("FVD", "FVD", True, "lower", "", "Fréchet distance of I3D logits of 16-frame windows",
           ("i3d",), _PAIR, sets.features("i3d")),
    Metric("FVD-StyleGAN-V", "FVD-StyleGAN-V", True, "lower", "",
           "Fréchet distance of I3D logits of one window a clip, by StyleGAN-V's protocol",
           ("i3d-torchscript",), _PAIR, sets.features("i3d-torchscript")),
    Metric("FVD-effnet", "FVD", False, "lower", "",
           "Fréchet distance of windows of EfficientNet-lite0 features: their mean and mean change",
           ("effnet",), _PAIR, sets.windows_of_features),
    Metric("PSNR", "PSNR", True, "higher", "dB", "mean over frames; 8-bit RGB, range 255",
           ("pixels",), _PAIR, pixels.psnr),
    Metric("SSIM", "SSIM", True, "higher", "", "mean over frames; 11×11 Gaussian window, σ 1.5, RGB",
           ("pixels",), _PAIR, pixels.column("ssim")),
    *(
        Metric(f"PSNR-{where}", "regions", False, "higher", "dB", f"the same over the {about} alone",
               ("pixels",), _PAIR, pixels.psnr_of(where))
        for where, about in (("face", "box of the face"), ("hands", "boxes of the hands"))
    ),
    Metric("E-FID", "E-FID", True, "lower", "", "Fréchet distance of 3D face model expressions", (), _PAIR,
           sets.expressions, _NO_FACE_MODEL),
    Metric("E-FID-mediapipe", "E-FID", False, "lower", "",
           "Fréchet distance of MediaPipe's blendshapes (in percent) of frames", ("expressions",), _PAIR,
           sets.expressions),
    Metric("CSIM", "CSIM", True, "higher", "", "cosine of ArcFace embeddings, reference to frames",
           ("arcface",), _CLIP, identity.to_reference("arcface", faces.cosine)),
    Metric("CSIM-dlib", "CSIM", False, "higher", "", "cosine of dlib embeddings taken from their centre",
           ("dlib",), _CLIP, identity.to_reference("dlib", identity.dlib_cosine)),
    Metric("ID-L2-dlib", "CSIM", False, "lower", "", "L2 distance of dlib embeddings; people: 0.6",
           ("dlib",), _CLIP, identity.to_reference("dlib", identity.distance)),
    Metric("ID-pair", "CSIM", False, "higher", "", "cosine of ArcFace embeddings of paired frames",
           ("arcface",), _PAIR, identity.of_pairs("arcface")),
    Metric("ID-pair-dlib", "CSIM", False, "higher", "", "cosine of dlib embeddings of paired frames",
           ("dlib",), _PAIR, identity.of_pairs("dlib")),
    Metric("ID-nearest-dlib", "identity", False, "higher", "",
           "share of clips whose face is nearest to its own person's portraits (dlib)", ("dlib",), _CLIP,
           identity.nearest_person("dlib")),
    Metric("ID-drift-dlib", "stability", False, "lower", "",
           "mean L2 distance of a clip's embeddings from their mean: identity drift",
           ("dlib",), _CLIP, identity.steadiness),
    Metric("Sync-C", "Sync", True, "higher", "", "SyncNet confidence", ("syncnet",), _CLIP,
           mouth.synced(lambda found: found.confidence)),
    Metric("Sync-D", "Sync", True, "lower", "", "SyncNet distance", ("syncnet",), _CLIP,
           mouth.synced(lambda found: found.distance)),
    Metric("Sync-C-small", "Sync", False, "higher", "", "confidence of our own small network",
           ("expressions", "sound"), _CLIP, mouth.synced_small(lambda found: found.confidence)),
    Metric("Sync-D-small", "Sync", False, "lower", "", "distance of our own small network",
           ("expressions", "sound"), _CLIP, mouth.synced_small(lambda found: found.distance)),
    Metric("Sync-offset-small", "Sync", False, "zero", "frames at 25 fps",
           "size of the offset that network finds",
           ("expressions", "sound"), _CLIP, mouth.synced_small(lambda found: float(abs(found.offset)))),
    Metric("Sync-jaw", "Sync", False, "higher", "", "correlation of jaw and loudness at the best lag",
           ("expressions", "sound"), _CLIP, mouth.follows("sound", search=True)),
    Metric("Sync-jaw-lag", "Sync", False, "zero", "frames", "size of the lag of jaw and loudness",
           ("expressions", "sound"), _CLIP, mouth.lags("sound")),
    Metric("HKC", "HKC", True, "higher", "", "mean confidence of DWPose's hand keypoints",
           ("joints-dwpose",), _CLIP, hands.hkc("joints-dwpose")),
    Metric("HKC-mediapipe", "HKC", False, "higher", "", "mean confidence of MediaPipe's hands",
           ("joints",), _CLIP,
           hands.hkc("joints")),
    Metric("HKV", "HKV", True, "", "px of 768", "spread over time of DWPose's hand keypoints",
           ("joints-dwpose",), _CLIP, hands.hkv("joints-dwpose")),
    Metric("HKV-mediapipe", "HKV", False, "", "px of 768", "spread over time of MediaPipe's hands",
           ("joints",), _CLIP,
           hands.hkv("joints")),
    Metric("HKV-mediapipe-norm", "HKV", False, "", "hand sizes", "the same in sizes of the hand",
           ("joints",), _CLIP, hands.hkv("joints", normalised=True)),
    Metric("PCK", "hands", False, "higher", "", "hand keypoints within 0.2 hand sizes of the truth",
           ("joints",), _TRUTH, hands.errors(lambda off: off.pck)),
    Metric("hand-error", "hands", False, "lower", "px of 768", "mean distance of found hand keypoints",
           ("joints",), _TRUTH, hands.errors(lambda off: off.error)),
    Metric("hands-found", "hands", False, "higher", "", "share of the hands to be seen that are found",
           ("joints",), _TRUTH, hands.share_found),
    Metric("hand-error-shoulders", "hands", False, "lower", "% of shoulders",
           "mean distance of found hand keypoints over the true shoulders' width", ("joints",),
           _TRUTH, hands.error_in_shoulders),
    Metric("mouth-correlation", "mouth", False, "higher", "",
           "correlation of the opening of the lips with the true jaw", ("faces",), _TRUTH,
           mouth.follows("truth", mouth.lips)),
    Metric("mouth-lag", "mouth", False, "zero", "frames", "size of the lag at which they fit best",
           ("faces",), _TRUTH,
           mouth.lags("truth", mouth.lips)),
    Metric("jaw-correlation", "jaw", False, "higher", "", "correlation of the jaw with the true jaw",
           ("expressions",), _TRUTH, mouth.follows("truth")),
    Metric("jaw-lag", "jaw", False, "zero", "frames", "size of the lag at which they fit best",
           ("expressions",), _TRUTH, mouth.lags("truth")),
    Metric("background-drift", "stability", False, "lower", "grey levels",
           "change since the first frame where the real video has none", ("pixels",), _PAIR,
           pixels.column("drift")),
    *(
        Metric(f"change-{where}", "stability", False, better, "",
               f"energy of changes from frame to frame over the real clip's, {about}", ("pixels",), _PAIR,
               pixels.energy(where))
        for where, better, about in (("moving", "", "where that moves"),
                                     ("still", "lower", "where that is still"),
                                     ("away", "lower", "more than 4 pixels from what moves"))
    ),
    *(
        Metric(f"flicker-{where}", "stability", False, "lower", "grey levels",
               f"temporal high frequencies where the real video is still: {where}", ("pixels",), _PAIR,
               pixels.column(f"flicker/{where}"))
        for where in ("face", "hands", "rest")
    ),
)  # fmt: skip

_STANDARD_FAMILIES = frozenset({"FID", "FVD", "PSNR", "SSIM", "E-FID", "CSIM", "Sync", "HKC", "HKV"})
METRICS: dict[str, Metric] = {metric.name: metric for metric in _TABLE}


def choose(wanted: Sequence[str]) -> list[Metric]:
    """Metrics by name or family; none named: of every family the standard where it can be had, else
    stand-ins.

    Raises SemibodyError for an unknown name.
    """
    if not wanted:
        return default_metrics()
    chosen: dict[str, Metric] = {}
    for name in wanted:
        found = [m for m in METRICS.values() if name.lower() in (m.name.lower(), m.family.lower())]
        exact = [m for m in found if m.name.lower() == name.lower()]
        if not found:
            raise SemibodyError(f"--metrics {name}: unknown; choose from {', '.join(METRICS)}")
        chosen |= {m.name: m for m in (exact or found)}
    return list(chosen.values())


def default_metrics() -> list[Metric]:
    """All standard metrics (so that what is missing is reported), stand-ins where their family lacks the
    standard."""
    missing = [m for m in METRICS.values() if m.standard and m.missing()]
    lacking, absent = {m.family for m in missing}, {m.kinds for m in missing if m.kinds}
    return [
        m
        for m in METRICS.values()
        if m.standard or (m.kinds not in absent and (m.family in lacking or not m.stand_in))
    ]
