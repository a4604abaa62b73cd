"""Statistics of a recording on arrays whose answers are known."""

from __future__ import annotations

import warnings
from dataclasses import replace

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from tripose.diagnosis import (
    Error,
    bone_label,
    bone_statistics,
    is_unequal,
    is_unsteady,
    longest_gap,
    missing_share,
    reprojection_by_camera,
    reprojection_by_joint,
    reprojection_table,
    side_of_bone,
    verdict,
)
from tripose.errors import TriposeError
from tripose.pose import Pose3D
from tripose.skeleton import COCO17, custom

LEG = custom("legs", ["left_hip", "right_hip", "left_knee", "right_knee"])


@pytest.fixture(autouse=True)
def _no_warnings():
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        yield


def legs(frames: int = 10, persons: int = 1, views: tuple[str, ...] = ("a", "b", "c")) -> Pose3D:
    """Thighs of 400 mm (left) and 410 mm (right); errors of 1, 2, 3 px in the views a, b, c."""
    position = np.zeros((frames, persons, 4, 3))
    position[..., 1, 0] = position[..., 3, 0] = 200
    position[..., 2, 2], position[..., 3, 2] = -400, -410
    error = np.arange(1.0, len(views) + 1)[:, None, None] * np.ones((frames, len(views), persons, 4))
    names = tuple("xyz"[:persons])
    return Pose3D(position, np.ones((frames, persons, 4)), LEG, 50.0, names, views, reprojection_px=error)


def test_reprojection_by_camera_is_the_median_the_ninetieth_percentile_and_the_count():
    poses = legs(frames=100)
    poses.reprojection_px[:, 0] = np.arange(400).reshape(100, 1, 4)
    poses.reprojection_px[:50, 1] = np.nan
    poses.reprojection_px[:, 2] = np.nan
    by_camera = reprojection_by_camera(poses)
    assert by_camera["a"] == pytest.approx((199.5, 359.1, 400))
    assert by_camera["b"] == Error(2.0, 2.0, 200)
    assert np.isnan(by_camera["c"][:2]).all()
    assert by_camera["c"].n == 0


def test_reprojection_by_joint_pools_the_views():
    poses = legs()
    poses.reprojection_px[..., 2] = 7
    poses.reprojection_px[..., 3] = np.nan
    by_joint = reprojection_by_joint(poses)
    assert by_joint["left_hip"].median == 2
    assert by_joint["left_hip"].n == 30
    assert by_joint["left_knee"].median == 7
    assert by_joint["right_knee"].n == 0


def test_reprojection_table_is_view_by_joint():
    poses = legs()
    poses.reprojection_px[0, 1, 0, 3] = 500  # one wild value does not move a median
    poses.reprojection_px[:, 2, 0, 0] = np.nan
    table = reprojection_table(poses)
    np.testing.assert_allclose(table, [[1, 1, 1, 1], [2, 2, 2, 2], [np.nan, 3, 3, 3]])


def test_poses_without_errors_have_no_error_statistics():
    poses = replace(legs(), reprojection_px=None)
    assert reprojection_by_camera(poses) == {}
    assert reprojection_by_joint(poses) == {}
    assert np.isnan(reprojection_table(poses)).all()


def test_missing_share_counts_frames_and_persons_and_one_missing_coordinate():
    poses = legs(persons=2)
    poses.position_mm[:4, 0, 2, 1] = np.nan
    assert missing_share(poses) == {"left_hip": 0, "right_hip": 0, "left_knee": 0.2, "right_knee": 0}
    assert missing_share(poses, ["left_knee"]) == {"left_knee": 0.2}
    with pytest.raises(TriposeError, match="no joint 'tail'"):
        missing_share(poses, ["tail"])


def test_bone_statistics_are_of_one_person_and_ignore_missing_ends():
    poses = legs(persons=2)
    poses.position_mm[:5, 0, 2, 2] = -420
    poses.position_mm[:, 1] *= 1.5
    poses.position_mm[0, 0, 3] = np.nan
    first, second = bone_statistics(poses, 0), bone_statistics(poses, 1)
    assert first["left_hip", "left_knee"] == pytest.approx((410, 10, 10))
    assert first["right_hip", "right_knee"] == pytest.approx((410, 0, 9))
    assert second["left_hip", "left_knee"] == pytest.approx((600, 0, 10))
    assert not is_unsteady(first["left_hip", "left_knee"])
    assert is_unsteady(first["left_hip", "left_knee"]._replace(std=21))
    assert is_unequal(second["left_hip", "left_knee"], first["right_hip", "right_knee"])


@given(st.lists(st.booleans(), min_size=1, max_size=40))
def test_longest_gap_equals_a_plain_search(missing):
    poses = legs(frames=len(missing))
    poses.position_mm[missing, 0, 1] = np.nan
    runs, run = [], 0
    for frame, gone in enumerate([*missing, False]):
        if not gone and run:
            runs.append((run, frame - run))
        run = run + 1 if gone else 0
    gap = longest_gap(poses)
    if not runs:
        assert gap is None
    else:
        length, first = max(runs, key=lambda r: (r[0], -r[1]))
        assert gap == ("x", "right_hip", first, length)


def test_bones_have_the_names_people_use():
    assert bone_label("left_hip", "left_knee") == "thigh"
    assert bone_label("left_hip", "right_hip") == "hip width"
    assert bone_label("nose", "left_eye") == "nose - left_eye"
    assert side_of_bone("right_hip", "right_knee") == "right"
    assert side_of_bone("left_hip", "right_hip") == side_of_bone("nose", "neck") == "middle"


def texts(poses: Pose3D) -> str:
    return "\n".join(f"{f.level}: {f.text}" for f in verdict(poses))


def test_verdict_of_a_good_recording_is_all_ok():
    poses = legs()
    poses.reprojection_px[:] = 3
    assert {f.level for f in verdict(poses)} == {"ok"}
    assert "No camera stands out" in texts(poses)
    assert "Every joint has a position in every frame." in texts(poses)


def test_verdict_names_the_worst_camera_and_by_how_much():
    poses = legs()
    poses.reprojection_px[:, 1] = 9
    assert "bad: Camera b is the worst" in texts(poses)
    assert "4.5 times that of the others (2.0 px)" in texts(poses)


def test_verdict_of_a_wrong_rig_does_not_praise_equal_cameras():
    poses = legs()
    poses.reprojection_px[:] = 900
    assert "bad: All cameras disagree" in texts(poses)


def test_verdict_names_a_silent_camera_gaps_and_bones():
    poses = legs(frames=100)
    poses.reprojection_px[:, 2] = np.nan
    poses.position_mm[10:40, 0, 2] = np.nan
    poses.position_mm[::2, 0, 3, 2] = -600
    said = texts(poses)
    assert "bad: Camera c contributes nothing" in said
    assert "Missing joint positions: 7.5 %; most often left_knee (30 %)." in said
    assert "Frames with a missing joint: 30 of 100;" in said
    assert "the longest gap is left_knee, 30 frames (0.60 s) from frame 10." in said
    assert "bad: Bone lengths vary, most of all the right thigh: 505 ± 95 mm (19 %)." in said
    assert "The thigh is 400 mm long on the left and 505 mm on the right." in said


@pytest.mark.parametrize("shape", [(0, 1), (5, 0), (0, 0)])
def test_nothing_fails_without_frames_or_persons(shape):
    frames, persons = shape
    poses = legs(frames, persons)
    assert np.isnan(list(missing_share(poses).values())).all()
    assert longest_gap(poses) is None
    assert "There are no poses" in texts(poses)


def test_a_recording_in_which_nothing_was_found():
    poses = Pose3D(np.full((8, 1, 17, 3), np.nan), np.full((8, 1, 17), np.nan), COCO17, 30.0)
    assert "Missing joint positions: 100 %" in texts(poses)
