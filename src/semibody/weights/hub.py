"""Where weights live on this machine, and how to fetch them from the Hugging Face Hub.

The starter lies in the package itself; ``~/.cache/semibody/weights`` (or ``$SEMIBODY_HOME/weights``) holds
a folder per other name. Fetching is resumable: a complete file is not fetched again, an incomplete one
continues where it stopped.
"""

from __future__ import annotations

import json
import os
import re
import shutil
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from importlib import resources
from pathlib import Path

from semibody.files import atomic_write, digest, exists, is_folder, read_json
from semibody.types import MissingPartError, Progress, SemibodyError, silent
from semibody.weights import official, store

ECHOMIMIC = "BadToBest/EchoMimicV2"
VAE = "stabilityai/sd-vae-ft-mse"
FOLDER = "echomimic_v2"
STARTER = Path(str(resources.files("semibody"))) / "starter"
"""The small model that comes with the package: a weights folder of our own, a portrait and a speech."""
LOCK = "fetched.json"
"""Which commit of which repository the files come from."""


@dataclass(frozen=True)
class RemoteFile:
    """A file of a Hub repository and its place in our folder."""

    repository: str
    name: str
    place: str
    sha256: str = ""
    """what it must be; empty: whatever the repository has"""


_COMMON = (
    RemoteFile(ECHOMIMIC, "reference_unet.pth", "reference_unet.pth"),
    RemoteFile(ECHOMIMIC, "pose_encoder.pth", "pose_encoder.pth"),
    RemoteFile(
        VAE, "diffusion_pytorch_model.safetensors", "sd-vae-ft-mse/diffusion_pytorch_model.safetensors"
    ),
    RemoteFile(ECHOMIMIC, "audio_processor/tiny.pt", "audio_processor/tiny.pt"),
)
SETS: dict[str, tuple[RemoteFile, ...]] = {
    "official": (
        *_COMMON,
        RemoteFile(ECHOMIMIC, "denoising_unet.pth", "denoising_unet.pth"),
        RemoteFile(ECHOMIMIC, "motion_module.pth", "motion_module.pth"),
    ),
    "accelerated": (
        *_COMMON,
        RemoteFile(ECHOMIMIC, "denoising_unet_acc.pth", "denoising_unet_acc.pth"),
        RemoteFile(ECHOMIMIC, "motion_module_acc.pth", "motion_module_acc.pth"),
    ),
}
DWPOSE = "dwpose"
DWPOSE_FILES = (
    RemoteFile(
        "yzd-v/DWPose", "yolox_l.onnx", "yolox_l.onnx",
        "7860ae79de6c89a3c1eb72ae9a2756c0ccfbe04b7791bb5880afabd97855a411",
    ),
    RemoteFile(
        "yzd-v/DWPose", "dw-ll_ucoco_384.onnx", "dw-ll_ucoco_384.onnx",
        "724f4ff2439ed61afb86fb8a1951ec39c6220682803b4a8bd4f598cd913b1843",
    ),
)  # fmt: skip
"""DWPose's two networks: the one that finds people, and the one that finds their joints."""


def home() -> Path:
    """The folder of everything Semibody keeps on this machine."""
    given = os.environ.get("SEMIBODY_HOME")
    return Path(given) if given else Path.home() / ".cache" / "semibody"


def find_weights(name: str) -> tuple[Path, str | None]:
    """The folder of a name or path, and the preset that the name implies.

    Raises SemibodyError if nothing is there.
    """
    if name == "starter":
        if not store.is_store(STARTER):
            raise MissingPartError(
                "the starter weights are not part of this installation; make them with `make starter`, or "
                "run: semibody weights fetch accelerated"
            )
        return STARTER, None
    if name in SETS:
        converted, fetched = home() / "weights" / name, home() / "weights" / FOLDER
        folder = converted if converted.is_dir() else fetched
        if not folder.is_dir():
            raise SemibodyError(
                f"the {name} weights are not on this machine; run: semibody weights fetch {name}"
            )
        return folder, name
    folder = Path(name)
    if exists(folder) and folder.is_file():
        raise SemibodyError(f"{name}: is a file; give the folder of all the model's files: {folder.parent}")
    if name.lower() == ECHOMIMIC.lower() and not is_folder(folder):
        raise SemibodyError(f"{name}: is a repository; run: semibody weights fetch accelerated")
    if not is_folder(folder):
        known = ", ".join(("starter", *SETS))
        raise SemibodyError(f"{name}: no such weights folder; give a folder or one of: {known}")
    return _with_weights(_snapshot(folder)), None


def _with_weights(folder: Path) -> Path:
    """The folder. Raises SemibodyError, naming it, where the only weights lie in a folder below it."""
    if not store.is_store(folder) and not official.is_official(folder):
        below = [one for one in sorted(folder.glob("*/")) if store.is_store(one) or official.is_official(one)]
        if below:
            raise SemibodyError(f"{folder}: holds no weights itself; name {' or '.join(map(str, below[:3]))}")
    return folder


def _snapshot(folder: Path) -> Path:
    """Of the Hub's own cache (``models--owner--name``, its ``snapshots``) the snapshot to use: the
    one that ``refs/main`` names, else the newest that holds weights; any other folder as it is."""
    kept = folder if folder.name == "snapshots" else folder / "snapshots"
    if store.is_store(folder) or official.is_official(folder) or not kept.is_dir():
        return folder
    found = [one for one in kept.iterdir() if store.is_store(one) or official.is_official(one)]
    main = kept.parent / "refs" / "main"
    named = main.read_text(encoding="utf-8").strip() if main.is_file() else ""
    return max(found, key=lambda one: (one.name == named, one.stat().st_mtime), default=folder)


def complete_weights(name: str) -> Path:
    """The folder of a name. Raises SemibodyError if it, or a file in it, is missing."""
    folder, variant = find_weights(name)
    if not store.is_store(folder):
        official.require_complete(folder, "accelerated" if variant == "accelerated" else "official")
    return folder


def find_dwpose() -> Path:
    """The folder of DWPose's networks, as ``fetch`` left it. Raises MissingPartError if one is missing."""
    folder = home() / "weights" / DWPOSE
    if not all((folder / file.place).is_file() for file in DWPOSE_FILES):
        raise MissingPartError(
            f"DWPose's networks are not on this machine; run: semibody weights fetch {DWPOSE}"
        )
    return folder


def default_weights() -> str:
    """The weights that are used when none are named: published ones where fetched, else the starter."""
    for name in SETS:
        try:
            complete_weights(name)
        except SemibodyError:
            continue
        return name
    return "starter"


def fetch(
    name: str, *, revision: str | None = None, folder: Path | None = None, progress: Progress = silent
) -> Path:
    """Fetch a set of weights by name, resumably; returns its folder.

    ``revision`` (a branch, tag or commit; None: the newest) is resolved to a commit once and written to
    ``fetched.json``; a later fetch uses the same commit unless another revision is named.
    Raises SemibodyError if the name is unknown or the Hub does not answer.
    """
    if name == "starter":
        raise SemibodyError(
            "starter: comes with the package, there is nothing to fetch; use --weights starter"
        )
    if name not in (*SETS, DWPOSE):
        raise SemibodyError(f"{name}: unknown weights; choose {', '.join((*SETS, DWPOSE))}")
    files = SETS.get(name, DWPOSE_FILES)
    wanted = {} if revision is None else {ECHOMIMIC if name in SETS else files[0].repository: revision}
    folder = folder or home() / "weights" / (FOLDER if name in SETS else name)
    return fetch_files(name, files, folder, wanted, keep=revision is None, progress=progress)


def fetch_files(
    name: str,
    files: Sequence[RemoteFile],
    folder: Path,
    revisions: Mapping[str, str],
    *,
    keep: bool,
    progress: Progress = silent,
) -> Path:
    """Fetch files into a folder, resumably. ``revisions`` by repository (``main`` where none is named);
    with ``keep``, the commits that ``fetched.json`` already names go first. Raises SemibodyError."""
    from huggingface_hub import hf_hub_download
    from huggingface_hub.errors import HfHubHTTPError, LocalEntryNotFoundError, OfflineModeIsEnabled

    commits = _read_lock(folder) if keep else {}
    try:
        for number, file in enumerate(files):
            progress(f"fetch {file.name}", number, len(files))
            if file.repository not in commits:
                commits[file.repository] = _commit(file.repository, revisions.get(file.repository, "main"))
                # Written before the files, so that a resumed fetch never mixes commits.
                _write_lock(folder, commits)
            got = hf_hub_download(
                file.repository, file.name, revision=commits[file.repository], local_dir=folder / ".hub"
            )
            if file.sha256 and digest(Path(got)) != file.sha256:
                Path(got).unlink()
                raise SemibodyError(
                    f"{file.name}: what {file.repository} sent is not the expected file (sha256 differs); "
                    "run the same command again"
                )
            _place(Path(got), folder / file.place)
        progress("fetch", len(files), len(files))
    except (HfHubHTTPError, LocalEntryNotFoundError, OfflineModeIsEnabled, OSError) as error:
        if isinstance(error, OSError) and error.errno is not None and error.errno == 28:
            raise
        reason = str(error).splitlines()[0] if str(error) else type(error).__name__
        raise SemibodyError(
            f"fetching the {name} weights stopped ({reason}); run the same command again to continue; where "
            "the Hub cannot be reached, set HF_ENDPOINT to a mirror of it"
        ) from None
    return folder


def _commit(repository: str, revision: str) -> str:
    """The commit of a branch, tag or commit."""
    if re.fullmatch("[0-9a-f]{40}", revision):
        return revision
    from huggingface_hub import HfApi

    return HfApi().model_info(repository, revision=revision).sha or revision


def _place(got: Path, wanted: Path) -> None:
    """Give a fetched file its place without a second copy."""
    if wanted.exists() and wanted.samefile(got):
        return
    with atomic_write(wanted) as unfinished:
        unfinished.unlink()
        try:
            os.link(got, unfinished)
        except OSError:  # some file systems have no hard links
            shutil.copyfile(got, unfinished)


def _write_lock(folder: Path, commits: dict[str, str]) -> None:
    with atomic_write(folder / LOCK) as unfinished:
        unfinished.write_text(json.dumps(commits, indent=1, sort_keys=True) + "\n", encoding="utf-8")


def _read_lock(folder: Path) -> dict[str, str]:
    try:
        commits = read_json(folder / LOCK, "it is written anew")
    except SemibodyError:
        return {}
    return {str(key): str(value) for key, value in commits.items()} if isinstance(commits, dict) else {}
