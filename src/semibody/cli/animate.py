"""``semibody animate`` and ``semibody demo``."""

from __future__ import annotations

import dataclasses
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from semibody.cli.app import app
from semibody.cli.options import Built, Changes, parse_size, with_options
from semibody.cli.progress import progress_bar
from semibody.config import option
from semibody.settings import Settings, Source, Words, resolve
from semibody.types import Progress, SemibodyError

if TYPE_CHECKING:
    from semibody.animator import Animator
    from semibody.inputs import Inputs

Option = typer.Option
COMPILES = (
    "--compile: a size that was not made before waits for the compiler, on a CPU for minutes; later runs "
    "take its work from TORCHINDUCTOR_CACHE_DIR"
)


@dataclass(frozen=True, kw_only=True)
class Video:
    """Where a video is written, and how."""

    out: Path = option(Path("out.mp4"), short="-o")
    """Video to write."""
    crf: int = option(18, at_least=0, at_most=51)
    """Video quality, 0 to 51; lower is better and larger."""
    resume: bool = False
    """Keep unfinished work beside the video, and continue that of a stopped run: to the same file."""
    stream: bool = False
    """Write a video that can be played while it is made; -o - writes it to standard output."""


@app.command()
@with_options
def animate(
    portrait: Annotated[Path, typer.Argument(help="Picture of a half body (png, jpeg, webp).")],
    speech: Annotated[
        Path | None,
        typer.Argument(
            help="Recording (wav, mp3, m4a, flac, ogg) or a video with sound.", show_default="what --say says"
        ),
    ] = None,
    *,
    words: Annotated[Words, Built(Words)],
    gesture: Annotated[
        str,
        Option(
            "--gesture",
            "-g",
            help="auto (from the speech and the picture's own hands), still, a name of `gesture list`, "
            "a file or folder.",
        ),
    ] = "auto",
    video: Annotated[Video, Built(Video)],
    source: Annotated[Source, Built(Source)],
    size: Annotated[str | None, Option(help="Side, or width x height. Multiples of 8.")] = None,
    changes: Annotated[dict[str, Any], Changes(Settings)],
    dry_run: Annotated[bool, Option("--dry-run", help="Print what would be done, and do nothing.")] = False,
    quiet: Annotated[bool, Option("--quiet", "-q", help="No progress.")] = False,
) -> None:
    """Make a video of the person in PORTRAIT speaking SPEECH, or what --say says, and gesturing."""
    from semibody.animator import Animator
    from semibody.files import refuse_input
    from semibody.inputs import choose_speech, prepare
    from semibody.plan import make_plan
    from semibody.runtime import unused_gpu
    from semibody.weights.hub import default_weights
    from semibody.weights.official import find_lora, require_complete
    from semibody.weights.store import is_store

    if source.weights is None:
        source = dataclasses.replace(source, weights=source.preset or default_weights())
        _print(f"note: using the {source.weights} weights; --weights takes others")
    if size is not None:
        changes["width"], changes["height"] = parse_size(size)
    # Inputs are read and checked first, because loading the weights takes up to a minute.
    _refuse_modes(video, changes)
    sound = choose_speech(speech, words)
    if sound is None:
        raise SemibodyError(f"{portrait}: there is no speech; name a recording, or add --say TEXT")
    if dry_run:
        planned = make_plan(source, changes, portrait=portrait, speech=sound, gesture=gesture)
        _print_plan(planned.lines())
        return
    refuse_input(video.out, portrait, speech, gesture, changes.get("background"))
    found = resolve(source)
    settings = found.settings(changes)
    _require_writable(video.out, alpha=settings.alpha, stream=video.stream)
    if not is_store(found.folder):
        require_complete(found.folder, found.variant)
    inputs = prepare(portrait, sound, gesture, settings)
    for finding in inputs.findings:
        _print(f"{finding.level if finding.level != 'good' else 'note'}: {finding.line()}")
    if source.device == "auto" and (unused := unused_gpu()):
        _print(f"note: {unused}")
    with progress_bar(quiet=quiet) as progress:
        animator = Animator.load(**dataclasses.asdict(source), progress=progress)
        animator.say = lambda text: _print(f"note: {text}")
        if source.memory == "auto" and animator.memory != "full":
            animator.say(animator.why_memory)
        if source.compile:
            animator.say(COMPILES)
        for lora in find_lora(found.folder):
            _print(f"note: {lora}: is a LoRA, which is not applied; merge it into its weights")
        for notice in _notices(settings, changes, animator.origin, found.info.model.vae.factor):
            _print(f"note: {notice}")
        _write(animator, video, inputs, settings, progress)
    seconds = len(inputs) / settings.fps
    _print(f"{video.out}: {len(inputs)} frames, {settings.width} x {settings.height}, {seconds:.1f} s")


def _refuse_modes(video: Video, changes: dict[str, Any]) -> None:
    """Raise SemibodyError for ways to write that do not go together."""
    if video.resume and changes.get("seed") == -1:
        raise SemibodyError("--resume: a random seed cannot be continued; name one with --seed")
    if video.resume and video.stream:
        raise SemibodyError("--stream: what was shown cannot be continued; leave out --resume or --stream")
    if str(video.out) == "-" and not video.stream:
        raise SemibodyError("-o -: only a stream can be written to standard output; add --stream")


def _notices(settings: Settings, changes: dict[str, Any], origin: str, grid: int) -> list[str]:
    notices = []
    wanted = (changes.get("width", settings.width), changes.get("height", settings.height))
    if wanted != (settings.width, settings.height):
        notices.append(
            f"size {wanted[0]} x {wanted[1]} rounded to multiples of {grid}: "
            f"{settings.width} x {settings.height}"
        )
    published = "EchoMimicV2" in origin
    if published and "accelerated" in origin and (settings.steps > 10 or settings.guidance > 1):
        notices.append("use about 6 steps and guidance 1.0 with the accelerated weights")
    elif published and "official" in origin and settings.steps < 15 and settings.solver == "ddim":
        notices.append(
            "use --weights accelerated or --solver dpm++ for so few steps; the official weights need more"
        )
    return notices


def _print_plan(lines: list[tuple[str, str]]) -> None:
    for name, value in lines:
        typer.echo(f"{name:<18} {value}")


def _write(animator: Animator, video: Video, inputs: Inputs, settings: Settings, progress: Progress) -> None:
    """Make the video as it was asked for."""
    if video.stream:
        animator.write_stream(video.out, inputs, settings, crf=video.crf, progress=progress)
        return
    animator.write(video.out, inputs, settings, crf=video.crf, resume=video.resume, progress=progress)


def _require_writable(out: Path, *, alpha: bool = False, stream: bool = False) -> None:
    """Raise SemibodyError if ``out`` cannot be written, before minutes of computing."""
    from semibody import media
    from semibody.files import is_folder, require_writable

    if stream:
        media.require_stream_name(out, alpha=alpha)
        if str(out) != media.STANDARD_OUTPUT and not out.exists():
            require_writable(out)
        return
    if is_folder(out):
        raise SemibodyError(f"{out}: is a folder; name a video file, for example {out / 'out.mp4'}")
    media.require_video_name(out, alpha=alpha)
    require_writable(out)


def _print(text: str) -> None:
    typer.echo(text, err=True)


@app.command()
def demo(
    out: Annotated[Path, Option("--out", "-o", help="Video to write.")] = Path("out/demo.mp4"),
    who: Annotated[str, Option(help="Which person: suit, or shirt (with short sleeves).")] = "suit",
    quiet: Annotated[bool, Option("--quiet", "-q", help="No progress.")] = False,
) -> None:
    """Make a short video from inputs that come with the package, without any download."""
    from semibody.demo import make_demo

    _require_writable(out)
    with progress_bar(quiet=quiet) as progress:
        summary = make_demo(out, who, progress=progress)
    for line in summary:
        _print(line)
