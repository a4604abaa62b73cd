from __future__ import annotations

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from golden import golden, load
from reference.evidence import heatmap_cross_entropy as heatmap_cross_entropy_of_cells
from reference.learned import keypoint_loss
from reference.volumes import coordinate_volume, cross_entropy_published, cross_entropy_trilinear
from tripose.geometry.volume import Cuboid, place_cuboid
from tripose.models.losses import (
    heatmap_cross_entropy,
    l2,
    mae,
    mse,
    robust_distance,
    smooth_mse,
    soft_argmax_l1,
    volumetric_cross_entropy,
)

LOSSES = {"mse": mse, "smooth_mse": smooth_mse, "mae": mae, "l2": l2}
seeds = st.integers(0, 2**32 - 1)


def scene(seed, batch=2, joints=5, spread=20.0):
    """Predictions, truth and validity; invalid truth is NaN."""
    generator = torch.Generator().manual_seed(seed)
    truth = 100 * torch.randn(batch, joints, 3, dtype=torch.float64, generator=generator)
    predicted = truth + spread * torch.randn(batch, joints, 3, dtype=torch.float64, generator=generator)
    valid = torch.rand(batch, joints, generator=generator) < 0.7
    return predicted, torch.where(valid[..., None], truth, torch.nan), valid


def value_and_gradient(loss, x):
    x = x.clone().requires_grad_()
    value = loss(x)
    return value.detach(), torch.autograd.grad(value, x)[0]


# --- Keypoints -------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("name", LOSSES)
@settings(max_examples=10, deadline=None)
@given(seed=seeds, spread=st.sampled_from([0.1, 20.0, 500.0]))
def test_keypoint_losses_equal_their_twins(name, seed, spread):
    predicted, truth, valid = scene(seed, spread=spread)
    fast = value_and_gradient(lambda x: LOSSES[name](x, truth, valid), predicted)
    if not valid.any():
        assert float(fast[0]) == 0
        return
    slow = value_and_gradient(lambda x: keypoint_loss(name, x, truth, valid), predicted)
    torch.testing.assert_close(fast, slow, rtol=1e-12, atol=1e-12)


@pytest.mark.parametrize("name", LOSSES)
def test_invalid_joints_count_for_nothing(name):
    predicted, truth, valid = scene(0)
    value, gradient = value_and_gradient(lambda x: LOSSES[name](x, truth, valid), predicted)
    changed = torch.where(valid[..., None], predicted, torch.nan)
    same, of_changed = value_and_gradient(lambda x: LOSSES[name](x, truth, valid), changed)
    assert float(same) == float(value)
    assert torch.equal(of_changed, gradient)
    assert (gradient[~valid] == 0).all()
    kept = LOSSES[name](predicted[valid][None], truth[valid][None], torch.ones(1, int(valid.sum()), dtype=torch.bool))
    torch.testing.assert_close(kept, value, rtol=1e-12, atol=0)


@pytest.mark.parametrize("name", LOSSES)
def test_nothing_valid_is_no_loss(name):
    predicted, truth, valid = scene(1)
    value, gradient = value_and_gradient(lambda x: LOSSES[name](x, truth, torch.zeros_like(valid)), predicted)
    assert float(value) == 0
    assert (gradient == 0).all()


@pytest.mark.parametrize("name", LOSSES)
def test_no_error_is_no_loss_with_a_finite_gradient(name):
    predicted, _, valid = scene(2)
    value, gradient = value_and_gradient(lambda x: LOSSES[name](x, predicted, valid), predicted)
    assert float(value) == 0
    assert gradient.isfinite().all()


def test_smooth_mse_is_continuous_and_nearly_flat_beyond_its_threshold():
    at = torch.tensor([[[20.0, 0, 0]]]).double()
    here, there = (
        float(smooth_mse(at + torch.tensor([step, 0, 0]), 0 * at, torch.ones(1, 1, dtype=torch.bool)))
        for step in (-1e-7, 1e-7)
    )
    assert here == pytest.approx(there, abs=1e-4)
    far = float(smooth_mse(at * 1000, 0 * at, torch.ones(1, 1, dtype=torch.bool)))
    assert far == pytest.approx(400 / 3 * 1e6**0.1)


def test_robust_distance_is_the_distance_with_a_round_tip_and_an_end():
    here, valid = torch.zeros(1, 1, 3).double(), torch.ones(1, 1, dtype=torch.bool)
    for distance, expected in ((0.0, 10.0), (300.0, (300**2 + 10**2) ** 0.5), (5000.0, 1000.0)):
        value, gradient = value_and_gradient(
            lambda x: robust_distance(x, here, valid), here + torch.tensor([0, distance, 0])
        )
        assert float(value) == pytest.approx(expected)
        assert float(gradient.norm()) == pytest.approx({0.0: 0.0, 300.0: 0.99945, 5000.0: 0.0}[distance], abs=1e-5)


def test_robust_distance_leaves_out_what_is_not_known_and_what_was_not_found():
    predicted, truth, valid = scene(7)
    predicted[0, 0] = torch.nan
    valid[0, :2] = True
    value, gradient = value_and_gradient(lambda x: robust_distance(x, truth.nan_to_num(), valid), predicted)
    counts = valid.clone()
    counts[0, 0] = False
    same = robust_distance(predicted.nan_to_num(), truth, counts)
    assert float(value) == pytest.approx(float(same))
    assert gradient.isfinite().all()
    assert (gradient[~counts] == 0).all()
    assert float(robust_distance(predicted, truth, torch.zeros_like(valid))) == 0


# --- Heatmaps --------------------------------------------------------------------------------------------------------

CROP_PX = (40, 24)


def heatmaps(seed):
    """Logits of 10 x 6 cells, keypoints in and around the crop, some of them not known and NaN."""
    generator = torch.Generator().manual_seed(seed)
    logits = 3 * torch.randn(2, 2, 3, 6, 10, dtype=torch.float64, generator=generator)
    truth = torch.rand(2, 2, 3, 2, dtype=torch.float64, generator=generator) * 1.3 * torch.tensor(CROP_PX) - 4
    valid = torch.rand(2, 2, 3, generator=generator) < 0.8
    return logits, torch.where(valid[..., None], truth, torch.nan), valid


@settings(max_examples=10, deadline=None)
@given(seeds, st.floats(1.0, 8.0))
def test_heatmap_cross_entropy_equals_its_twin(seed, sigma_px):
    logits, truth, valid = heatmaps(seed)
    fast = value_and_gradient(lambda x: heatmap_cross_entropy(x, truth, valid, CROP_PX, sigma_px=sigma_px), logits)
    slow = value_and_gradient(lambda x: heatmap_cross_entropy_of_cells(x, truth, valid, CROP_PX, sigma_px), logits)
    torch.testing.assert_close(fast, slow, rtol=1e-9, atol=1e-12)


@pytest.mark.parametrize("loss", [lambda *a: heatmap_cross_entropy(*a, sigma_px=4.0), soft_argmax_l1])
def test_keypoints_outside_the_crop_or_not_known_teach_nothing(loss):
    logits, truth, valid = heatmaps(3)
    truth[0, 0, 0], valid[0, 0, 0] = torch.tensor([-0.6, 10.0]), True
    truth[1, 1, 2], valid[1, 1, 2] = torch.tensor([20.0, 23.6]), True
    value, gradient = value_and_gradient(lambda x: loss(x, truth, valid, CROP_PX), logits)
    assert float(value) > 0
    assert gradient.isfinite().all()
    assert (gradient[~valid] == 0).all()
    assert (gradient[0, 0, 0] == 0).all()
    assert (gradient[1, 1, 2] == 0).all()
    assert float(loss(logits, truth, torch.zeros_like(valid), CROP_PX)) == 0
    half = loss(logits.half(), truth, valid, CROP_PX)
    assert float(half) == pytest.approx(float(value), rel=1e-2)


def test_the_best_heatmap_is_the_target_and_its_soft_argmax_is_the_keypoint():
    truth, valid = torch.tensor([22.5, 9.0]).expand(1, 1, 1, 2), torch.ones(1, 1, 1, dtype=torch.bool)
    x, y = torch.arange(10).double() * 4 + 1.5, torch.arange(6).double() * 4 + 1.5
    best = -((x - 22.5) ** 2 / 32)[None] - ((y - 9.0) ** 2 / 32)[:, None]
    value, gradient = value_and_gradient(
        lambda z: heatmap_cross_entropy(z, truth, valid, CROP_PX, sigma_px=4.0), best[None, None, None]
    )
    assert gradient.abs().max() < 1e-12
    p = best.flatten().softmax(0)
    assert float(value) == pytest.approx(-float((p * p.log()).sum()))
    sharp = 4 * best[None, None, None]
    assert float(soft_argmax_l1(sharp, truth, valid, CROP_PX)) < 0.02
    # Beyond 4 px the loss grows with the distance, below with its square.
    moved = [float(soft_argmax_l1(sharp, truth + d, valid, CROP_PX, beta_px=4.0)) for d in (1.0, 4.0)]
    assert moved == pytest.approx([2.0**2 / 8, 8.0 - 2], abs=0.1)


# --- Volumes ---------------------------------------------------------------------------------------------------------


def volumes(seed, voxels=5, batch=2, joints=4):
    """Logits, an upright cuboid of 600 mm, and true positions within it."""
    generator = torch.Generator().manual_seed(seed)
    logits = 3 * torch.randn(batch, joints, voxels, voxels, voxels, dtype=torch.float64, generator=generator)
    center = 1000 * torch.randn(batch, 3, dtype=torch.float64, generator=generator)
    cuboid = place_cuboid(center, 600.0, voxels, up="z", world_up="z")
    share = torch.rand(batch, joints, 3, dtype=torch.float64, generator=generator) - 0.5
    return logits, cuboid, center[:, None] + 600 * share, torch.ones(batch, joints, dtype=torch.bool)


def trilinear(logits, cuboid, truth, valid):
    spacing = cuboid.side_mm / (cuboid.voxels - 1)
    return cross_entropy_trilinear(logits, cuboid.center_mm - cuboid.side_mm / 2, spacing, truth, valid)


@settings(max_examples=10, deadline=None)
@given(seeds, st.integers(2, 6))
def test_cross_entropy_equals_its_twin(seed, voxels):
    logits, cuboid, truth, valid = volumes(seed, voxels)
    valid[0, 1] = False
    truth[0, 2] += 5000  # outside
    fast = value_and_gradient(lambda x: volumetric_cross_entropy(x, cuboid, truth, valid), logits)
    slow = value_and_gradient(lambda x: trilinear(x, cuboid, truth, valid), logits)
    torch.testing.assert_close(fast, slow, rtol=1e-10, atol=1e-12)


@settings(max_examples=10, deadline=None)
@given(seeds, st.integers(2, 6), st.floats(-3.2, 3.2))
def test_published_cross_entropy_equals_its_twin(seed, voxels, yaw):
    logits, cuboid, truth, valid = volumes(seed, voxels)
    valid[1, 0] = False
    truth[0, 2, 1] += 5000  # the nearest voxel of the cuboid counts, however far
    turned = place_cuboid(cuboid.center_mm, 600.0, voxels, up="z", world_up="z", yaw_rad=torch.tensor([yaw, -yaw]))
    places = [coordinate_volume(c, 600.0, voxels, theta=t) for c, t in zip(cuboid.center_mm, (yaw, -yaw), strict=True)]
    fast = value_and_gradient(lambda x: volumetric_cross_entropy(x, turned, truth, valid, published=True), logits)
    slow = value_and_gradient(lambda x: cross_entropy_published(x, places, truth, valid), logits)
    torch.testing.assert_close(fast, slow, rtol=1e-9, atol=1e-12)


@pytest.mark.parametrize("published", [False, True])
def test_joints_without_truth_do_not_matter(published):
    logits, cuboid, truth, valid = volumes(3)
    valid[0, 1] = valid[1, 2] = False
    value, gradient = value_and_gradient(
        lambda x: volumetric_cross_entropy(x, cuboid, truth, valid, published=published), logits
    )
    unknown = torch.where(valid[..., None], truth, torch.nan)
    same, of_unknown = value_and_gradient(
        lambda x: volumetric_cross_entropy(x, cuboid, unknown, valid, published=published), logits
    )
    assert float(same) == float(value)
    assert torch.equal(of_unknown, gradient)
    assert gradient.isfinite().all()
    assert (gradient[~valid] == 0).all()


def test_truth_outside_the_cuboid_does_not_count():
    logits, cuboid, truth, valid = volumes(4)
    truth[1] = cuboid.center_mm[1] + 301.0  # 1 mm outside
    value, gradient = value_and_gradient(lambda x: volumetric_cross_entropy(x, cuboid, truth, valid), logits)
    alone = Cuboid(cuboid.center_mm[:1], cuboid.turn[:1], 600.0, 5)
    assert float(value) == float(volumetric_cross_entropy(logits[:1], alone, truth[:1], valid[:1]))
    assert (gradient[1] == 0).all()
    nothing, gradient = value_and_gradient(lambda x: volumetric_cross_entropy(x, cuboid, truth + 5000, valid), logits)
    assert float(nothing) == 0
    assert (gradient == 0).all()


@pytest.mark.parametrize("corner", [-300.0, 300.0])
def test_truth_on_the_border(corner):
    logits, cuboid, _, valid = volumes(5)
    # Exactly representable, so that the last voxel is hit and not missed by a rounding error.
    cuboid = Cuboid(torch.zeros_like(cuboid.center_mm), cuboid.turn, 600.0, 5)
    truth = torch.full((2, 4, 3), corner, dtype=torch.float64)
    value, gradient = value_and_gradient(lambda x: volumetric_cross_entropy(x, cuboid, truth, valid), logits)
    at = (0, 0, 0) if corner < 0 else (4, 4, 4)
    log_p = logits.flatten(2).log_softmax(-1).view_as(logits)
    assert float(value) == pytest.approx(-float(log_p[:, :, at[0], at[1], at[2]].mean()))
    assert gradient.isfinite().all()


@pytest.mark.parametrize("dtype", [torch.float32, torch.float64])
def test_hopeless_volumes_still_teach(dtype):
    """Where the softmax gives the truth a probability that rounds to zero, the gradient is not lost."""
    logits, cuboid, _, valid = volumes(6)
    logits = torch.full_like(logits, -500.0).to(dtype)
    logits[..., 0, 0, 0] = 500.0
    truth = cuboid.center_mm[:, None].expand(2, 4, 3)
    value, gradient = value_and_gradient(lambda x: volumetric_cross_entropy(x, cuboid, truth, valid), logits)
    assert float(value) == pytest.approx(1000.0)
    assert float(gradient[0, 0, 2, 2, 2]) == pytest.approx(-1 / 8)
    assert float(gradient[0, 0, 0, 0, 0]) == pytest.approx(1 / 8)


@settings(max_examples=10, deadline=None)
@given(seeds)
def test_the_target_is_a_distribution_around_the_truth(seed):
    """The gradient of a cross-entropy is the softmax minus the target."""
    logits, cuboid, truth, valid = volumes(seed, batch=1, joints=1)
    _, gradient = value_and_gradient(lambda x: volumetric_cross_entropy(x, cuboid, truth, valid), logits)
    target = (logits.flatten().softmax(0) - gradient.flatten()).view(5, 5, 5)
    assert float(target.min()) > -1e-12
    assert float(target.sum()) == pytest.approx(1.0)
    assert int((target > 1e-9).sum()) <= 8
    steps = torch.arange(5, dtype=torch.float64)
    mean = [float((target.sum(others) * steps).sum()) for others in ((1, 2), (0, 2), (0, 1))]
    assert mean == pytest.approx(cuboid.to_index(truth)[0, 0].tolist())


# --- Against the published code --------------------------------------------------------------------------------------

RECORDED = {
    "MSE": mse,
    "MSESmooth400": smooth_mse,
    "MSESmooth50": lambda p, t, v: smooth_mse(p, t, v, threshold=50.0),
    "MAE": mae,
    "L2": l2,
}


@pytest.mark.parametrize("name", [pytest.param(name, marks=golden) for name in RECORDED])
def test_recorded_keypoint_losses(name):
    ops = {key: torch.as_tensor(value) for key, value in load("ops").items() if key.startswith("loss")}
    predicted, truth, valid = ops["loss_pred"], ops["loss_gt"], ops["loss_val"][..., 0] > 0
    value, gradient = value_and_gradient(lambda x: RECORDED[name](x, truth, valid), predicted)
    assert float(value) == pytest.approx(float(ops[f"loss_{name}"]), rel=1e-6)
    expected = ops[f"loss_{name}_grad"]
    if name == "L2":
        assert expected[~valid].isnan().all()  # the published behaviour; ours is zero
        expected = torch.where(valid[..., None], expected, 0.0)
    torch.testing.assert_close(gradient, expected, rtol=1e-5, atol=1e-7)


@pytest.mark.parametrize("name", [pytest.param("VolumetricCE", marks=golden)])
def test_recorded_cross_entropy(name):
    ops = {key: torch.as_tensor(value) for key, value in load("ops").items() if key[:2] in ("ce", "lo")}
    coordinates, p = ops["ce_coords"].double(), ops["ce_vol"].double()
    center, side_mm = coordinates.mean((1, 2, 3)), float(coordinates[0, -1, 0, 0, 0] - coordinates[0, 0, 0, 0, 0])
    cuboid = place_cuboid(center, side_mm, 6, up=None, world_up=None)
    truth, valid = ops["loss_gt"].double(), ops["loss_val"][..., 0] > 0
    # The published loss takes probabilities, so its gradient goes through the softmax here.
    value, gradient = value_and_gradient(
        lambda x: volumetric_cross_entropy(x, cuboid, truth, valid, published=True), p.log()
    )
    assert float(value) == pytest.approx(float(ops[f"loss_{name}"]), rel=1e-6)
    of_p = ops[f"loss_{name}_grad"].double()
    expected = p * (of_p - (of_p * p).sum((-3, -2, -1), keepdim=True))
    torch.testing.assert_close(gradient, expected, rtol=1e-5, atol=1e-8)
