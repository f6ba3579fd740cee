"""``semibody animate`` and ``semibody demo``."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from semibody.cli.app import app
from semibody.cli.progress import progress_bar
from semibody.types import SemibodyError

if TYPE_CHECKING:
    import numpy as np
    from numpy.typing import NDArray

    from semibody.inputs import Settings

Option = typer.Option


def parse_size(size: str) -> tuple[int, int]:
    """``768`` or ``512x768`` (width x height)."""
    parts = size.lower().replace("×", "x").split("x")
    if len(parts) not in (1, 2) or not all(part.isdigit() for part in parts):
        raise SemibodyError(f"--size {size}: write it as 768 or as width x height, for example 512x768")
    width = int(parts[0])
    return width, int(parts[-1])


@app.command()
def animate(
    portrait: Annotated[Path, typer.Argument(help="Picture of a half body (png, jpeg, webp).")],
    speech: Annotated[
        Path, typer.Argument(help="Recording (wav, mp3, m4a, flac, ogg) or a video with sound.")
    ],
    gesture: Annotated[
        str,
        Option("--gesture", "-g", help="auto (from the speech), a name of `gesture list`, a file or folder."),
    ] = "auto",
    out: Annotated[Path, Option("--out", "-o", help="Video to write.")] = Path("out.mp4"),
    weights: Annotated[
        str | None,
        Option(
            "--weights",
            "-w",
            help="starter, official, accelerated or a weights folder; default: published weights if they "
            "were fetched, else the starter.",
        ),
    ] = None,
    preset: Annotated[
        str | None, Option(help="official or accelerated: weights, steps and guidance that belong together.")
    ] = None,
    size: Annotated[str | None, Option(help="Side, or width x height. Multiples of 8.")] = None,
    width: Annotated[int | None, Option(help="Width in pixels.")] = None,
    height: Annotated[int | None, Option(help="Height in pixels.")] = None,
    fps: Annotated[float | None, Option(help="Frames per second.")] = None,
    length: Annotated[int | None, Option("--length", "-L", help="Most frames to make.")] = None,
    steps: Annotated[int | None, Option(help="Denoising steps.")] = None,
    guidance: Annotated[
        float | None, Option(help="1.0: none. Higher: livelier lips, harsher picture.")
    ] = None,
    solver: Annotated[str | None, Option(help="ddim, dpm++ or unipc.")] = None,
    seed: Annotated[int | None, Option(help="Same seed, same inputs, same machine: the same file.")] = None,
    context: Annotated[int | None, Option(help="Frames denoised together.")] = None,
    overlap: Annotated[int | None, Option(help="Frames that neighbouring windows share.")] = None,
    shared_noise: Annotated[
        float | None, Option(help="Share of the first noise that all frames have in common, 0 to 1.")
    ] = None,
    on_short_gesture: Annotated[
        str | None, Option(help="When the poses end first: pingpong, loop, hold or stop.")
    ] = None,
    frame: Annotated[
        str | None, Option(help="auto: frame the person as in training; keep: the whole picture.")
    ] = None,
    align: Annotated[
        str | None, Option(help="auto: fit the gesture to the person; none: take it as it is.")
    ] = None,
    personalise: Annotated[
        bool,
        Option(
            "--personalise",
            help="First tune the starter's decoder to this portrait: a minute, once for each.",
        ),
    ] = False,
    strict: Annotated[bool, Option("--strict", help="Stop at warnings about the inputs.")] = False,
    background: Annotated[str, Option(help="Colour behind transparent parts, as #rrggbb.")] = "#ffffff",
    allow_silence: Annotated[
        bool, Option("--allow-silence", help="Animate even without audible speech.")
    ] = False,
    precision: Annotated[str, Option(help="auto, fp32, bf16 or fp16.")] = "auto",
    device: Annotated[str, Option(help="auto, cpu, cuda, cuda:1, mps.")] = "auto",
    crf: Annotated[
        int, Option(help="Video quality, 0 to 51; lower is better and larger.", min=0, max=51)
    ] = 18,
    dry_run: Annotated[bool, Option("--dry-run", help="Print what would be done, and do nothing.")] = False,
    quiet: Annotated[bool, Option("--quiet", "-q", help="No progress.")] = False,
) -> None:
    """Make a video of the person in PORTRAIT speaking SPEECH and moving the hands of a gesture."""
    from semibody import media
    from semibody.animator import Animator
    from semibody.files import refuse_input
    from semibody.inputs import AUTO, prepare
    from semibody.plan import Source, make_plan, resolve_settings
    from semibody.pose.library import find_gesture
    from semibody.weights.hub import default_weights

    if weights is None:
        weights = preset or default_weights()
        _say(f"note: using the {weights} weights; --weights takes others")
    if size is not None:
        width, height = parse_size(size)
    changes: dict[str, Any] = {
        "width": width, "height": height, "fps": fps, "length": length, "steps": steps, "guidance": guidance,
        "solver": solver, "seed": seed, "window": context, "overlap": overlap, "shared_noise": shared_noise,
        "on_short_gesture": on_short_gesture, "frame": frame, "align": align,
        "strict": strict or None, "allow_silence": allow_silence or None,
    }  # fmt: skip
    # Inputs are read and checked before the weights: a mistake should not cost a minute of loading.
    picture = media.read_image(portrait, parse_colour(background))
    sound = media.read_speech(speech)
    poses = gesture if gesture == AUTO else find_gesture(gesture)
    source = Source(weights, preset, precision, device)
    if dry_run:
        planned = make_plan(source, changes, portrait=picture, speech=sound, gesture=poses)
        _print_plan(planned.lines())
        return
    refuse_input(out, portrait, speech, gesture)
    _require_writable(out)
    settings, model = resolve_settings(source, changes)
    inputs = prepare(picture, sound, poses, settings)
    for finding in inputs.findings:
        _say(f"{finding.level if finding.level != 'good' else 'note'}: {finding.line()}")
    if personalise:
        weights = _personal(picture, weights, device=device, precision=precision, quiet=quiet)
    with progress_bar(quiet=quiet) as progress:
        animator = Animator.load(
            weights, preset=preset, precision=precision, device=device, progress=progress
        )
        for notice in _notices(settings, changes, animator.origin, model.vae.factor):
            _say(f"note: {notice}")
        animator.write(out, inputs, settings, crf=crf, progress=progress)
    seconds = len(inputs) / settings.fps
    _say(f"{out}: {len(inputs)} frames, {settings.width} x {settings.height}, {seconds:.1f} s")


def _personal(picture: NDArray[np.uint8], weights: str, *, device: str, precision: str, quiet: bool) -> str:
    """The folder of weights that know the person in the picture, tuned now if they never were."""
    import dataclasses

    from semibody.plan import Source, estimate_tuning, format_seconds
    from semibody.training import personal
    from semibody.training.recipe import load_recipe
    from semibody.weights.store import is_store

    recipe = load_recipe(personal.RECIPE)
    recipe = dataclasses.replace(recipe, start=dataclasses.replace(recipe.start, weights=weights))
    folder = personal.cached(picture, recipe)
    if not is_store(folder):
        optimiser = recipe.still.optimiser
        seconds = estimate_tuning(Source(weights, None, precision, device), optimiser.steps * optimiser.batch)
        _say(
            f"note: tuning the weights to this portrait takes about {format_seconds(seconds)}, once; they "
            f"are kept in {folder}; Ctrl-C leaves nothing behind"
        )
        with progress_bar(quiet=quiet) as progress:
            personal.personal_weights(picture, weights, recipe=recipe, device=device, progress=progress)
    return str(folder)


def _notices(settings: Settings, changes: dict[str, Any], origin: str, grid: int) -> list[str]:
    said = []
    wanted = (changes["width"] or settings.width, changes["height"] or settings.height)
    if wanted != (settings.width, settings.height):
        said.append(
            f"size {wanted[0]} x {wanted[1]} rounded to multiples of {grid}: "
            f"{settings.width} x {settings.height}"
        )
    published = "EchoMimicV2" in origin
    if published and "accelerated" in origin and (settings.steps > 10 or settings.guidance > 1):
        said.append("the accelerated weights are made for about 6 steps and guidance 1.0")
    elif published and "official" in origin and settings.steps < 15 and settings.solver == "ddim":
        said.append(
            "few steps with the official weights; --weights accelerated or --solver dpm++ suit better"
        )
    return said


def _print_plan(lines: list[tuple[str, str]]) -> None:
    for name, value in lines:
        typer.echo(f"{name:<18} {value}")


def parse_colour(text: str) -> tuple[int, int, int]:
    """``#rrggbb`` to three numbers."""
    digits = text.removeprefix("#")
    try:
        if len(digits) != 6:
            raise ValueError
        red, green, blue = bytes.fromhex(digits)
    except ValueError:
        raise SemibodyError(f"--background {text}: write it as #rrggbb, for example #ffffff") from None
    return red, green, blue


def _require_writable(out: Path) -> None:
    """Find out before the minutes of computing, not after."""
    from semibody import media
    from semibody.files import require_writable

    if out.is_dir():
        raise SemibodyError(f"{out}: is a folder; name a video file, for example {out / 'out.mp4'}")
    media.require_video_name(out)
    require_writable(out)


def _say(text: str) -> None:
    typer.echo(text, err=True)


@app.command()
def demo(
    out: Annotated[Path, Option("--out", "-o", help="Video to write.")] = Path("out/demo.mp4"),
    quiet: Annotated[bool, Option("--quiet", "-q", help="No progress.")] = False,
) -> None:
    """Make a short video from inputs that come with the package, without any download."""
    from semibody.demo import make_demo

    _require_writable(out)
    with progress_bar(quiet=quiet) as progress:
        summary = make_demo(out, progress=progress)
    for line in summary:
        _say(line)
