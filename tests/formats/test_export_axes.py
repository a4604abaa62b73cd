"""The change of the up axis is a rotation and nothing else."""

from __future__ import annotations

import itertools

import numpy as np
import pytest

from tripose.formats.writing import rotate_up, turn_up
from tripose.pose import Pose3D
from tripose.skeleton import COCO17

UPS = ("x", "y", "z", "-x", "-y", "-z")


@pytest.mark.parametrize(("from_up", "to_up"), list(itertools.product(UPS, UPS)))
def test_rotate_up_is_a_rotation_that_maps_up_to_up(from_up: str, to_up: str) -> None:
    matrix = rotate_up(np.eye(3), from_up, to_up).T
    assert np.linalg.det(matrix) == 1
    assert np.array_equal(np.abs(matrix).sum(axis=0), np.ones(3))
    np.testing.assert_array_equal(rotate_up(axis(from_up), from_up, to_up), axis(to_up))
    points = np.random.default_rng(1).normal(size=(4, 5, 3))
    np.testing.assert_array_equal(rotate_up(rotate_up(points, from_up, to_up), to_up, from_up), points)
    if from_up == to_up:
        np.testing.assert_array_equal(matrix, np.eye(3))


@pytest.mark.parametrize(("a", "b", "c"), list(itertools.product(UPS, UPS, UPS)))
def test_rotate_up_by_way_of_a_third_axis_is_the_same(a: str, b: str, c: str) -> None:
    points = np.arange(1.0, 4.0)
    np.testing.assert_array_equal(rotate_up(rotate_up(points, a, b), b, c), rotate_up(points, a, c))


def test_rotate_up_known_answers() -> None:
    points = np.array([[1.0, 2.0, 3.0]])
    np.testing.assert_array_equal(rotate_up(points, "z", "y"), [[2, 3, 1]])  # Pose2Sim
    np.testing.assert_array_equal(rotate_up(points, "y", "z"), [[3, 1, 2]])
    np.testing.assert_array_equal(rotate_up(points, "-y", "y"), [[1, -2, -3]])  # OpenCV to OpenGL
    np.testing.assert_array_equal(rotate_up(np.array([1, np.nan, 3]), "z", "y"), [np.nan, 3, 1])


def test_turning_poses_turns_their_covariance_too() -> None:
    rng = np.random.default_rng(0)
    root = rng.normal(size=(5, 2, 17, 3, 3))
    poses = Pose3D(
        rng.normal(size=(5, 2, 17, 3)),
        np.ones((5, 2, 17)),
        COCO17,
        30.0,
        persons=("a", "b"),
        covariance_mm2=root @ root.swapaxes(-1, -2),
        up="z",
    )
    turned = turn_up(poses, "-x")
    assert turned.up == "-x"
    np.testing.assert_array_equal(turned.position_mm, rotate_up(poses.position_mm, "z", "-x"))
    np.testing.assert_allclose(mahalanobis2(turned), mahalanobis2(poses))
    assert not np.allclose(turned.covariance_mm2, poses.covariance_mm2)
    np.testing.assert_array_equal(turn_up(turned, "z").covariance_mm2, poses.covariance_mm2)
    np.testing.assert_array_equal(turn_up(poses, "y", world_up="y").position_mm, poses.position_mm)


def mahalanobis2(poses: Pose3D) -> np.ndarray:
    x = poses.position_mm
    return np.einsum("...i,...i->...", x, np.linalg.solve(poses.covariance_mm2, x[..., None])[..., 0])


def axis(up: str) -> np.ndarray:
    return np.eye(3)["xyz".index(up[-1])] * (-1.0 if up.startswith("-") else 1.0)
