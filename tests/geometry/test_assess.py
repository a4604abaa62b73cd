"""What views say about positions that something else found."""

from __future__ import annotations

import numpy as np
import pytest
import torch

from scene import ring
from tripose.errors import TriposeError
from tripose.geometry.triangulate import assess, triangulate


@pytest.fixture
def scene():
    """A ring, points [time joint 3], their noisy images with gross errors and gaps, and confidences."""
    random, cameras = np.random.default_rng(0), ring(4)
    truth = torch.as_tensor(random.uniform([-700, -700, 0], [700, 700, 1800], (3, 10, 3)))
    points = torch.stack([cameras.project(t)[0] for t in truth])
    points += torch.as_tensor(random.normal(0, 2, points.shape))
    points[0, 0, ::3] += 150
    points[1, 2, 4] = torch.nan
    points[2, 1:, 7] = torch.nan
    confidence = torch.as_tensor(random.uniform(0.2, 1.0, points.shape[:-1]))
    confidence[1, 1, 5] = 0
    confidence[1, 1, 6] = torch.nan
    return cameras, truth, points, confidence


@pytest.mark.parametrize("method", ["ransac", "irls"])
@pytest.mark.parametrize("scale_px", [None, 4.0])
def test_it_says_of_a_triangulation_what_that_says_of_itself(scene, method, scale_px):
    cameras, _, points, confidence = scene
    found = triangulate(cameras, points, confidence, method=method, scale_px=scale_px)
    told = assess(cameras, found.position_mm, points, confidence, scale_px=scale_px)
    assert (found.n_views < 4).sum() > 4
    assert found.position_mm[2, 7].isnan().all()
    for part in ("position_mm", "covariance_mm2", "n_views", "inlier", "reprojection_px", "confidence"):
        torch.testing.assert_close(getattr(told, part), getattr(found, part), equal_nan=True, rtol=1e-9, atol=1e-9)


def test_arrays_of_numpy_and_other_axes_are_taken_as_they_come(scene):
    cameras, truth, points, confidence = scene
    flat = assess(cameras, truth[0], points[0].numpy(), confidence[0].numpy())
    people = assess(cameras, truth[:, None], points[:, None], confidence[:, None])
    assert people.reprojection_px.shape == (3, 1, 4, 10)
    torch.testing.assert_close(people.reprojection_px[0, 0], flat.reprojection_px, equal_nan=True)
    torch.testing.assert_close(people.covariance_mm2[0, 0], flat.covariance_mm2, equal_nan=True)


def test_positions_stay_whatever_supports_them(scene):
    cameras, truth, points, confidence = scene
    elsewhere = truth + torch.tensor([3000.0, 0, 0])
    told = assess(cameras, elsewhere, points, confidence)
    torch.testing.assert_close(told.position_mm, elsewhere)
    assert (told.n_views < 2).all()
    assert told.covariance_mm2.isnan().all()  # nothing is known about them, and least of all that they are exact
    assert (told.confidence[told.n_views == 0] == 0).all()
    seen = (confidence > 0) & points.isfinite().all(-1)
    expected = torch.stack([cameras.project(e)[0] for e in elsewhere]) - points
    torch.testing.assert_close(told.reprojection_px[seen], expected.norm(dim=-1)[seen])
    assert told.reprojection_px[~seen].isnan().all()


def test_one_camera_supports_and_measures_nothing_along_its_rays(scene):
    cameras, truth, points, confidence = scene
    told = assess(cameras.select(["cam2"]), truth, points[:, 1:2], confidence[:, 1:2])
    seen = ((confidence > 0) & points.isfinite().all(-1))[:, 1]
    torch.testing.assert_close(told.position_mm, truth)
    assert torch.equal(told.n_views, seen.long())
    torch.testing.assert_close(told.confidence[seen], confidence[:, 1][seen])
    assert told.covariance_mm2.isnan().all()


def test_what_is_unknown_stays_unknown(scene):
    cameras, truth, points, confidence = scene
    some = truth.clone()
    some[1, 3], some[2, 2, 0] = torch.nan, torch.nan
    told = assess(cameras, some, points, confidence)
    for t, joint in ((1, 3), (2, 2)):
        assert told.position_mm[t, joint].isnan().all()
        assert told.covariance_mm2[t, joint].isnan().all()
        assert told.reprojection_px[t, :, joint].isnan().all()
        assert told.n_views[t, joint] == told.confidence[t, joint] == 0
        assert not told.inlier[t, :, joint].any()
    others = assess(cameras, truth, points, confidence)
    torch.testing.assert_close(told.reprojection_px[0], others.reprojection_px[0], equal_nan=True)


@pytest.mark.usefixtures("unchecked")
def test_shapes_that_do_not_fit_are_named(scene):
    cameras, truth, points, confidence = scene
    with pytest.raises(TriposeError, match="points_px has 3 views, the rig has 4"):
        assess(cameras, truth, points[:, :3], confidence[:, :3])
