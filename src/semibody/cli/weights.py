"""``semibody weights list|fetch|convert|export|verify``."""

from __future__ import annotations

import json
from collections.abc import Callable
from functools import partial
from pathlib import Path
from typing import Annotated, Any

import typer

from semibody.cli.app import app
from semibody.cli.progress import progress_bar
from semibody.types import SemibodyError

weights = typer.Typer(help="List, fetch, convert, export and verify weights.", no_args_is_help=True)
app.add_typer(weights, name="weights")

Json = Annotated[bool, typer.Option("--json", help="Print JSON.")]
Variant = Annotated[str, typer.Option(help="Of a published folder: official or accelerated.")]


def _variant(name: str):  # type: ignore[no-untyped-def]
    from semibody.weights.official import DENOISER_FILES

    if name not in DENOISER_FILES:
        raise SemibodyError(f"--variant {name} is unknown; choose {' or '.join(DENOISER_FILES)}")
    return name


@weights.command("list")
def list_(as_json: Json = False) -> None:
    """Show which weights are on this machine."""
    from semibody.weights import public
    from semibody.weights.hub import DWPOSE, SETS, find_dwpose, find_weights
    from semibody.weights.parts import PARTS, find_part

    places: dict[str, Callable[[], Path]] = {
        **{name: partial(_first, find_weights, name) for name in ("starter", *SETS)},
        DWPOSE: find_dwpose,
        **{name: partial(public.find, one.kind, name) for name, one in public.PUBLIC.items()},
        **{name: partial(find_part, name) for name in PARTS},
    }
    found = {}
    for name, place in places.items():
        try:
            found[name] = str(place())
        except SemibodyError as error:
            found[name] = f"not here ({error})"
    if as_json:
        typer.echo(json.dumps(found, indent=1))
        return
    for name, where in found.items():
        typer.echo(f"{name:<18} {where}")


def _first(find: Callable[[str], tuple[Path, str | None]], name: str) -> Path:
    return find(name)[0]


@weights.command()
def fetch(
    name: Annotated[
        str,
        typer.Argument(
            help="official, accelerated; dwpose, the detector; what training starts from: sd15, animatediff, "
            "… (`weights list`); or a part: face-landmarker, arcface."
        ),
    ],
    revision: Annotated[
        str | None, typer.Option(help="Branch, tag or commit; kept for later fetches.")
    ] = None,
    to: Annotated[Path | None, typer.Option(help="Folder to fetch into.")] = None,
) -> None:
    """Fetch published weights from the Hugging Face Hub. Run it again to continue after a stop."""
    from semibody.weights import hub, parts, public

    if name in parts.PARTS:
        typer.echo(f"{name}: at {parts.fetch_part(name)}")
        return
    names = (*hub.SETS, hub.DWPOSE, *public.PUBLIC, *parts.PARTS)
    if name not in (*names, "starter"):
        raise SemibodyError(f"{name}: unknown weights; choose {', '.join(names)}")
    fetch_set = public.fetch if name in public.PUBLIC else hub.fetch
    with progress_bar() as progress:
        folder = fetch_set(name, revision=revision, folder=to, progress=progress)
    typer.echo(f"{name}: in {folder}")


@weights.command()
def convert(
    source: Annotated[str, typer.Argument(help="A weights folder or name.")],
    target: Annotated[Path, typer.Argument(help="Folder to write: safetensors and semibody.json.")],
    precision: Annotated[str, typer.Option(help="fp16, bf16, fp32, or keep.")] = "keep",
    variant: Variant = "official",
) -> None:
    """Copy weights into one safetensors folder that needs no further settings."""
    from semibody.networks import loading
    from semibody.settings import PRESETS
    from semibody.weights.hub import find_weights

    dtype = _dtype(precision)
    folder, named = find_weights(source)
    chosen = _variant(named or variant)
    if target.resolve() == folder.resolve():
        raise SemibodyError(f"{target}: is the source folder; choose another one to write to")
    with progress_bar() as progress:
        loading.convert(
            folder,
            target,
            variant=chosen,
            dtype=dtype,
            defaults=PRESETS[chosen][1],
            progress=progress,
        )
    typer.echo(f"{target}: written ({precision})")


def _dtype(precision: str) -> Any:
    import torch

    dtypes = {"fp16": torch.float16, "bf16": torch.bfloat16, "fp32": torch.float32, "keep": None}
    if precision not in dtypes:
        raise SemibodyError(f"--precision {precision} is unknown; choose {', '.join(dtypes)}")
    return dtypes[precision]


@weights.command()
def export(
    source: Annotated[str, typer.Argument(help="A weights folder or name.")],
    target: Annotated[Path, typer.Argument(help="New folder to write: the layout of diffusers.")],
    precision: Annotated[str, typer.Option(help="fp16, bf16, fp32, or keep.")] = "keep",
) -> None:
    """Write weights as a folder that diffusers loads: model_index.json and a folder for each network."""
    from semibody import pipeline

    pipeline.export(source, target, _dtype(precision))
    typer.echo(f"{target}: written ({precision})")


@weights.command()
def verify(
    source: Annotated[str, typer.Argument(help="A weights folder or name.")],
    variant: Variant = "official",
    as_json: Json = False,
) -> None:
    """Check every tensor's name, shape and values. Exit code 2 if anything does not fit."""
    from semibody.networks import loading
    from semibody.weights.hub import find_weights
    from semibody.weights.official import find_lora

    folder, named = find_weights(source)
    report = loading.verify(folder, _variant(named or variant))
    for lora in find_lora(folder):
        typer.echo(f"note: {lora}: is a LoRA, which is not applied", err=True)
    if as_json:
        typer.echo(json.dumps(report, indent=1))
    else:
        for part, problems in report.items():
            typer.echo(f"{part:<16} {'complete' if not problems else '; '.join(problems[:20])}")
    wrong = [part for part, problems in report.items() if problems]
    if wrong:
        raise SemibodyError(f"{folder}: {', '.join(wrong)} do not fit; fetch or convert the weights again")
