from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest

from scene import FPS, observe, ring, walk_mm
from tripose.errors import TriposeError
from tripose.lifting import check_size, leg_bone_mm, lift, up_from_body
from tripose.pose import Pose2D
from tripose.skeleton import COCO17


def pose2d(observed, views):
    return Pose2D(observed[..., :2], np.nan_to_num(observed[..., 2]), COCO17, tuple(views), FPS)


@pytest.mark.parametrize("method", ["dlt", "ransac", "irls"])
def test_recovers_a_walk_from_noisy_keypoints(method):
    cameras, truth = ring(4), walk_mm(30)
    poses = lift(pose2d(observe(cameras, [truth]), cameras.names), cameras, method=method)
    assert np.linalg.norm(poses.position_mm[:, 0] - truth, axis=-1).mean() < 8
    assert poses.up == "z"
    assert (poses.n_views == 4).mean() > 0.95
    assert np.nanmedian(poses.reprojection_px) < 3


def test_an_outlier_view_does_not_bend_the_robust_default_and_stays_visible_in_the_errors():
    cameras, truth = ring(4), walk_mm(20)
    observed = observe(cameras, [truth])
    observed[:, 1, 0, 9, :2] += 200
    poses = lift(pose2d(observed, cameras.names), cameras)
    assert np.linalg.norm(poses.position_mm[:, 0, 9] - truth[:, 9], axis=-1).max() < 25
    assert poses.n_views[:, 0, 9].tolist() == [3] * 20
    assert np.nanmedian(poses.reprojection_px[:, 1, 0, 9]) > 150


def test_left_right_swap_in_one_view_hardly_matters():
    cameras, truth = ring(4), walk_mm(60)
    observed = observe(cameras, [truth])
    observed[25:36, 2] = observed[25:36, 2][:, :, COCO17.mirror]

    def error_mm(method):
        poses = lift(pose2d(observed, cameras.names), cameras, method=method)
        return np.linalg.norm(poses.position_mm[25:36, 0] - truth[25:36], axis=-1)

    # A swap of less than the gate (30 px, 100 mm here) cannot be told from noise, so a little stays.
    assert error_mm("ransac").mean() < 0.5 * error_mm("dlt").mean()
    assert np.quantile(error_mm("ransac"), 0.95) < 60


def test_joint_that_is_nowhere_is_nan_and_the_rest_is_not():
    cameras, truth = ring(4), walk_mm(5)
    observed = observe(cameras, [truth])
    observed[:, :, 0, 7] = np.nan
    observed[2] = np.nan
    observed[3, 1:] = np.nan
    poses = lift(pose2d(observed, cameras.names), cameras)
    there = np.isfinite(poses.position_mm[:, 0]).all(-1)
    assert not there[:, 7].any()
    assert not there[2:4].any()
    assert np.delete(there[[0, 1, 4]], 7, axis=1).all()
    assert np.isnan(poses.confidence[2]).all()


def test_min_views_that_nothing_satisfies_says_the_most_seen():
    cameras, truth = ring(4), walk_mm(6)
    observed = observe(cameras, [truth])
    observed[:, 2:] = np.nan
    with pytest.raises(TriposeError, match=r"0 of 6 frames have a joint in 3 views \(the most is 2\)"):
        lift(pose2d(observed, cameras.names), cameras, min_views=3)


def test_views_are_matched_by_name_and_unused_cameras_left_out():
    cameras, truth = ring(4), walk_mm(5)
    observed = observe(cameras, [truth])[:, [3, 0, 2]]
    poses = lift(pose2d(observed, ["cam4", "cam1", "cam3"]), cameras)
    assert poses.views == ("cam4", "cam1", "cam3")
    assert np.linalg.norm(poses.position_mm[:, 0] - truth, axis=-1).mean() < 10


def test_one_view_is_refused():
    cameras, truth = ring(4), walk_mm(5)
    with pytest.raises(TriposeError, match="1 usable view"):
        lift(pose2d(observe(cameras, [truth])[:, :1], ["cam1"]), cameras)


@pytest.mark.parametrize(
    ("factor", "advice"), [(1000, "--unit m"), (0.001, "--unit mm"), (100, "--unit m"), (0.01, "--unit cm")]
)
def test_wrong_unit_is_refused_with_the_right_one(factor, advice):
    cameras, truth = ring(4), walk_mm(5)
    poses = lift(pose2d(observe(cameras, [truth]), cameras.names), cameras)
    assert 380 < leg_bone_mm(poses.position_mm, COCO17) < 460
    check_size(poses, "Calib.toml")
    wrong = replace(poses, position_mm=poses.position_mm / factor)
    with pytest.raises(TriposeError, match=f"Calib.toml.*{advice}$"):
        check_size(wrong, "Calib.toml")


@pytest.mark.parametrize("up", ["x", "y", "z", "-x", "-y", "-z"])
def test_up_is_found_from_a_standing_body(up):
    from tripose.formats.writing import rotate_up

    cameras, truth = ring(4), walk_mm(5)
    poses = lift(pose2d(observe(cameras, [truth]), cameras.names), cameras)
    assert up_from_body(replace(poses, position_mm=rotate_up(poses.position_mm, "z", up))) == up


def test_up_of_a_lying_or_unknown_body_is_none():
    cameras, truth = ring(4), walk_mm(5)
    poses = lift(pose2d(observe(cameras, [truth]), cameras.names), cameras)
    c = np.sqrt(0.5)
    tilt = np.array([[1, 0, 0], [0, c, -c], [0, c, c]])
    assert up_from_body(replace(poses, position_mm=poses.position_mm @ tilt.T)) is None
    assert up_from_body(replace(poses, position_mm=poses.position_mm * np.nan)) is None
