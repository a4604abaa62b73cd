"""Triangulation where inputs contradict each other, are hardly inputs at all, or come through strong lenses."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy.spatial.transform import Rotation

from reference.triangulate import dlt_point_torch, projection_matrices
from scene import ring
from tripose.cameras import Cameras
from tripose.geometry.dlt import dlt, make_rays
from tripose.geometry.triangulate import METHODS, triangulate

ROBUST = ["ransac", "irls"]


def people(count=300, seed=0):
    random = np.random.default_rng(seed)
    return torch.as_tensor(random.uniform([-700, -700, 0], [700, 700, 1800], (count, 3)))


def noisy(points_px, sigma_px=2.0, seed=0):
    return points_px + torch.as_tensor(np.random.default_rng(seed).normal(0, sigma_px, points_px.shape))


def fisheye_ring(views=4):
    rig = ring(views)
    return Cameras.build(
        rig.names, rig.K, rig.R, rig.t, rig.size_px, [[0.05, 0.01, -0.003, 0.002]] * views, [True] * views
    )


# --- Views that contradict each other --------------------------------------------------------------------------------


@pytest.mark.parametrize("method", ROBUST)
@pytest.mark.parametrize(("views", "first"), [(4, [0, 1]), (4, [1, 2]), (6, [0, 1, 2]), (6, [0, 1, 5])])
def test_half_of_the_views_on_each_of_two_bodies(method, views, first):
    """freemocap#597: the result is one of the two bodies, never the middle between them."""
    rig, one = ring(views), people()
    other = one + torch.tensor([900.0, 900.0, 450.0]).double()
    image = rig.project(other)[0]
    image[first] = rig.project(one)[0][first]
    result = triangulate(rig, noisy(image), method=method)
    from_middle = (result.position_mm - (one + other) / 2).norm(dim=-1)
    assert from_middle.nan_to_num(torch.inf).min() > 300
    nearest = torch.minimum((result.position_mm - one).norm(dim=-1), (result.position_mm - other).norm(dim=-1))
    # Two views on different bodies can agree by chance, where their two rays happen to meet; three hardly can.
    assert (nearest < 80).double().mean() >= (0.95 if views == 4 else 1.0)
    # The views that disagree are named.
    assert (result.n_views == views // 2).double().mean() > 0.9


@pytest.mark.parametrize("method", ROBUST)
def test_a_bystander_in_one_view_is_left_out(method):
    rig, truth = ring(3), people()
    image = noisy(rig.project(truth)[0])
    image[1] += 200
    result = triangulate(rig, image, method=method)
    good = result.inlier[[0, 2]].all(0) & ~result.inlier[1]
    assert good.double().mean() > 0.85  # with three views a wrong pair can agree by chance
    assert (result.position_mm - truth)[good].norm(dim=-1).max() < 60


@pytest.mark.parametrize("method", ROBUST)
def test_no_agreement_is_no_result(method):
    rig = ring(4).select(["cam1", "cam2"])
    image = rig.project(people(50))[0]
    image[1, :, 1] += 300  # the rays pass each other
    result = triangulate(rig, image, method=method)
    assert result.position_mm.isnan().all()
    assert (result.confidence == 0).all()
    assert result.reprojection_px.isnan().all()


@pytest.mark.parametrize("method", METHODS)
def test_a_point_behind_a_camera_has_no_support_from_it(method):
    rig = ring(4)
    # Seen by cameras 1 and 2; 3 m further out than where camera 3 stands, so behind it.
    truth = rig.centers_mm[2:3] * 1.75
    image = rig.undistorted().P @ torch.cat([truth[0], torch.ones(1)])
    result = triangulate(rig, (image[:, :2] / image[:, 2:])[:, None], method=method)
    assert not result.inlier[2, 0]
    assert result.reprojection_px[2, 0].isinf() or result.position_mm.isnan().all()


# --- Masks, sizes, number types --------------------------------------------------------------------------------------


@settings(max_examples=15, deadline=None)
@given(st.sampled_from(METHODS), st.integers(0, 4), st.floats(0.2, 5.0))
def test_a_masked_view_does_not_count_even_with_another_focal_length(method, hidden, zoom):
    rig = ring(5)
    K = rig.K.clone()
    K[hidden, :2, :2] *= zoom
    rig = replace(rig, K=K)
    image = noisy(rig.project(people(40))[0])
    weight = torch.ones(image.shape[:-1])
    weight[hidden] = 0
    keep = [i for i in range(5) if i != hidden]
    all_views = triangulate(rig, image, weight, method=method)
    rest = triangulate(rig.select([rig.names[i] for i in keep]), image[keep], weight[keep], method=method)
    torch.testing.assert_close(all_views.position_mm, rest.position_mm, rtol=0, atol=1e-7, equal_nan=True)
    torch.testing.assert_close(all_views.covariance_mm2, rest.covariance_mm2, rtol=1e-8, atol=1e-7, equal_nan=True)
    assert torch.equal(all_views.inlier[keep], rest.inlier)
    assert not all_views.inlier[hidden].any()


@pytest.mark.parametrize("method", METHODS)
@pytest.mark.parametrize("dtype", [torch.float16, torch.float32, torch.int64, torch.bool])
def test_confidences_of_any_type(method, dtype):
    rig = ring(4)
    image = noisy(rig.project(people(20))[0])
    weight = torch.as_tensor(np.random.default_rng(0).uniform(0.3, 1, image.shape[:-1])).to(dtype)
    weight[:3, 0] = 1  # integers: keep something
    a = triangulate(rig, image, weight, method=method).position_mm
    b = triangulate(rig, image, weight.double(), method=method).position_mm
    torch.testing.assert_close(a, b, rtol=0, atol=0, equal_nan=True)


@pytest.mark.parametrize("method", METHODS)
@pytest.mark.parametrize("shape", [(4, 0, 2), (0, 4, 3, 2), (2, 0, 4, 3, 2)])
def test_nothing_in_is_nothing_out(method, shape):
    result = triangulate(ring(4), torch.zeros(shape), method=method)
    assert result.position_mm.shape == (*shape[:-3], shape[-2], 3)
    assert result.inlier.shape == shape[:-1]


@pytest.mark.parametrize("method", METHODS)
def test_the_size_of_confidences_does_not_matter(method):
    rig = ring(4)
    image = noisy(rig.project(people(20))[0])
    weight = torch.as_tensor(np.random.default_rng(0).uniform(0.3, 1, image.shape[:-1]))
    a, b = (triangulate(rig, image, weight * factor, method=method) for factor in (1.0, 1e-3))
    torch.testing.assert_close(a.position_mm, b.position_mm, rtol=0, atol=1e-6)
    torch.testing.assert_close(a.covariance_mm2, b.covariance_mm2, rtol=1e-6, atol=1e-6)


# --- Another world ---------------------------------------------------------------------------------------------------


@settings(max_examples=15, deadline=None)
@given(st.sampled_from(METHODS), st.floats(0.2, 5.0), st.integers(0, 1000))
def test_a_larger_world_gives_a_larger_result(method, factor, seed):
    rig = ring(4)
    image = noisy(rig.project(people(8, seed))[0], seed=seed)
    a = triangulate(rig, image, method=method, homogeneous=0.0)
    b = triangulate(replace(rig, t=rig.t * factor), image, method=method, homogeneous=0.0)
    torch.testing.assert_close(a.position_mm * factor, b.position_mm, rtol=0, atol=1e-5)
    torch.testing.assert_close(a.covariance_mm2 * factor**2, b.covariance_mm2, rtol=1e-6, atol=1e-4)


@settings(max_examples=10, deadline=None)
@given(st.integers(0, 1000))
def test_the_homogeneous_dlt_turns_with_the_world(seed):
    """About the origin only: the norm of [X, 1] knows where that is."""
    rig = ring(4)
    image = noisy(rig.project(people(8, seed))[0], 10.0, seed)
    turn = torch.as_tensor(Rotation.random(random_state=seed).as_matrix())
    a = triangulate(rig, image, method="dlt").position_mm
    b = triangulate(replace(rig, R=rig.R @ turn.T), image, method="dlt").position_mm
    torch.testing.assert_close(a @ turn.T, b, rtol=0, atol=1e-6)


# --- Lenses ----------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("method", METHODS)
def test_fisheye_lenses(method):
    rig, truth = fisheye_ring(), people(50)
    image = rig.project(truth)[0]
    image[0, :10] = torch.nan
    assert (triangulate(rig, image, method=method).position_mm - truth).norm(dim=-1).max() < 1e-6


@pytest.mark.parametrize("method", METHODS)
@pytest.mark.parametrize("kind", ["barrel", "fisheye"])
def test_gradients_are_finite_through_lenses(method, kind):
    """Missing points, one at the principal point, and one that the lens cannot have made."""
    rig = ring(4, distortion=[-0.33, 0.05, 0.001, 0.0], focal_px=500.0) if kind == "barrel" else fisheye_ring()
    image = noisy(rig.project(people(6))[0])
    image[0, 0] = torch.nan
    image[1, 1] = rig.K[1, :2, 2]
    image[2, 2] = torch.tensor([9000.0, 7000.0])
    leaves = [x.clone().requires_grad_() for x in (image, rig.K, rig.R, rig.t, rig.distortion)]
    moved = replace(rig, K=leaves[1], R=leaves[2], t=leaves[3], distortion=leaves[4])
    result = triangulate(moved, leaves[0], method=method)
    assert result.n_views[2] <= 3
    result.position_mm.nan_to_num().sum().backward()
    for leaf in leaves:
        assert leaf.grad.isfinite().all()
        assert (leaf.grad != 0).any()
    assert (leaves[0].grad[0, 0] == 0).all()
    assert (leaves[0].grad[2, 2] == 0).all()


# --- Graphs ----------------------------------------------------------------------------------------------------------


def test_gradients_of_the_dlt_equal_those_of_the_svd_with_masks_and_domination():
    rig = ring(5)
    truth = people(6)
    image, weight = noisy(rig.project(truth)[0], 5.0), torch.ones(5, 6).double()
    weight[0] = 1e-4
    weight[1, :3] = 0
    P = torch.as_tensor(np.stack(projection_matrices(rig.K.numpy(), rig.R.numpy(), rig.t.numpy())))

    def gradient(positions):
        points = image.clone().requires_grad_()
        (found,) = torch.autograd.grad((positions(points) - truth / 1000).square().sum(), points)
        return found

    fast = gradient(lambda p: triangulate(rig, p, weight, method="dlt").position_mm / 1000)
    slow = gradient(lambda p: torch.stack([dlt_point_torch(P, p[:, i], weight[:, i]) for i in range(6)]))
    torch.testing.assert_close(fast, slow, rtol=1e-5, atol=1e-10)


@pytest.mark.skipif(hasattr(dlt, "__wrapped__"), reason="the compiler does not trace shape checks")
def test_compiled_dlt_is_the_same():
    rig = ring(4)
    rays = make_rays(rig, noisy(rig.project(people(50))[0]), torch.ones(4, 50))

    def solve(uv):
        return dlt(replace(rays, uv=uv))[0]

    compiled = torch.compile(solve, fullgraph=True, backend="aot_eager")
    torch.testing.assert_close(compiled(rays.uv), solve(rays.uv), rtol=0, atol=1e-12)
