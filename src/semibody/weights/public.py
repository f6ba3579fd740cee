"""Public weights that a training starts from: which there are, where they lie, how they are read.

    semibody weights fetch sd15          # into ~/.cache/semibody/weights/sd15, as published
    read("unet", "sd15")                 # its tensors under our names

A source is one of the names in ``PUBLIC``, a repository of the Hub that is on this machine, a folder or a
file; each in its published form. Nothing is fetched without a command.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Collection, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Literal

from semibody.files import exists, is_folder
from semibody.types import Progress, SemibodyError, silent
from semibody.weights import hub, official
from semibody.weights.animatediff import MOTION_FILES, read_motion
from semibody.weights.stable_diffusion import UNET_FILES, read_unet
from semibody.weights.state import Published, read_state
from semibody.weights.wav2vec2 import read_wav2vec2

Kind = Literal["vae", "whisper", "wav2vec2", "unet", "motion", "tiny"]


@dataclass(frozen=True)
class PublicWeights:
    """A network as its authors publish it on the Hugging Face Hub."""

    kind: Kind
    repository: str
    commit: str
    """the revision that is fetched unless another is named"""
    files: tuple[str, ...]
    licence: str


PUBLIC: dict[str, PublicWeights] = {
    "sd-vae-ft-mse": PublicWeights(
        "vae", hub.VAE, "31f26fdeee1355a5c34592e401dd41e45d25a493",
        ("config.json", "diffusion_pytorch_model.safetensors"), "MIT",
    ),
    "whisper-tiny": PublicWeights(
        "whisper", "openai/whisper-tiny", "169d4a4341b33bc18d8881c4b69c2e104e1cc0af",
        ("config.json", "model.safetensors"), "Apache-2.0",
    ),
    "wav2vec2-base-960h": PublicWeights(
        "wav2vec2", "facebook/wav2vec2-base-960h", "22aad52d435eb6dbaf354bdad9b0da84ce7d6156",
        ("config.json", "model.safetensors"), "Apache-2.0",
    ),
    "sd15": PublicWeights(
        "unet", "stable-diffusion-v1-5/stable-diffusion-v1-5", "451f4fe16113bff5a5d2269ed5ad43b0592e9a14",
        ("unet/config.json", "unet/diffusion_pytorch_model.safetensors"), "CreativeML OpenRAIL-M",
    ),
    "image-variations": PublicWeights(
        "unet", "lambdalabs/sd-image-variations-diffusers", "a2a13984e57db80adcc9e3f85d568dcccb9b29fc",
        ("unet/config.json", "unet/diffusion_pytorch_model.bin"), "CreativeML OpenRAIL-M",
    ),
    "animatediff": PublicWeights(
        "motion", "guoyww/animatediff", "fdfe36afa161e51b3e9c24022b0e368d59e7345e",
        ("mm_sd_v15_v2.ckpt",), "Apache-2.0",
    ),
    "animatediff-v1": PublicWeights(
        "motion", "guoyww/animatediff", "fdfe36afa161e51b3e9c24022b0e368d59e7345e",
        ("mm_sd_v15.ckpt",), "Apache-2.0",
    ),
    "animatediff-v3": PublicWeights(
        "motion", "guoyww/animatediff", "fdfe36afa161e51b3e9c24022b0e368d59e7345e",
        ("v3_sd15_mm.ckpt",), "Apache-2.0",
    ),
    "taesd": PublicWeights(
        "tiny", "madebyollin/taesd", "614f76814bbe30edbe2e627ace1c2234c81a2c0e",
        ("config.json", "diffusion_pytorch_model.safetensors"), "MIT",
    ),
}  # fmt: skip
"""By the name that ``weights fetch`` and a recipe's ``start`` take."""


@dataclass(frozen=True)
class _Form:
    """How a kind of network is published."""

    files: tuple[str, ...]
    """places in a folder, the first that is there is read"""
    read: Callable[[Path], Published]
    example: str
    """the name to fetch"""


def _read_unchanged(path: Path) -> Published:
    """A file of a network that is diffusers' own, under its names."""
    return Published(path, read_state(path))


_FORMS: Mapping[Kind, _Form] = {
    "vae": _Form(
        tuple(f"{folder}diffusion_pytorch_model{ending}" for folder in ("", "vae/", "sd-vae-ft-mse/")
              for ending in (".safetensors", ".bin")),
        official.read_vae, "sd-vae-ft-mse",
    ),
    "whisper": _Form(
        ("model.safetensors", "pytorch_model.bin", "tiny.pt", *official.WHISPER_FILES),
        official.read_whisper, "whisper-tiny",
    ),
    "wav2vec2": _Form(("model.safetensors", "pytorch_model.bin"), read_wav2vec2, "wav2vec2-base-960h"),
    "unet": _Form(UNET_FILES, read_unet, "sd15"),
    "motion": _Form(MOTION_FILES, read_motion, "animatediff"),
    "tiny": _Form(("diffusion_pytorch_model.safetensors",), _read_unchanged, "taesd"),
}  # fmt: skip


def read(kind: Kind, source: str) -> Published:
    """A network from its public source, under our names. Raises SemibodyError when it is not there, damaged,
    or something else."""
    return _FORMS[kind].read(find(kind, source))


def find(kind: Kind, source: str) -> Path:
    """The file of a source: a name, ``owner/name`` of the Hub, a folder or a file. Raises SemibodyError."""
    form, path = _FORMS[kind], Path(source)
    if exists(path) and path.is_file():
        return path
    known = PUBLIC.get(source)
    if known is not None and known.kind != kind:
        fitting = ", ".join(name for name, one in PUBLIC.items() if one.kind == kind)
        raise SemibodyError(
            f"{source}: is no {kind} but a {known.kind}; choose {fitting}, a folder or a file"
        )
    names = [name for name, one in PUBLIC.items() if source in (name, one.repository)]
    files = known.files[::-1] if known else form.files
    repository = PUBLIC[names[0]].repository if names else source
    cached = _in_hub_cache(repository, {PUBLIC[name].commit for name in names})
    for folder in (path, *(folder_of(name) for name in names), *cached):
        found = next((folder / file for file in files if _is_weights(folder / file)), None)
        if found is not None:
            return found
    name = next((name for name in names if PUBLIC[name].kind == kind), form.example)
    if is_folder(path):
        raise SemibodyError(
            f"{source}: holds none of {', '.join(form.files[:4])}; correct the folder, or run: semibody "
            f"weights fetch {name}"
        )
    raise SemibodyError(f"{source}: is not on this machine; run: semibody weights fetch {name}")


def folder_of(name: str) -> Path:
    """The folder that public weights are fetched into."""
    return hub.home() / "weights" / name


def fetch(
    name: str, *, revision: str | None = None, folder: Path | None = None, progress: Progress = silent
) -> Path:
    """Fetch public weights as they are published, resumably; returns their folder.

    Without ``revision`` the commit in ``PUBLIC`` is fetched, or the one that the folder has already.
    Raises SemibodyError if the Hub does not answer.
    """
    one = PUBLIC[name]
    files = [hub.RemoteFile(one.repository, file, file) for file in one.files]
    pinned = {one.repository: revision or one.commit}
    return hub.fetch_files(
        name, files, folder or folder_of(name), pinned, keep=revision is None, progress=progress
    )


def _in_hub_cache(repository: str, pinned: Collection[str]) -> list[Path]:
    """Snapshots of a repository in the Hub's own cache on this machine: pinned commits, then the newest."""
    if not re.fullmatch(r"[\w.-]{1,96}/[\w.-]{1,96}", repository):
        return []
    from huggingface_hub import constants

    kept = Path(constants.HF_HUB_CACHE) / f"models--{repository.replace('/', '--')}" / "snapshots"
    found = list(kept.iterdir()) if kept.is_dir() else []
    return sorted(found, key=lambda one: (one.name in pinned, one.stat().st_mtime), reverse=True)


def _is_weights(path: Path) -> bool:
    return path.suffix != ".json" and exists(path) and path.is_file()
