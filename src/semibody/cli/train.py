"""``semibody train``: from a recipe and data to trained weights."""

from __future__ import annotations

import json
import os
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from semibody.cli.app import app
from semibody.cli.options import Built, with_options
from semibody.cli.progress import progress_bar
from semibody.config import option

if TYPE_CHECKING:
    pass


@dataclass(frozen=True, kw_only=True)
class Places:
    """Where the files of a training lie."""

    out: Path | None = option(None, metavar="<path>")
    """Folder of the training: checkpoints, logs, weights."""
    data: Path | None = option(None, metavar="<path>")
    """Manifest, or the folder that holds it."""
    packed: Path | None = option(None, metavar="<path>")
    """Folder of packed clips, to share them between trainings."""
    latents: Path | None = option(None, metavar="<path>")
    """Folder of their latents and audio rows, to share them too; default: in --out."""


@app.command()
@with_options
def train(
    recipe: Annotated[str, typer.Argument(help="official, starter, finetune, tiny, or a TOML file.")],
    *,
    places: Annotated[Places, Built(Places)],
    stage: Annotated[
        list[str] | None,
        typer.Option(help="Only this stage of the recipe; --plan lists them (repeatable)."),
    ] = None,
    set_: Annotated[
        list[str] | None,
        typer.Option("--set", help="Setting: still.optimiser.lr=1e-3 (repeatable)."),
    ] = None,
    resume: Annotated[bool, typer.Option("--resume", help="Continue the training in --out.")] = False,
    max_minutes: Annotated[
        float | None, typer.Option(min=0, help="Stop cleanly after so many minutes; --resume continues.")
    ] = None,
    device: Annotated[str, typer.Option(help="auto, cpu, cuda, cuda:1, mps.")] = "auto",
    plan: Annotated[
        bool,
        typer.Option(
            "--plan",
            help="Only draw the schedule (to DIR/plan.png), and print it with what it starts from and what "
            "memory, storage and hours it takes.",
        ),
    ] = False,
) -> None:
    """Train the networks of a recipe, stage by stage; run it again with --resume to continue."""
    from semibody.training.recipe import load_recipe
    from semibody.types import SemibodyError

    changes = list(set_ or [])
    out, data, packed = places.out, places.data, places.packed
    if places.latents is not None:
        changes.append(f"data.latents={json.dumps(str(places.latents))}")
    if stage:
        changes.append(f"stages={list(stage)!r}".replace("'", '"'))
    chosen = load_recipe(recipe, changes)
    if plan:
        from semibody.training.estimate import estimate_lines
        from semibody.training.report import plan_lines, plot_plan, start_lines

        picture = (out or Path()) / "plan.png"
        plot_plan(chosen, picture)
        for name, text in (*plan_lines(chosen), *start_lines(chosen)):
            typer.echo(f"{name:<12} {text}")
        for name, text in estimate_lines(chosen, data, packed):
            typer.echo(f"{name:<12} {text}")
        typer.echo(f"{picture}: drawn")
        return
    if out is None:
        raise SemibodyError("give --out DIR, where checkpoints, logs and weights go")
    # Of several processes started by accelerate or torchrun, only the first one prints.
    first = os.environ.get("RANK", "0") == "0"
    with progress_bar(quiet=not first) as progress:
        if data is None and packed is None:
            if chosen.name != "tiny":
                raise SemibodyError(f"give --data MANIFEST; only tiny makes its own data, not {chosen.name}")
            from semibody.training.drawn import make_drawn_clips

            packed = out / "packed"
            make_drawn_clips(packed, chosen)
        from semibody.training.trainer import train as run

        done = run(
            chosen,
            out,
            data=data,
            packed=packed,
            resume=resume,
            max_minutes=max_minutes,
            device=device,
            progress=progress,
        )
    if not first:
        return
    if (out / "start.json").is_file():
        typer.echo(
            f"{out / 'start.json'}: what the networks took from {', '.join(chosen.start.public.values())}"
        )
    if done.weights is not None:
        typer.echo(f"{done.weights}: weights; use them with: semibody animate … --weights {done.weights}")
    if not done.finished:
        typer.echo(f"stopped in stage {done.stage}; run the same command with --resume to continue")
    typer.echo(f"{out / 'report.html'}: curves and pictures")


@app.command("model-card")
def model_card(
    run: Annotated[Path, typer.Argument(help="Folder of a training.")],
    weights: Annotated[Path, typer.Option(help="The weights folder that is described.")],
    packed: Annotated[Path | None, typer.Option(help="The packed clips it was trained on.")] = None,
    bench: Annotated[Path | None, typer.Option(help="results.json of bench-quality.")] = None,
    notes: Annotated[Path | None, typer.Option(help="Markdown for the section on limits.")] = None,
    pictures: Annotated[
        Path | None, typer.Option(help="Beginning of the pictures' names, for example docs/starter.")
    ] = None,
    out: Annotated[
        Path | None, typer.Option("--out", "-o", help="Default: MODEL_CARD.md in the weights folder.")
    ] = None,
) -> None:
    """Describe a trained model from its files: data, budget, size, numbers, limits."""
    from semibody.training.card import write_card

    card = out or weights / "MODEL_CARD.md"
    for path in write_card(
        run, weights=weights, out=card, packed=packed, bench=bench, notes=notes, pictures=pictures
    ):
        typer.echo(f"{path}: written")
