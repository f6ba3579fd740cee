"""PhD loss: each term alone moves weights the right way, is zero outside its phase, and stays finite."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import cv2
import numpy as np
import pytest
import torch
from numpy.typing import NDArray
from torch import Tensor

from semibody.media import read_image, resize_image
from semibody.training.drawn import draw_clip
from semibody.training.keypoints import JOINTS, KeypointNetwork, blobs, find, heat_map_loss
from semibody.training.losses import (
    ImageFeatures,
    LossSettings,
    change_loss,
    edge_map,
    gradient_difference,
    latent_loss,
    perceptual_network,
    phase_of,
    phase_terms,
    ssim,
)

ONLY = {
    "pose": LossSettings(pose=1, detail=0, low=0),
    "detail": LossSettings(pose=0, detail=1, low=0),
    "low": LossSettings(pose=0, detail=0, low=1),
}
INSIDE = {"pose": 950, "detail": 600, "low": 100}


@pytest.fixture(scope="module")
def heat_maps() -> Callable[[Tensor], Tensor]:
    torch.manual_seed(0)
    network = KeypointNetwork(8).requires_grad_(False)
    network.head.weight.mul_(8)  # an untrained head predicts no joints
    return network.heat_maps


@pytest.fixture(scope="module")
def perceptual() -> ImageFeatures:
    pytest.importorskip("efficientnet_lite_pytorch")
    return ImageFeatures()


@pytest.fixture(scope="module")
def truth() -> Tensor:
    pictures = torch.from_numpy(draw_clip(0, 0, 2, 64, 24.0)[0]).permute(0, 3, 1, 2)
    return pictures.float() / 127.5 - 1


@pytest.fixture(scope="module")
def portraits() -> list[NDArray[np.uint8]]:
    folder = Path(__file__).parents[3] / "shared" / "inputs" / "portraits"
    if not folder.is_dir():
        pytest.skip(f"{folder} is not there")
    return [resize_image(read_image(path), 768, 768) for path in sorted(folder.glob("*.png"))[:4]]


def test_boundaries_are_those_of_the_paper() -> None:
    settings = LossSettings()
    phases = [phase_of(t, settings) for t in (0, 299, 300, 899, 900, 999)]
    assert phases == ["quality", "quality", "detail", "detail", "pose", "pose"]
    shares = [sum(phase_of(t, settings) == p for t in range(1000)) for p in ("pose", "detail", "quality")]
    assert shares == [100, 600, 300]


@pytest.mark.parametrize("term", ONLY)
def test_each_term_alone_moves_the_weights_the_right_way(
    term: str, truth: Tensor, heat_maps: Callable[[Tensor], Tensor], perceptual: ImageFeatures
) -> None:
    """The weight fades the truth in; the term alone must turn it up."""
    grey = truth.mean(dim=(2, 3), keepdim=True).expand_as(truth)
    weight = torch.nn.Parameter(torch.tensor(0.4))
    optimiser = torch.optim.Adam([weight], lr=0.03)
    t = torch.full((2,), INSIDE[term])
    seen = []
    for _ in range(12):
        estimate = grey + weight * (truth - grey)
        found = phase_terms(estimate, truth, t, ONLY[term], heat_maps=heat_maps, perceptual=perceptual)
        assert set(found) == {term}
        optimiser.zero_grad()
        found[term].mean().backward()
        optimiser.step()
        seen.append(found[term].mean().item())
    assert weight > 0.6
    assert seen[-1] < 0.8 * seen[0]
    exact = phase_terms(truth, truth, t, ONLY[term], heat_maps=heat_maps, perceptual=perceptual)
    assert float(exact[term].sum()) == pytest.approx(0, abs=1e-6)


@pytest.mark.parametrize("term", ONLY)
def test_a_term_is_zero_outside_its_phase(
    term: str, truth: Tensor, heat_maps: Callable[[Tensor], Tensor], perceptual: ImageFeatures
) -> None:
    for other, t in INSIDE.items():
        estimate = torch.zeros_like(truth, requires_grad=True)
        rows = torch.tensor([t, t])
        value = phase_terms(estimate, truth, rows, ONLY[term], heat_maps=heat_maps, perceptual=perceptual)[
            term
        ]
        assert bool((value > 0).all()) == (other == term)
        if other != term:
            assert float(value.sum()) == 0


def test_each_sample_gets_the_term_of_its_own_timestep(
    truth: Tensor, heat_maps: Callable[[Tensor], Tensor], perceptual: ImageFeatures
) -> None:
    t = torch.tensor([950, 100])
    found = phase_terms(
        torch.zeros_like(truth), truth, t, LossSettings(pixel=1), heat_maps=heat_maps, perceptual=perceptual
    )
    assert [bool(v > 0) for v in found["pose"]] == [True, False]
    assert [bool(v > 0) for v in found["low"]] == [False, True]
    assert float(found["detail"].sum()) == 0
    assert bool((found["pixel"] > 0).all())


@pytest.mark.parametrize("term", ONLY)
def test_gradients_are_finite_in_bf16(
    term: str, truth: Tensor, heat_maps: Callable[[Tensor], Tensor], perceptual: ImageFeatures
) -> None:
    for estimate in (torch.zeros_like(truth), truth.clone(), torch.full_like(truth, 40.0)):
        low = estimate.bfloat16().requires_grad_()
        t = torch.full((2,), INSIDE[term])
        with torch.autocast("cpu", torch.bfloat16):
            found = phase_terms(
                low, truth.bfloat16(), t, ONLY[term], heat_maps=heat_maps, perceptual=perceptual
            )
        found[term].sum().backward()
        assert low.grad is not None
        assert bool(torch.isfinite(low.grad).all())


def test_edges_are_found_and_soft() -> None:
    picture = torch.full((1, 3, 16, 16), -1.0)
    picture[..., 8:] = 1.0
    edges = edge_map(picture, 0.1, 0.03)[0, 0]
    assert edges[8, 7] > 0.9
    assert edges[8, 2] < 0.1


def test_most_of_what_canny_calls_an_edge_is_one(portraits: list[NDArray[np.uint8]]) -> None:
    """At 768²; the map is 0.5 and more there, and near 0 away from edges."""
    settings = LossSettings()
    on, off = [], []
    for picture in portraits:
        found = cv2.Canny(cv2.cvtColor(picture, cv2.COLOR_RGB2GRAY), 100, 200) > 0
        away = cv2.dilate(found.astype(np.uint8), np.ones((7, 7), np.uint8)) == 0
        pixels = torch.from_numpy(picture.copy()).permute(2, 0, 1)[None].float() / 127.5 - 1
        soft = edge_map(pixels, settings.detail_threshold, settings.detail_softness)[0, 0].numpy()
        on.append(soft[found])
        off.append(soft[away])
    assert (np.concatenate(on) > 0.5).mean() > 0.9
    assert np.concatenate(off).mean() < 0.08


def test_padding_does_not_count() -> None:
    predicted, target = torch.zeros(1, 1, 4, 8, 8), torch.zeros(1, 1, 4, 8, 8)
    target[..., 4:] = 9.0
    weight = torch.ones(1, 1, 8, 8)
    weight[..., 4:] = 0
    assert float(latent_loss(predicted, target, weight)) == 0
    assert float(latent_loss(predicted, target, torch.ones(1, 1, 8, 8))) == pytest.approx(40.5)


def test_autoencoder_terms_prefer_the_truth(truth: Tensor) -> None:
    weight = torch.ones(2, 1, 64, 64)
    blurred = torch.nn.functional.avg_pool2d(truth, 5, 1, 2)
    assert float(ssim(truth, truth).min()) == pytest.approx(1, abs=1e-4)
    assert float(ssim(blurred, truth).mean()) < 0.98
    assert float(gradient_difference(truth, truth, weight)) == 0
    assert float(gradient_difference(blurred, truth, weight)) > 0.005


def test_the_stand_in_for_lpips_has_its_own_name(perceptual: ImageFeatures) -> None:
    assert "lpips" not in perceptual.name.lower()
    assert perceptual_network("efficientnet").name == perceptual.name
    assert not any(p.requires_grad for p in perceptual.parameters())


def test_the_keypoint_network_learns_joints() -> None:
    torch.manual_seed(0)
    pictures, gesture, _, _ = draw_clip(0, 0, 4, 64, 24.0)
    pixels = torch.from_numpy(pictures).permute(0, 3, 1, 2).float() / 127.5 - 1
    joints = torch.from_numpy(gesture.joints[:, list(JOINTS)]).float()
    known = torch.ones(joints.shape[:2])
    wanted = blobs(joints * 16, known, 16, 16)
    where, peak = find(wanted)
    assert float((where - joints).abs().max()) < 0.04
    assert float(peak.min()) > 0.5
    network = KeypointNetwork(8)
    optimiser = torch.optim.AdamW(network.parameters(), 5e-3)
    first = heat_map_loss(network(pixels), wanted, known)
    for _ in range(40):
        loss = heat_map_loss(network(pixels), wanted, known)
        optimiser.zero_grad()
        loss.backward()
        optimiser.step()
    assert loss.item() < 0.5 * first.item()


def test_change_loss_measures_flicker_and_not_the_error_all_frames_share() -> None:
    clean = torch.randn(2, 5, 3, 4, 4)
    weight = torch.ones(2, 5, 4, 4)
    shared = clean + torch.randn(2, 1, 3, 4, 4)
    assert float(change_loss(shared, clean, weight).max()) == pytest.approx(0, abs=1e-10)
    # Independent errors of variance s in each frame change by 2 s from one frame to the next.
    flickering = clean + 0.1 * torch.randn(clean.shape, generator=torch.Generator().manual_seed(0))
    assert float(change_loss(flickering, clean, weight).mean()) == pytest.approx(0.02, rel=0.2)


def test_change_loss_counts_only_weighted_cells() -> None:
    clean = torch.zeros(1, 3, 2, 2, 2)
    moved = clean.clone()
    moved[:, 1, :, 0, 0] = 1.0
    weight = torch.ones(1, 3, 2, 2)
    weight[..., 0, 0] = 0
    assert float(change_loss(moved, clean, weight)) == 0
    assert float(change_loss(moved, clean, torch.ones(1, 3, 2, 2))) == pytest.approx(0.25)
