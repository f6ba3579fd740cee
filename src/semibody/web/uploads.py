"""What others send: kept in a folder that only this user can read, within limits, gone at the end.

    with Store() as store:
        store.admit(speech=path)              # raises SemibodyError for what is too much for a shared page
        folder = store.keep({"speech": path}) # of a job: its inputs stay, whatever happens to the uploads

Files that are unreadable, hostile or absurd are refused by their readers (``media``, ``pose.files``); the
limits here are lower than theirs, because on a page many users share one machine.
"""

from __future__ import annotations

import os
import secrets
import shutil
import tempfile
import zipfile
from collections.abc import Mapping
from pathlib import Path

from semibody.files import require_file
from semibody.types import SemibodyError
from semibody.web.settings import LONGEST_SPEECH

LARGEST_UPLOAD = 200 * 2**20
"""Bytes of one file."""
LARGEST_STORE = 4 * 2**30
"""Bytes of all uploads together; beyond that the oldest go."""
LARGEST_POSES = 64 * 2**20
"""Bytes of a gesture, unpacked: ten minutes of poses at 30 fps have 55 MB."""
VIDEOS = (".mp4", ".mov", ".webm", ".mkv", ".avi", ".m4v")
"""Endings of a gesture that is taken from a video."""
_COUNT_RATE = 4000
"""Samples a second at which a recording is measured."""


class Store:
    """The page's folder, 0700: ``uploads``, where Gradio puts what comes in, and a folder for each job."""

    def __init__(self, *, longest_speech: float = LONGEST_SPEECH) -> None:
        self.longest_speech = longest_speech
        self._folder = tempfile.TemporaryDirectory(prefix="semibody-web-")  # made with mode 0700
        self.path = Path(self._folder.name)
        self.uploads = self.path / "uploads"
        self.uploads.mkdir(mode=0o700)

    def __enter__(self) -> Store:
        return self

    def __exit__(self, *exception: object) -> None:
        self._folder.cleanup()

    def admit(self, *, speech: Path | None = None, gesture: Path | None = None) -> None:
        """Raise SemibodyError if a recording is too long or a gesture unpacks to too much."""
        if speech is not None:
            self._require_short(speech)
        if gesture is not None and gesture.suffix.lower() not in VIDEOS:
            require_small(gesture)

    def _require_short(self, speech: Path) -> None:
        from semibody import media

        limit, samples = self.longest_speech, 0
        for block in media.Sound.open(speech).blocks(_COUNT_RATE):
            samples += len(block)
            if samples > limit * _COUNT_RATE:
                raise SemibodyError(
                    f"{speech}: is longer than the {limit / 60:g} minutes that this page takes; cut it"
                )

    def keep(self, inputs: Mapping[str, Path]) -> tuple[Path, dict[str, Path]]:
        """A new folder for a job, and in it the inputs by name, with their endings."""
        folder = self.path / f"job-{secrets.token_hex(8)}"
        folder.mkdir(mode=0o700)
        kept = {}
        for name, path in inputs.items():
            require_file(path, "a file")
            kept[name] = folder / f"{name}{path.suffix[:10].lower()}"
            try:
                os.link(path, kept[name])
            except OSError:  # another file system
                shutil.copyfile(path, kept[name])
        return folder, kept

    def publish(self, video: Path) -> Path:
        """A name for a clip among the uploads, where Gradio's clients may fetch it from."""
        place = self.uploads / secrets.token_hex(16)
        place.mkdir(mode=0o700)
        published = place / f"semibody{video.suffix}"
        os.link(video, published)
        return published

    def discard(self, folder: Path) -> None:
        """Remove a job's folder."""
        if folder.parent == self.path:
            shutil.rmtree(folder, ignore_errors=True)

    def sweep(self, largest: int = LARGEST_STORE) -> None:
        """Remove the oldest uploads beyond ``largest`` bytes. Jobs keep their inputs elsewhere."""
        found = [(path, path.stat()) for path in self.uploads.rglob("*") if path.is_file()]
        room = largest
        for path, about in sorted(found, key=lambda one: -one[1].st_mtime):
            room -= about.st_size
            if room < 0:
                path.unlink(missing_ok=True)


def require_small(gesture: Path) -> None:
    """Raise SemibodyError if a file of poses is larger than ``LARGEST_POSES``, an ``.npz`` unpacked."""
    size = gesture.stat().st_size
    if zipfile.is_zipfile(gesture):
        try:
            with zipfile.ZipFile(gesture) as archive:
                size = sum(member.file_size for member in archive.infolist())
        except (zipfile.BadZipFile, ValueError, NotImplementedError):
            return  # its reader says what is wrong with it
    if size > LARGEST_POSES:
        raise SemibodyError(
            f"{gesture}: holds more than {LARGEST_POSES // 2**20} MB of poses; give a shorter gesture"
        )
