"""Where somebody stands whom one camera sees."""

import numpy as np
import pytest
import torch

from scene import ring
from tripose.cameras import TO_Z_UP
from tripose.errors import TriposeError
from tripose.geometry.standing import pelvis_by_height, pelvis_on_floor
from tripose.skeleton import COCO17, HALPE26, custom

HEIGHT_MM = 1800.0


def standing(lifted_mm: float = 0.0) -> np.ndarray:
    """HALPE-26 of an upright person at (300, -200) with one foot lifted."""
    heights = {"head_top": 1800, "nose": 1647, "eye": 1683, "ear": 1670, "neck": 1500, "shoulder": 1450, "elbow": 1150}
    heights |= {"wrist": 900, "hip": 950, "pelvis": 950, "knee": 500, "ankle": 85, "heel": 25, "big_toe": 20}
    heights |= {"small_toe": 20}
    joints = []
    for name in HALPE26.joints:
        side = {"l": -1, "r": 1}[name[0]] if name.startswith(("left", "right")) else 0
        part = name.split("_", 1)[1] if side else name
        raised = lifted_mm if side == 1 and part in ("ankle", "heel", "big_toe", "small_toe") else 0
        joints.append([300 + 120 * side, -200, heights[part] + raised])
    return np.array(joints, dtype=float)


def turned(cameras, up):
    """The same rig and points in a world whose up-axis is another."""
    turn = torch.tensor(TO_Z_UP[up], dtype=torch.float64)
    from dataclasses import replace

    return replace(cameras, R=cameras.R @ turn, up=up), turn


@pytest.mark.parametrize("up", list(TO_Z_UP))
@pytest.mark.parametrize("lifted_mm", [0.0, 250.0])
@pytest.mark.parametrize("view", range(4))
def test_the_pelvis_is_above_the_standing_foot(up, lifted_mm, view):
    cameras = ring(4)
    rig, turn = turned(cameras.select([cameras.names[view]]), up)
    body = torch.from_numpy(standing(lifted_mm)) @ turn
    points = rig.project(body)[0]
    pelvis = body[HALPE26.joints.index("pelvis")]
    assert (pelvis_on_floor(points, rig, HALPE26, up)[0] - pelvis).norm() < 140  # half of the distance of the feet
    assert (pelvis_by_height(points, rig, HALPE26, up, HEIGHT_MM)[0] - pelvis).norm() < 140


def test_another_floor_and_missing_joints():
    rig = ring(4).select(["cam1"]) if "cam1" in ring(4).names else ring(4).select([ring(4).names[0]])
    body = torch.from_numpy(standing()) + torch.tensor([0.0, 0, 500])
    points = rig.project(body)[0]
    found = pelvis_on_floor(points, rig, HALPE26, "z", floor_mm=500.0)
    assert (found[0] - body[HALPE26.joints.index("pelvis")]).norm() < 140
    points[:, HALPE26.indices(["left_heel", "left_big_toe", "right_ankle"])] = torch.nan
    assert (pelvis_on_floor(points, rig, HALPE26, "z", floor_mm=500.0) - found).norm() < 140
    assert pelvis_on_floor(torch.full_like(points, torch.nan), rig, HALPE26, "z").isnan().all()


def test_without_feet_a_height_says_nothing():
    rig = ring(2).select([ring(2).names[0]])
    arm = custom("arm", ["left_shoulder", "left_elbow", "left_hip", "right_hip"])
    with pytest.raises(TriposeError, match="skeleton 'arm' has no head or no feet"):
        pelvis_by_height(torch.zeros(1, 4, 2), rig, arm, "z", 1800.0)
    assert pelvis_by_height(torch.zeros(1, 17, 2), rig, COCO17, "z", 1800.0).shape == (1, 3)
