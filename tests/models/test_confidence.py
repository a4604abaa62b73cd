"""The head that weighs views by evidence: its features against slow twins, and what holds whatever it says."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from people import body_mm, crop_cameras, peaked_heatmaps, small_model
from reference.evidence import agreement_point
from tripose.errors import TriposeError
from tripose.geometry.dlt import projection_rays
from tripose.geometry.heatmaps import expected_cells
from tripose.models.confidence import ViewConfidence, agreement, focal_lengths, heatmap_statistics
from tripose.models.config import Algebraic

SIZE_PX = (128, 128)


def observed(seed, views=4, joints=6):
    """Cameras, image points of which some are far off, and weights of which some are zero; one sample."""
    random = torch.Generator().manual_seed(seed)
    cameras, body = crop_cameras(views), body_mm()[:, :joints]
    points = cameras.project(body)[0] + torch.randn(1, views, joints, 2, generator=random)
    off = torch.rand(1, views, joints, 1, generator=random) < 0.2
    points = points + torch.where(off, 30 * torch.randn(points.shape, generator=random), 0.0)
    weight = 0.2 + torch.rand(1, views, joints, generator=random).double()
    return cameras, points, torch.where(torch.rand(weight.shape, generator=random) < 0.15, 0.0, weight)


@settings(max_examples=15, deadline=None)
@given(st.integers(0, 2**32 - 1), st.integers(2, 5))
def test_agreement_equals_its_twin(seed, views):
    cameras, points, weight = observed(seed, views)
    rays = projection_rays(cameras.P, points, weight, SIZE_PX)
    found = agreement(rays)[0]
    for joint in range(found.shape[1]):
        of_joint = rays.uv[0, :, :, joint].numpy(), rays.weight[0, :, joint].tolist()
        expected, seen = agreement_point(list(rays.P[0].numpy()), *of_joint, 8 / 256)
        np.testing.assert_allclose(found[seen, joint], expected[seen], atol=1e-6)


@pytest.mark.parametrize("seed", [0, 1])
def test_statistics_do_not_depend_on_the_resolution_of_the_crop(seed):
    cameras = crop_cameras(2)
    maps = {n: peaked_heatmaps(cameras, body_mm(), cells=n, sigma=n / 20).softmax(-1) for n in (64, 128)}
    maps = {n: m / m.sum((-2, -1), keepdim=True) for n, m in maps.items()}
    coarse, fine = (heatmap_statistics(m, expected_cells(m)) for m in maps.values())
    assert (coarse - fine).abs().median() < 0.1


def test_statistics_say_what_they_are():
    """A second peak, a spread and a distance are larger where the map has them."""
    index = torch.arange(64.0, dtype=torch.float64)

    def gaussian(x, y, sigma):
        g = torch.exp(-((index - x) ** 2)[None, :] / (2 * sigma**2) - ((index - y) ** 2)[:, None] / (2 * sigma**2))
        return g / g.sum()

    sharp, wide = gaussian(30, 20, 1.5), gaussian(30, 20, 4.0)
    two = 0.6 * sharp + 0.4 * gaussian(50, 40, 1.5)
    edge = gaussian(0, 20, 1.5)
    maps = torch.stack([sharp, wide, two, edge])
    peak, second, entropy, variance, held, away, inside = heatmap_statistics(maps, expected_cells(maps)).T
    assert peak.argmax() == 3
    assert peak[0] > peak[2] > peak[1]
    assert second.argmax() == 2
    assert entropy.argmax() == 1
    assert variance.argmax() == 2
    assert held.argmin() == 1 or held.argmin() == 2
    assert away.argmax() == 2
    assert inside.argmin() == 3


def test_before_training_weights_are_in_proportion_to_the_peaks():
    model = small_model("algebraic", confidences="evidence")
    cameras, body = crop_cameras(3), body_mm()
    heatmaps = peaked_heatmaps(cameras, body)
    heatmaps[:, 1] /= 4  # twice as wide
    peak = heatmaps.flatten(3).softmax(-1).amax(-1)
    located = model.locate(heatmaps, torch.ones(1, 3, 17), cameras.P, SIZE_PX)
    assert (located.confidence - peak / peak.sum(1, keepdim=True)).abs().max() < 2e-3
    assert (located.keypoints_mm - body).norm(dim=-1).max() < 1.0


def excited(joints=17, seed=0):
    """A head that says something."""
    torch.manual_seed(seed)
    head = ViewConfidence(joints).double()
    torch.nn.init.normal_(head.mlp.last.weight, std=3.0)
    return head


@pytest.mark.parametrize("views", [2, 4, 7])
def test_weights_are_shares_and_follow_their_views(views):
    cameras, points, weight = observed(3, views, joints=17)
    seen, random = weight > 0, torch.Generator().manual_seed(0)
    statistics = torch.randn(1, views, 17, 7, dtype=torch.float64, generator=random)
    head, order = excited(), torch.randperm(views, generator=random)
    share = head(statistics, points, seen, cameras.P, SIZE_PX)
    some = seen.any(1)
    torch.testing.assert_close(share.sum(1)[some], torch.ones(int(some.sum())).double())
    assert (share[seen] >= 0.001 - 1e-12).all()
    assert (share[~seen] == 0).all()
    assert share[seen].std() > 0.05
    turned = head(statistics[:, order], points[:, order], seen[:, order], cameras.P[:, order], SIZE_PX)
    torch.testing.assert_close(turned, share[:, order], rtol=0, atol=1e-12)


def test_views_that_do_not_take_part_say_nothing_even_when_broken():
    cameras, points, _ = observed(4, 4, joints=17)
    seen = torch.ones(1, 4, 17, dtype=torch.bool)
    seen[:, 2] = False
    statistics = torch.randn(1, 4, 17, 7, dtype=torch.float64)
    head = excited()
    P = cameras.P.clone()
    P[:, 2], statistics[:, 2] = 0.0, 7.0
    points = points.clone()
    points[:, 2] = torch.nan
    share = head(statistics, points, seen, P, SIZE_PX)
    three = [0, 1, 3]
    removed = head(statistics[:, three], points[:, three], seen[:, three], P[:, three], SIZE_PX)
    torch.testing.assert_close(share[:, three], removed, rtol=0, atol=1e-12)
    share.square().sum().backward()
    assert all(p.grad.isfinite().all() for p in head.parameters())


def test_gradients_are_finite_where_nobody_sees_and_where_all_look_from_behind():
    cameras, points, _ = observed(5, 3, joints=17)
    head = excited()
    seen = torch.zeros(1, 3, 17, dtype=torch.bool)
    seen[..., 3:] = True
    behind = cameras.P * -1  # every point has a negative depth
    share = head(torch.zeros(1, 3, 17, 7).double(), points, seen, behind, SIZE_PX)
    assert (share[..., :3] == 0).all()
    share.square().sum().backward()
    assert all(p.grad.isfinite().all() for p in head.parameters())


def test_the_head_learns_which_view_is_wrong():
    """View 1 is always 20 px off, and its heatmaps do not show it."""
    model = small_model("algebraic", confidences="evidence")
    cameras, body = crop_cameras(4), body_mm()
    wrong = peaked_heatmaps(cameras, body)
    wrong[:, 1] = wrong[:, 1].roll(5, -1)

    def error():
        return (model.locate(wrong, torch.ones(1, 4, 17), cameras.P, SIZE_PX).keypoints_mm - body).norm(dim=-1).mean()

    before = float(error().detach())
    optimiser = torch.optim.Adam(model.confidence.parameters(), 1e-2)
    for _ in range(60):
        optimiser.zero_grad()
        error().backward()
        optimiser.step()
    assert float(error().detach()) < 0.1 * before


def test_focal_lengths_are_those_of_the_cameras():
    cameras = crop_cameras(3)
    P = torch.cat([cameras.P[0], torch.zeros(1, 3, 4).double()])
    torch.testing.assert_close(focal_lengths(P), torch.cat([cameras.K[0, :, 0, 0], torch.ones(1).double()]))
    torch.testing.assert_close(focal_lengths(3 * P[:3]), cameras.K[0, :, 0, 0])


def test_rectified_heatmaps_are_no_evidence():
    with pytest.raises(TriposeError, match="softmax has to be true"):
        Algebraic(skeleton="coco17", confidences="evidence", softmax=False)
