"""Where weights' defaults, presets and the user's changes meet: who wins, and what is refused."""

from __future__ import annotations

import dataclasses
from pathlib import Path

import pytest

import made
from semibody import plan
from semibody.animator import Animator
from semibody.conditioning.clip import cache_bytes
from semibody.networks.hints import Hints
from semibody.networks.loading import save_model
from semibody.networks.model import ModelConfig
from semibody.plan import make_plan
from semibody.settings import PRESETS, Settings, Source, check, resolve
from semibody.types import SemibodyError


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Weights whose own defaults are 64 x 64 pixels, 3 steps and overlap 1."""
    path = tmp_path_factory.mktemp("weights")
    animator = made.animator()
    defaults = {"width": 64, "height": 64, "steps": 3, "overlap": 1}
    save_model(path, animator.model, {**animator.info(), "defaults": defaults})
    return path


def test_changes_go_over_the_folder_and_that_over_the_preset(folder: Path) -> None:
    found = resolve(Source(weights=str(folder), preset="accelerated"))
    assert found.variant == "accelerated"
    assert (found.defaults.steps, found.defaults.guidance) == (3, 1.0)
    chosen = found.settings({"steps": 5, "fps": None, "overlap": 2})
    assert (chosen.width, chosen.steps, chosen.guidance) == (64, 5, 1.0)
    assert (chosen.fps, chosen.overlap, chosen.window) == (24.0, 2, 12)


def test_plan_and_animator_agree(folder: Path) -> None:
    changes = {"steps": 2, "width": 67, "frame": "keep", "align": "none"}
    animator = Animator.load(folder, preset="accelerated", precision="fp32", device="cpu")
    source = Source(weights=str(folder), preset="accelerated", precision="fp32", device="cpu")
    planned = make_plan(
        source, changes, portrait=made.picture(), speech=made.tone(0.3), gesture=made.gesture()
    )
    assert planned.settings == animator.settings(**changes)
    assert planned.settings.width == 64


def test_published_weights_are_known_without_their_files(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("SEMIBODY_HOME", str(tmp_path))
    for name, (variant, preset) in PRESETS.items():
        with pytest.raises(SemibodyError, match="fetch"):
            resolve(Source(weights=name))
        found = resolve(Source(weights=name), need_files=False)
        assert (found.folder.exists(), found.variant) == (False, variant)
        assert found.settings({}) == dataclasses.replace(Settings(), **preset)


@pytest.mark.parametrize("weights", ["nothing/here", "starter"])
def test_an_unknown_preset_or_folder_is_refused(weights: str) -> None:
    with pytest.raises(SemibodyError, match=r"nothing/here|--preset other"):
        resolve(Source(weights=weights, preset="other"), need_files=False)


def test_defaults_of_a_folder_that_are_none_are_refused(tmp_path: Path) -> None:
    save_model(tmp_path, made.animator().model, {"defaults": {"stepz": 3}})
    with pytest.raises(SemibodyError, match=f"{tmp_path}.*did you mean steps"):
        resolve(Source(weights=str(tmp_path)))


@pytest.mark.parametrize(
    ("wrong", "says"),
    [
        ({"width": 60}, "--size 60x768 is too small; use at least 64"),
        ({"height": 8}, "--size 768x8"),
        ({"steps": 0}, "--steps 0"),
        ({"steps": 1001}, "--steps 1001"),
        ({"fps": 0.5}, "--fps 0.5"),
        ({"fps": float("nan")}, "--fps nan"),
        ({"guidance": -0.5}, "--guidance -0.5"),
        ({"guidance": 30.5}, "--guidance 30.5"),
        ({"cache": 0}, "--cache 0"),
        ({"guidance_start": -0.1}, "--guidance-start -0.1"),
        ({"guidance_start": 0.5, "guidance_stop": 0.5}, "--guidance-start 0.5 .* --guidance-stop 0.5"),
        ({"guidance_stop": float("nan")}, "--guidance-stop nan"),
        ({"length": 0}, "--length 0"),
        ({"overlap": 12}, "--overlap 12 .* --context 12"),
        ({"overlap": -1}, "--overlap -1"),
        ({"window": 0, "overlap": 0}, "--context 0"),
        ({"window": 33}, "--context 33 is more than these weights allow"),
        ({"shared_noise": 1.1}, "--shared-noise 1.1"),
        ({"seed": -2}, "--seed -2"),
        ({"seed": 2**63}, "--seed"),
    ],
)  # fmt: skip
def test_what_cannot_work_names_its_option(wrong: dict[str, float], says: str) -> None:
    with pytest.raises(SemibodyError, match=says):
        check(dataclasses.replace(Settings(), **wrong), made.small_config())  # type: ignore[arg-type]


def test_settings_are_fitted_to_the_model() -> None:
    model = made.small_config()
    assert model.vae.factor == 8
    fitted = check(Settings(width=101, height=500), model)
    assert (fitted.width, fitted.height, fitted.find_person) == (104, 496, False)
    assert check(Settings(), dataclasses.replace(model, hints=Hints(pose="own"))).find_person
    unlimited = dataclasses.replace(model, unet=dataclasses.replace(model.unet, motion=False))
    assert check(Settings(window=200), unlimited).window == 200


def test_the_plan_knows_what_near_modes_save_and_what_reuse_keeps() -> None:
    model = ModelConfig()
    exact = Settings(width=256, height=256, steps=30, guidance=2.5)

    def planned(frames: int = 24, **changes: object) -> tuple[float, float]:
        changed = dataclasses.replace(exact, **changes)  # type: ignore[arg-type]
        return plan.estimate_work(model, changed, frames, bytes_per_number=2)

    (work, memory), (less, more) = planned(), planned(cache=3)
    assert 0.4 < less / work < 0.6
    # 3 windows of 12 frames, two halves, 320 channels of 32 x 32 cells in bfloat16.
    assert more - memory == pytest.approx(3 * 12 * 2 * 320 * 32 * 32 * 2)
    assert planned(guidance_start=0.25, guidance_stop=0.75)[0] / work == pytest.approx(0.75, abs=0.03)
    assert planned(guidance=1.0, cache=3)[1] < more


def test_the_plan_knows_the_length_and_the_start() -> None:
    """Four minutes of the starter: latents of 64 x 64 x 4 in float32 a frame, once; and no less
    than the pages of the process itself. Tuning trains a decoder on crops, which is minutes, not an hour."""
    model, settings = plan_model()
    short, long = (plan.estimate_work(model, settings, n, bytes_per_number=2)[1] for n in (240, 5760))
    latents = 5520 * 64 * 64 * 4 * 4
    cached = 2 * cache_bytes(settings.steps)
    assert latents <= long - short < 1.05 * latents + cached
    assert short > 0.9 * 2**30
    assert plan.finishing_seconds(model, settings, 240) > 10, (
        "most of a clip's time with the starter on a CPU"
    )


def plan_model() -> tuple[ModelConfig, Settings]:
    found = resolve(Source(weights="starter"))
    return found.info.model, found.settings({})


def test_short_clips_take_longer_than_their_networks(folder: Path) -> None:
    source = Source(weights=str(folder), precision="fp32", device="cpu")
    changes = {"frame": "keep", "align": "none"}
    planned = make_plan(
        source, changes, portrait=made.picture(), speech=made.tone(0.3), gesture=made.gesture()
    )
    assert planned.seconds > plan.START_SECONDS


def test_a_seed_of_minus_one_is_random_and_recorded(folder: Path) -> None:
    source = Source(weights=str(folder), precision="fp32", device="cpu")
    seeds = {resolve(source).settings({"seed": -1}).seed for _ in range(4)}
    assert len(seeds) > 1
    assert min(seeds) >= 0
    animator = Animator.load(folder, precision="fp32", device="cpu")
    chosen = animator.settings(seed=-1)
    assert animator.metadata(chosen)["settings"]["seed"] == chosen.seed >= 0
