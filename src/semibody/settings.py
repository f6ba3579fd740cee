"""How a clip is made: where weights' defaults, presets and the user's changes meet.

    source = Source(weights="starter")
    settings = resolve(source).settings({"seed": 7, "steps": 4})   # checked, ready for inputs.prepare

A field of ``Settings`` is at once an option of ``semibody animate`` (its docstring is the help), a key of a
job of ``semibody batch`` and a control of the page in the browser. Nothing here imports torch, so that the
command line can ask for the fields at no cost.
"""

from __future__ import annotations

import dataclasses
import re
import secrets
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal

from semibody import config
from semibody.config import option
from semibody.pose.timing import OnShort
from semibody.types import SemibodyError, Solver

if TYPE_CHECKING:
    from semibody.networks.loading import WeightsInfo
    from semibody.networks.model import ModelConfig
    from semibody.weights.official import Variant

AUTO = "auto"
"""As a gesture: planned from the speech, from the portrait's own hands where they were found."""
STILL = "still"
"""As a gesture: hands stay as they are in the portrait."""
COLOUR = re.compile("#[0-9a-fA-F]{6}")
"""How ``Settings.background`` writes a colour."""

PRESETS: dict[str, tuple[Variant, dict[str, Any]]] = {
    "official": ("official", {"steps": 30, "guidance": 2.5}),
    "accelerated": ("accelerated", {"steps": 6, "guidance": 1.0}),
}
"""One switch for weights, steps and guidance, which only work together."""


LARGEST_SIDE = 4096
"""Pixels of a clip's width or height."""


@dataclass(frozen=True, kw_only=True)
class Settings:
    """How a clip is made. Weights have defaults of their own; the user's settings override them."""

    width: int = 768
    """Width in pixels."""
    height: int = 768
    """Height in pixels."""
    fps: float = 24.0
    """Frames per second."""
    steps: int = 30
    """Denoising steps."""
    guidance: float = 2.5
    """1.0: none, twice as fast. Up to 3: livelier lips, harsher picture."""
    guidance_start: float = 0.0
    """Guide only after this share of the steps, 0 to 1; the steps before take half the time."""
    guidance_stop: float = 1.0
    """Guide only up to this share of the steps, 0 to 1; the steps after it take half the time."""
    cache: int = option(1, metavar="N")
    """Compute the deep layers in every N-th step only, and reuse them in between; 1: in every step. Faster,
    and close to the exact video: docs/performance.md says how close."""
    decoder: Literal["own", "tiny"] = "own"
    """tiny: decode with taesd, in an eighteenth of the work, a little softer; for weights with the latents of
    Stable Diffusion, after: semibody weights fetch taesd."""
    solver: Solver = "ddim"
    """ddim as published; dpm++ or unipc need fewer steps."""
    seed: int = 3407
    """Same seed, same inputs, same machine, same number of threads: the same file. -1: another one each time;
    the video's metadata tell which."""
    shared_noise: float = 0.0
    """Share of the first noise that all frames have in common: 0 as published, 1 flickers least."""
    length: int | None = option(None, short="-L")
    """Most frames to make; without it as many as the speech is long."""
    window: int = option(12, name="--context")
    """Frames denoised together."""
    overlap: int = 3
    """Frames that neighbouring windows share."""
    shift: int = 3
    """Frames by which windows move on after every step."""
    on_short_gesture: OnShort = "pingpong"
    """When the poses end before the speech: pingpong, loop, hold or stop."""
    gesture_fps: float | None = None
    """Poses a second of a gesture from a file, where the file does not say it or is wrong."""
    gesture_canvas: str | None = None
    """Size of the picture its poses were found in, as 1280x720, where the file does not say it."""
    person: int | None = None
    """Whom of several people in it to take, counted from 0; without it whoever is seen best."""
    frame: Literal["auto", "keep"] = "auto"
    """auto: frame the person as in training; keep: all of the picture, continued where needed."""
    align: Literal["auto", "none"] = "auto"
    """auto: fit the gesture's body to the portrait's; none: take its coordinates as they are."""
    liveliness: float = 1.0
    """How far and how often planned hands move: 0 not at all, 1 as a calm speaker, up to 3."""
    arms: Literal["auto", "networks"] = "auto"
    """auto: arms that stay near are the portrait's own, moved; networks: these draw all arms."""
    still_head: bool = False
    """Keep head, eyes and shoulders as they are in the portrait; else they move as a speaker's do."""
    anchor: bool = False
    """Let poses from a file, too, begin and end at the portrait's own; the library's always do."""
    find_person: bool = False
    """Detect the person in the portrait even where neither framing nor alignment asks for it; always on for
    models that are conditioned on the portrait's own pose."""
    background: str = "#ffffff"
    """What stands behind transparent parts of the portrait: a colour as #rrggbb, or a picture."""
    alpha: bool = False
    """Keep the portrait's transparency in the video, which is then a .mov (ProRes 4444) or .webm (VP9)."""
    strict: bool = False
    """Stop at warnings about the inputs."""
    allow_silence: bool = False
    """Animate even if the recording is silent."""

    @property
    def looks_for_person(self) -> bool:
        """Whether something asks for the person in the portrait."""
        return self.find_person or self.frame != "keep" or self.align != "none"


DENOISING = (
    "steps", "guidance", "guidance_start", "guidance_stop", "cache", "decoder", "solver", "shared_noise",
    "window", "overlap", "shift",
)  # fmt: skip
"""The settings that reading and fitting the inputs does not depend on."""


@dataclass(frozen=True, kw_only=True)
class Source:
    """Which weights, and how to run them; as for ``Animator.load``."""

    weights: str | None = option(None, short="-w")
    """starter, official, accelerated or a weights folder; without it published weights if they were fetched,
    else the starter."""
    preset: str | None = None
    """official or accelerated: weights, steps and guidance that belong together."""
    precision: str = "auto"
    """auto, fp32, bf16 or fp16; on NVIDIA GPUs int8 or fp8, which are close to them (needs torchao)."""
    device: str = "auto"
    """auto, cpu, cuda, cuda:1, mps."""
    devices: str | None = option(None, metavar="DEVICE,DEVICE")
    """Several that share a clip's windows, for example cuda:0,cuda:1; instead of --device."""
    memory: str = "auto"
    """auto: the first that fits; full; low: large networks take turns; lowest: their blocks do, too. All make
    the same clip."""
    compile: bool = False
    """Compile the denoiser's blocks, for GPUs: minutes before the first clip of a size, later seconds.
    On CPUs nothing was gained."""


@dataclass(frozen=True, kw_only=True)
class Words:
    """What is said where there is no recording, and by whom; as for ``voices.speaking.say``."""

    say: str | None = None
    """Text to speak, instead of a recording, with a voice of this machine."""
    voice: str | None = None
    """Who says it: en-us, de, en-gb+f3 …; `semibody say --voices` lists them. Default: an English voice."""


@dataclass(frozen=True, kw_only=True)
class Resolved:
    """A source, resolved before any tensor is read."""

    folder: Path
    """where the weights are, or would be once they are fetched"""
    variant: Variant
    info: WeightsInfo
    """sizes of the networks, noise schedule, origin"""
    defaults: Settings
    """of these weights: the dataclass's own, the preset's over them, the folder's over both"""

    def settings(self, changes: Mapping[str, Any]) -> Settings:
        """The defaults with the user's ``changes``, checked. Raises SemibodyError."""
        return change(self.defaults, changes, self.info.model)


def resolve(source: Source, *, need_files: bool = True) -> Resolved:
    """Find the weights of a source and their default settings.

    Without ``need_files`` published weights need not be on this machine, since their sizes are known.
    Raises SemibodyError for weights that cannot be found, an unknown preset, and defaults that are none.
    """
    from semibody.networks.loading import WeightsInfo, describe
    from semibody.weights import hub

    name, here = source.weights or source.preset or hub.default_weights(), True
    try:
        folder, named = hub.find_weights(name)
    except SemibodyError:
        if need_files or name not in PRESETS:
            raise
        folder, named, here = hub.home() / "weights" / hub.FOLDER, name, False
    preset = source.preset or named
    if preset is not None and preset not in PRESETS:
        raise SemibodyError(f"--preset {preset} is unknown; choose {' or '.join(PRESETS)}")
    variant = PRESETS[preset or "official"][0]
    info = describe(folder, variant) if here else WeightsInfo()
    values = {**(PRESETS[preset][1] if preset else {}), **info.defaults}
    defaults = config.build(Settings, values, str(folder))
    return Resolved(folder=folder, variant=variant, info=info, defaults=defaults)


def change(defaults: Settings, changes: Mapping[str, Any], model: ModelConfig) -> Settings:
    """``defaults`` with the user's ``changes`` (None: not changed), checked. Raises SemibodyError."""
    given = {key: value for key, value in changes.items() if value is not None}
    return check(config.build(Settings, {**dataclasses.asdict(defaults), **given}), model)


def check(settings: Settings, model: ModelConfig) -> Settings:
    """Raise SemibodyError for settings that cannot work together; fit them to the model.

    A seed of -1 becomes a random one. The size is rounded to the model's latent cells, and the person is
    detected for a model that needs the own pose.
    """
    s, grid, smallest = settings, model.vae.factor, 8 * model.vae.factor
    has_latents_of_sd = model.restorer is None and model.vae.is_of_stable_diffusion
    longest = model.unet.motion_frames if model.unet.motion else s.window
    faults = [
        (min(s.width, s.height) < smallest,
         f"--size {s.width}x{s.height} is too small; use at least {smallest}"),
        (max(s.width, s.height) > LARGEST_SIDE,
         f"--size {s.width}x{s.height} is too large; use at most {LARGEST_SIDE}"),
        (not 1 <= s.steps <= 1000, f"--steps {s.steps} must be from 1 to 1000"),
        (not 1 <= s.fps <= 120, f"--fps {s.fps:g} must be from 1 to 120"),
        (not 0 <= s.guidance <= 30, f"--guidance {s.guidance:g} must be from 0 to 30"),
        (not 0 <= s.guidance_start < s.guidance_stop <= 1,
         f"--guidance-start {s.guidance_start:g} must be below --guidance-stop {s.guidance_stop:g}, and both "
         "from 0 to 1"),
        (not 1 <= s.cache <= 100, f"--cache {s.cache} must be from 1 to 100"),
        (s.decoder == "tiny" and not has_latents_of_sd,
         "--decoder tiny is for latents of Stable Diffusion, and these weights have others; leave it out"),
        (s.length is not None and s.length < 1, f"--length {s.length} must be at least 1 frame"),
        (not 0 <= s.overlap < s.window,
         f"--overlap {s.overlap} must be at least 0 and smaller than --context {s.window}"),
        (s.window > longest, f"--context {s.window} is more than these weights allow ({longest})"),
        (not 0 <= s.shared_noise <= 1, f"--shared-noise {s.shared_noise:g} must be from 0 to 1"),
        (not 0 <= s.liveliness <= 3, f"--liveliness {s.liveliness:g} must be from 0 to 3"),
        (s.alpha and s.background != Settings.background,
         "--background does not show with --alpha; leave out one of them"),
        (not -1 <= s.seed < 2**63, f"--seed {s.seed} must be a positive whole number, or -1: random"),
    ]  # fmt: skip
    for found, text in faults:
        if found:
            raise SemibodyError(text)
    return dataclasses.replace(
        settings,
        width=_to_grid(settings.width, grid),
        height=_to_grid(settings.height, grid),
        seed=secrets.randbelow(2**31) if settings.seed == -1 else settings.seed,
        find_person=settings.find_person or model.hints.own_pose,
    )


def _to_grid(length: int, grid: int) -> int:
    return max(grid, round(length / grid) * grid)
