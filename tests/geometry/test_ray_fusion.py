from __future__ import annotations

import numpy as np
import pytest
import torch

from reference import fusion as twin
from tripose.geometry.ray_fusion import RayBundle, body_frame, centred, inverse_3x3, reweighted, solve


def problem(batch=3, views=4, joints=5, seed=0, noise=0.02):
    g = torch.Generator().manual_seed(seed)

    def normal(*shape):
        return torch.randn(*shape, generator=g, dtype=torch.float64)

    origin = 4 * torch.nn.functional.normalize(normal(batch, views, 3), dim=-1)
    points = 0.5 * normal(batch, joints, 3)
    at = points[:, None] + noise * normal(batch, views, joints, 3)
    direction = torch.nn.functional.normalize(at - origin[:, :, None], dim=-1)
    score = 0.1 + 0.9 * torch.rand(batch, views, joints, generator=g, dtype=torch.float64)
    return RayBundle(origin, direction, score), points


def prior_of(points):
    square = torch.randn(*points.shape, 3, generator=torch.Generator().manual_seed(1), dtype=torch.float64)
    return points + 0.1, square @ square.mT + torch.eye(3)


@pytest.mark.parametrize("hidden", ["nothing", "a view", "a joint", "all but one view", "everything"])
def test_solve_is_its_twin(hidden):
    rays, points = problem()
    weight = rays.score.clone()
    match hidden:
        case "a view":
            weight[:, 1] = 0
        case "a joint":
            weight[:, :, 2] = 0
        case "all but one view":
            weight[:, 1:] = 0
        case "everything":
            weight[:] = 0
    prior, precision = prior_of(points)
    position, inverse, _ = solve(rays, weight, prior, precision)
    for i in range(len(points)):
        arrays = (a[i].numpy() for a in (rays.origin, rays.direction, weight, prior, precision))
        theirs = twin.solve(*arrays)
        np.testing.assert_allclose(position[i], theirs[0], atol=1e-10)
        np.testing.assert_allclose(inverse[i], theirs[1], atol=1e-10)


def test_gradients_of_solve():
    rays, points = problem(batch=1, views=2, joints=2)
    prior, precision = prior_of(points)
    inputs = [x.clone().requires_grad_() for x in (rays.score, prior, precision)]
    assert torch.autograd.gradcheck(lambda w, m, p: solve(rays, w, m, (p + p.mT) / 2)[:2], inputs)


def test_offsets_are_those_of_the_twin_also_behind_a_camera():
    rays, points = problem()
    points[0, 0] = 2 * rays.origin[0, 0] - points[0, 0]
    found = rays.offset(points)
    for i in range(len(points)):
        theirs = twin.offset(rays.origin[i].numpy(), rays.direction[i].numpy(), points[i].numpy())
        np.testing.assert_allclose(found[i], theirs, atol=1e-12)


def test_the_frame_is_its_twins_and_turns_with_the_body():
    rays, points = problem(joints=9)
    template = points[0] + 0.1 * points[1]
    weight = rays.score[:, 0]
    axes, middle = body_frame(points, template, weight)
    for i in range(len(points)):
        theirs = twin.body_frame(points[i].numpy(), template.numpy(), weight[i].numpy())
        np.testing.assert_allclose(axes[i], theirs[0], atol=1e-6)
        np.testing.assert_allclose(middle[i], theirs[1], atol=1e-12)
    turn = torch.linalg.qr(torch.randn(3, 3, generator=torch.Generator().manual_seed(3), dtype=torch.float64))[0]
    turn = turn * torch.linalg.det(turn)
    turned, _ = body_frame(points @ turn.mT, template, weight)
    np.testing.assert_allclose(turned, axes @ turn.mT, atol=1e-6)


def test_exact_rays_meet_in_any_unit_at_any_place():
    rays, points = problem(noise=0)
    moved = RayBundle(1000 * rays.origin + 1e6, rays.direction, rays.score)
    local, middle, unit = centred(moved)
    found = reweighted(local) * unit[:, None, None] + middle[:, None]
    np.testing.assert_allclose(found, 1000 * points + 1e6, atol=0.05)


def test_one_wrong_view_is_outvoted():
    rays, points = problem(views=5, noise=0.005)
    wrong = rays.direction.clone()
    wrong[:, 0] = torch.nn.functional.normalize(wrong[:, 0] + 0.2, dim=-1)
    local, middle, unit = centred(RayBundle(rays.origin, wrong, rays.score))
    found = reweighted(local) * unit[:, None, None] + middle[:, None]
    assert (found - points).norm(dim=-1).median() < 0.02


def test_nobody_is_finite():
    rays, _ = problem()
    local, middle, unit = centred(RayBundle(rays.origin, rays.direction, torch.zeros_like(rays.score)))
    for part in (local.origin, middle, unit, reweighted(local)):
        assert part.isfinite().all()


def test_the_inverse_is_numpys():
    square = torch.randn(7, 3, 3, generator=torch.Generator().manual_seed(0), dtype=torch.float64)
    matrix = square @ square.mT + 0.1 * torch.eye(3)
    inverse, determinant = inverse_3x3(matrix)
    np.testing.assert_allclose(inverse, np.linalg.inv(matrix.numpy()), rtol=1e-8)
    np.testing.assert_allclose(determinant, np.linalg.det(matrix.numpy()), rtol=1e-8)
