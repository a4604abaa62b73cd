from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy.spatial.transform import Rotation

from reference.triangulate import dlt_point, dlt_point_torch, projection_matrices, triangulate_point
from scene import ring
from tripose.cameras import Cameras
from tripose.errors import TriposeError
from tripose.geometry.triangulate import METHODS, triangulate

SCALE_PX = 8.0


def scene(views=4, points=30, noise_px=2.0, seed=0):
    """A ring, points in front of it, their noisy images [view, point, 2], and random confidences."""
    random = np.random.default_rng(seed)
    cameras = ring(views)
    truth = torch.as_tensor(random.uniform([-700, -700, 0], [700, 700, 1800], (points, 3)))
    image = cameras.project(truth)[0]
    image = image + torch.as_tensor(random.normal(0, noise_px, image.shape))
    return cameras, truth, image, torch.as_tensor(random.uniform(0.2, 1.0, image.shape[:-1]))


def distance(a, b):
    return (a - b).norm(dim=-1)


# --- Values and gradients against the slow twins ---------------------------------------------------------------------


@pytest.mark.parametrize("views", [2, 3, 4, 8])
@pytest.mark.parametrize("homogeneous", [0.0, 1.0, 1000.0])
def test_dlt_equals_its_twin(views, homogeneous):
    cameras, _, image, weight = scene(views, noise_px=5)
    weight[0, :5] = 0
    image[-1, 5:10] = np.nan
    found = triangulate(cameras, image, weight, method="dlt", homogeneous=homogeneous).position_mm
    P = projection_matrices(cameras.K.numpy(), cameras.R.numpy(), cameras.t.numpy())
    for i in range(image.shape[1]):
        w = np.where(np.isfinite(image[:, i].numpy()).all(-1), weight[:, i].numpy(), 0.0)
        twin = dlt_point(P, image[:, i].numpy(), w, homogeneous)
        if twin is None:
            assert found[i].isnan().all()
        else:
            np.testing.assert_allclose(found[i], 1000 * twin, atol=1e-5)


@pytest.mark.parametrize("method", METHODS)
@pytest.mark.parametrize("views", [2, 3, 4, 6])
def test_everything_equals_the_twins(method, views):
    cameras, _, image, weight = scene(views, points=25)
    image[0, ::3] += 150 if method != "dlt" else 15
    weight[1, 4:6] = 0
    found = triangulate(cameras, image, weight, method=method, scale_px=SCALE_PX)
    P = projection_matrices(cameras.K.numpy(), cameras.R.numpy(), cameras.t.numpy())
    compared = 0
    for i in range(image.shape[1]):
        slow = triangulate_point(method, P, image[:, i].numpy(), weight[:, i].numpy(), SCALE_PX)
        assert (slow is None) == bool(found.position_mm[i].isnan().any())
        if slow is None:
            continue
        position, covariance, inlier, errors = slow
        np.testing.assert_allclose(found.position_mm[i], 1000 * position, atol=1e-3)
        np.testing.assert_allclose(found.covariance_mm2[i], 1e6 * covariance, rtol=1e-4, atol=1e-6)
        assert found.inlier[:, i].tolist() == inlier
        seen = weight[:, i] > 0
        np.testing.assert_allclose(found.reprojection_px[seen, i], np.array(errors)[seen], atol=1e-3)
        compared += 1
    assert compared >= (23 if views > 3 else 14)


def test_dlt_gradients_equal_those_of_the_svd():
    cameras, truth, image, weight = scene(4, points=6, noise_px=5)
    P = torch.as_tensor(np.stack(projection_matrices(cameras.K.numpy(), cameras.R.numpy(), cameras.t.numpy())))

    def gradients(positions):
        p, w = image.clone().requires_grad_(), weight.clone().requires_grad_()
        loss = (positions(p, w) - truth / 1000).square().sum()
        return torch.autograd.grad(loss, (p, w))

    fast = gradients(lambda p, w: triangulate(cameras, p, w, method="dlt").position_mm / 1000)
    slow = gradients(lambda p, w: torch.stack([dlt_point_torch(P, p[:, i], w[:, i]) for i in range(6)]))
    for a, b in zip(fast, slow, strict=True):
        torch.testing.assert_close(a, b, rtol=1e-5, atol=1e-9)


def test_gradcheck_of_points_confidences_and_cameras():
    cameras, _, image, weight = scene(3, points=3)

    def position(points, confidence, K, R, t):
        return triangulate(replace(cameras, K=K, R=R, t=t), points, confidence, method="dlt").position_mm

    inputs = [x.clone().requires_grad_() for x in (image, weight, cameras.K, cameras.R, cameras.t)]
    assert torch.autograd.gradcheck(position, inputs, eps=1e-5, atol=1e-3, rtol=1e-3)


# --- Degenerate input ------------------------------------------------------------------------------------------------


def degenerate(kind):
    cameras, _, image, weight = scene(4, points=5)
    if kind == "one view":
        weight[1:] = 0
    elif kind == "all zero":
        weight[:] = 0
    elif kind == "all but one zero":
        weight[1:], image[1:] = 0, np.nan
    elif kind == "NaN in a masked view":
        weight[2], image[2] = 0, np.nan
    elif kind == "identical cameras":
        same = torch.tensor([0, 0, 0, 0])
        cameras = replace(cameras, K=cameras.K[same], R=cameras.R[same], t=cameras.t[same])
    elif kind == "behind a camera":
        image = image + 5000
    elif kind == "one view dominates":
        weight[0], weight[1:] = 1.0, 1e-4
    elif kind == "infinite":
        image[0, 0] = np.inf
    return cameras, image, weight


KINDS = [
    "one view",
    "all zero",
    "all but one zero",
    "NaN in a masked view",
    "identical cameras",
    "behind a camera",
    "one view dominates",
    "infinite",
]


@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize("method", METHODS)
def test_gradients_are_finite_whatever_comes(kind, method):
    cameras, image, weight = degenerate(kind)
    leaves = [x.clone().requires_grad_() for x in (image, weight, cameras.K, cameras.R, cameras.t)]
    rig = replace(cameras, K=leaves[2], R=leaves[3], t=leaves[4])
    result = triangulate(rig, leaves[0], leaves[1], method=method)
    torch.nan_to_num(result.position_mm).square().sum().mul(1e-6).backward()
    for leaf in leaves:
        assert leaf.grad is None or leaf.grad.isfinite().all()


@pytest.mark.parametrize("kind", ["one view", "all zero", "all but one zero", "identical cameras"])
@pytest.mark.parametrize("method", METHODS)
def test_nothing_is_made_up(kind, method):
    cameras, image, weight = degenerate(kind)
    result = triangulate(cameras, image, weight, method=method)
    assert result.position_mm.isnan().all()
    assert result.covariance_mm2.isnan().all()
    assert not result.inlier.any()
    assert (result.confidence == 0).all()


@pytest.mark.parametrize("method", METHODS)
def test_a_masked_view_is_a_removed_view(method):
    cameras, _, image, weight = scene(5)
    masked, hidden = weight.clone(), image.clone()
    masked[2], hidden[2] = 0, np.nan
    keep = [0, 1, 3, 4]
    rest = cameras.select([cameras.names[i] for i in keep])
    a = triangulate(cameras, hidden, masked, method=method).position_mm
    b = triangulate(rest, image[keep], weight[keep], method=method).position_mm
    assert distance(a, b).max() < 1e-9


@pytest.mark.parametrize("method", METHODS)
def test_never_fewer_views_than_asked_for(method):
    cameras, _, image, weight = scene(12)
    weight[2:] = 0
    result = triangulate(cameras, image, weight, method=method, min_views=3)
    assert result.position_mm.isnan().all()
    weight[2] = 1
    result = triangulate(cameras, image, weight, method=method, min_views=3)
    assert ((result.n_views >= 3) == result.position_mm.isfinite().all(-1)).all()
    assert result.position_mm.isfinite().any()


# --- Robustness ------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("method", ["ransac", "irls"])
def test_sixteen_cameras_with_five_bad_ones(method):
    cameras, truth, image, weight = scene(16, points=50)
    random = np.random.default_rng(1)
    for i in range(50):
        image[random.choice(16, 5, replace=False), i] += torch.as_tensor(random.uniform(60, 300, (5, 2)))
    result = triangulate(cameras, image, weight, method=method)
    assert distance(result.position_mm, truth).max() < 30
    assert result.n_views.double().mean() == pytest.approx(11, abs=0.3)


@pytest.mark.parametrize("method", METHODS)
def test_strong_distortion_near_the_border_costs_nothing(method):
    cameras = ring(4, distortion=[-0.3, 0.08, 0.001, -0.001], focal_px=600.0)
    random = np.random.default_rng(0)
    truth = torch.as_tensor(random.uniform([-2500, -2500, 0], [2500, 2500, 2500], (300, 3)))
    image = cameras.project(truth)[0]
    inside = ((image > 0) & (image < 999)).all(-1)
    image = torch.where(inside[..., None], image, torch.nan)
    assert ((image < 120) | (image > 880)).any(-1).any(0).sum() > 40
    found = triangulate(cameras, image, method=method).position_mm
    assert (found.isfinite().all(-1) == (inside.sum(0) >= 2)).all()
    assert distance(found, truth).nan_to_num().max() < 1e-3


# --- Conventions -----------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("method", METHODS)
def test_batch_axes_are_a_loop(method):
    cameras, _, image, weight = scene(4, points=24)
    flat = triangulate(cameras, image, weight, method=method)
    batched = triangulate(
        cameras,
        image.unflatten(1, (2, 3, 4)).movedim((1, 2), (0, 1)),
        weight.unflatten(1, (2, 3, 4)).movedim((1, 2), (0, 1)),
        method=method,
    )
    assert batched.position_mm.shape == (2, 3, 4, 3)
    torch.testing.assert_close(batched.position_mm.flatten(0, 2), flat.position_mm, rtol=0, atol=1e-9)
    torch.testing.assert_close(batched.covariance_mm2.flatten(0, 2), flat.covariance_mm2)
    torch.testing.assert_close(
        batched.reprojection_px.movedim(2, 0).flatten(1), flat.reprojection_px, rtol=0, atol=1e-9
    )
    assert (batched.inlier.movedim(2, 0).flatten(1) == flat.inlier).all()


@pytest.mark.parametrize("method", METHODS)
def test_batched_cameras_are_a_loop(method):
    single = [scene(4, points=6, seed=s) for s in range(3)]
    rigs = [
        replace(c, K=c.K * torch.tensor([s, s, 1.0])[:, None])
        for s, (c, *_) in zip((1.0, 0.5, 2.0), single, strict=True)
    ]
    images = torch.stack([r.project(t)[0] for r, (_, t, _, _) in zip(rigs, single, strict=True)])
    weights = torch.stack([w for *_, w in single])
    stacked = {f: torch.stack([getattr(r, f) for r in rigs]) for f in ("K", "R", "t", "distortion", "size_px")}
    batch = triangulate(replace(rigs[0], **stacked), images, weights, method=method).position_mm
    for i, rig in enumerate(rigs):
        alone = triangulate(rig, images[i], weights[i], method=method).position_mm
        assert distance(batch[i], alone).max() < 1e-6


@pytest.mark.parametrize("dtype", [torch.float16, torch.float32, torch.int32])
def test_other_number_types_are_cast(dtype):
    cameras, _, image, weight = scene(4)
    cast = image.to(dtype)
    a = triangulate(cameras, cast, weight).position_mm
    b = triangulate(cameras, cast.double(), weight).position_mm
    assert torch.equal(a, b)


def test_autocast_changes_nothing():
    cameras, _, image, weight = scene(4)
    expected = triangulate(cameras, image, weight).position_mm
    with torch.autocast("cpu", dtype=torch.bfloat16):
        assert torch.equal(triangulate(cameras, image, weight).position_mm, expected)


@settings(max_examples=20, deadline=None)
@given(st.permutations(range(5)), st.sampled_from(METHODS), st.integers(0, 10_000))
def test_the_order_of_views_does_not_matter(order, method, seed):
    cameras, _, image, weight = scene(5, points=8, seed=seed)
    permuted = cameras.select([cameras.names[i] for i in order])
    a = triangulate(cameras, image, weight, method=method).position_mm
    b = triangulate(permuted, image[list(order)], weight[list(order)], method=method).position_mm
    assert distance(a, b).max() < 1e-6


@settings(max_examples=20, deadline=None)
@given(st.integers(0, 10_000), st.sampled_from(["ransac", "irls", "dlt"]))
def test_moving_the_world_moves_the_result(seed, method):
    cameras, _, image, weight = scene(4, points=8, seed=seed)
    random = np.random.default_rng(seed)
    turn = torch.as_tensor(Rotation.random(random_state=seed).as_matrix())
    shift = torch.as_tensor(random.uniform(-30_000, 30_000, 3))
    # x_c = R x + t with x = turn^T (x' - shift)
    R = cameras.R @ turn.T
    moved = replace(cameras, R=R, t=cameras.t - (R @ shift))
    homogeneous = 0.0  # with the norm of [X, 1] the answer depends on the origin
    a = triangulate(cameras, image, weight, method=method, homogeneous=homogeneous).position_mm
    b = triangulate(moved, image, weight, method=method, homogeneous=homogeneous).position_mm
    assert distance(a @ turn.T + shift, b).max() < 1e-5


# --- Covariance ------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("views", [2, 3, 4, 8])
def test_covariance_is_that_of_the_errors(views):
    cameras, _, _, _ = scene(views)
    truth = torch.tensor([[150.0, -200.0, 1100.0]]).double().expand(3000, 3)
    clean = cameras.project(truth)[0]
    noise = torch.as_tensor(np.random.default_rng(0).normal(0, 10 / 3, clean.shape))
    result = triangulate(cameras, clean + noise, method="ransac", scale_px=10.0)
    found = result.position_mm.isfinite().all(-1)
    empirical = torch.cov((result.position_mm - truth)[found].T)
    reported = result.covariance_mm2[found].mean(0)
    ratio = torch.linalg.eigvals(torch.linalg.solve(empirical, reported)).real
    assert ((ratio > 0.7) & (ratio < 1.4)).all(), ratio


def test_two_narrow_views_are_uncertain_along_their_rays():
    cameras = ring(90).select(["cam1", "cam2"])
    truth = torch.tensor([[0.0, 0.0, 1000.0]]).double()
    covariance = triangulate(cameras, cameras.project(truth)[0]).covariance_mm2[0]
    values, vectors = torch.linalg.eigh(covariance)
    ray = truth[0] - cameras.centers_mm.mean(0)
    assert values[2] > 100 * values[1]
    assert (vectors[:, 2] @ ray / ray.norm()).abs() > 0.99


# --- Wrong calls -----------------------------------------------------------------------------------------------------


@pytest.mark.usefixtures("unchecked")
def test_wrong_calls_say_what_was_expected():
    cameras, _, image, weight = scene(4)
    with pytest.raises(TriposeError, match=r"points_px must be \(..., view, joint, 2\)"):
        triangulate(cameras, image[0])
    with pytest.raises(TriposeError, match="points_px has 3 views, the rig has 4"):
        triangulate(cameras, image[:3])
    with pytest.raises(TriposeError, match="confidence must be"):
        triangulate(cameras, image, weight[:, :3])
    with pytest.raises(TriposeError, match="known are dlt, ransac, irls"):
        triangulate(cameras, image, method="magic")
    with pytest.raises(TriposeError, match="at least 2 views"):
        triangulate(cameras, image, min_views=1)


def test_numpy_arrays_are_welcome():
    cameras, truth, image, weight = scene(4)
    assert isinstance(cameras, Cameras)
    found = triangulate(cameras, image.numpy(), weight.numpy())
    assert distance(found.position_mm, truth).max() < 40
