"""The pose prior: human, varied, symmetric, the same for the same seed, and two halves that share nothing."""

from __future__ import annotations

import subprocess
import sys
import time
from importlib import resources

import numpy as np
import pytest

from tripose.data.synthetic.motion_body import BONE, JOINTS, POSED_BONES, joint_positions
from tripose.data.synthetic.prior import prior_pose, sample_pose, shipped_prior
from tripose.data.synthetic.prior_collision import collides
from tripose.data.synthetic.prior_fit import fit_prior
from tripose.data.synthetic.prior_limits import LIMITS_DEG, keep_limits, limit_pose
from tripose.data.synthetic.prior_motion import sample_motion

COUNT = 600


@pytest.fixture(scope="module")
def poses():
    rng = np.random.default_rng(1)
    return np.stack([sample_pose(rng) for _ in range(COUNT)])


@pytest.fixture(scope="module")
def position(poses):
    return {joint: joint_positions(poses)[:, i] for i, joint in enumerate(JOINTS)}


def bend_deg(position, *joints):
    first, middle, last = (position[j] for j in joints)
    a, b = middle - first, last - middle
    cos = (a * b).sum(-1) / np.linalg.norm(a, axis=-1) / np.linalg.norm(b, axis=-1)
    return np.degrees(np.arccos(np.clip(cos, -1, 1)))


def test_the_shipped_file_is_small():
    assert resources.files("tripose").joinpath("weights", "pose_prior.safetensors").stat().st_size < 1_000_000


def test_every_pose_keeps_the_limits(poses):
    np.testing.assert_allclose(keep_limits(poses), poses, atol=1e-9)
    for bone, limits in LIMITS_DEG.items():
        if not bone.startswith("lowerarm01"):  # its limits are about the hinge of the elbow
            low, high = np.array(limits).T
            angles = np.degrees(poses[:, BONE[bone]])
            assert ((angles > low - 1e-6) & (angles < high + 1e-6)).all(), bone


@pytest.mark.parametrize("side", ["L", "R"])
def test_knees_and_elbows_bend_as_they_can(position, side):
    assert bend_deg(position, f"upperleg01.{side}", f"lowerleg01.{side}", f"foot.{side}").max() < 155
    assert bend_deg(position, f"upperarm01.{side}", f"lowerarm01.{side}", f"wrist.{side}").max() < 150
    thigh = position[f"lowerleg01.{side}"] - position[f"upperleg01.{side}"]
    shin = position[f"foot.{side}"] - position[f"lowerleg01.{side}"]
    foot = position[f"toe.{side}"] - position[f"foot.{side}"]
    bent = bend_deg(position, f"upperleg01.{side}", f"lowerleg01.{side}", f"foot.{side}") > 25
    # A knee bends so that the shin goes to where the toes do not point.
    forwards = foot - (foot * shin).sum(-1, keepdims=True) * shin / (shin**2).sum(-1, keepdims=True)
    assert ((thigh * forwards).sum(-1)[bent] > 0).mean() > 0.995


def test_one_seed_one_pose():
    def draw(seed):
        rng = np.random.default_rng(seed)
        return np.stack([sample_pose(rng) for _ in range(20)])

    np.testing.assert_array_equal(draw(5), draw(5))
    assert (draw(5) != draw(6)).any()


@pytest.mark.slow
def test_one_seed_one_pose_in_another_process():
    code = "import numpy as np; from tripose.data.synthetic.prior import sample_pose; "
    code += "rng = np.random.default_rng(5); print([sample_pose(rng).sum() for _ in range(20)][-1].hex())"
    told = {subprocess.run([sys.executable, "-c", code], capture_output=True, check=True).stdout for _ in range(2)}
    assert len(told) == 1


def test_no_pose_heads_anywhere(poses):
    assert (poses[:, BONE["root"], 2] == 0).all()


def test_nearly_no_pose_is_inside_itself(poses):
    assert np.mean([collides(p) for p in joint_positions(poses)]) < 0.01


def test_hands_in_the_chest_collide_and_open_arms_do_not():
    pose = np.zeros((len(POSED_BONES), 3))
    assert not collides(joint_positions(pose))
    pose[BONE["upperarm01.L"], 1] = 1.3
    assert collides(joint_positions(pose))


def test_poses_vary(position):
    """Arms overhead, crossed to the other side, sitting, lying and kneeling all happen, and standing is the rule."""
    up = position["wrist.L"][:, 2] > position["head_top"][:, 2]
    crossed = position["wrist.L"][:, 0] < position["upperarm01.R"][:, 0] + 150
    legs = position["neck01"][:, 2] - np.minimum(position["foot.L"], position["foot.R"])[:, 2]
    flat = position["neck01"][:, 2] < 200
    thigh = [position[f"lowerleg01.{s}"][:, 2] - position[f"upperleg01.{s}"][:, 2] > -150 for s in "LR"]
    for share, low, high in (
        (up.mean(), 0.04, 0.3),
        (crossed.mean(), 0.02, 0.3),
        ((legs > 1300).mean(), 0.5, 0.95),
        (flat.mean(), 0.01, 0.15),
        ((thigh[0] & thigh[1]).mean(), 0.03, 0.25),
    ):
        assert low < share < high


def test_left_and_right_are_alike(position):
    for joint in ("wrist", "foot", "lowerarm01", "lowerleg01"):
        left, right = position[f"{joint}.L"] * (-1, 1, 1), position[f"{joint}.R"]
        standard_error = np.hypot(left.std(0), right.std(0)) / np.sqrt(COUNT)
        assert (np.abs(left.mean(0) - right.mean(0)) < 4 * standard_error).all()


def test_the_halves_share_no_pose():
    train, test = (joint_positions(shipped_prior(half).poses) for half in ("train", "test"))
    apart = np.sqrt(((train[:, None] - test[None]) ** 2).sum(-1).mean(-1))
    assert len(train) == len(test) == 700
    assert apart.min() > 5  # mm, root mean square over joints
    rng = [np.random.default_rng(0) for _ in range(2)]
    assert (sample_pose(rng[0], "train") != sample_pose(rng[1], "test")).any()


def test_both_halves_of_a_draw_are_human_sized():
    """Every pose is in the box that a body of this size can reach."""
    rng = np.random.default_rng(2)
    for draw in (limit_pose, lambda r: prior_pose(r, shipped_prior("test"))):
        reach = np.abs(joint_positions(np.stack([draw(rng) for _ in range(100)])))
        assert np.isfinite(reach).all()
        assert 800 < reach.max() < 1300


def test_sampling_takes_about_a_millisecond():
    rng = np.random.default_rng(0)
    sample_pose(rng)
    start = time.process_time()
    for _ in range(200):
        sample_pose(rng)
    assert (time.process_time() - start) / 200 < 0.004  # 0.5 ms on a quiet core


def test_a_prior_of_ones_own_motion(poses):
    prior = fit_prior([poses[:30], poses[30:50]], kernels=40)
    assert prior.poses.shape == (40, len(POSED_BONES), 3)
    gap = np.abs(prior.poses[:, None] - poses[None, :50]).max((2, 3)).min(1)
    assert gap.max() < 1e-9  # kernels are recorded poses
    rng = np.random.default_rng(0)
    assert sample_pose(rng, prior).shape == (len(POSED_BONES), 3)
    assert len(fit_prior([poses[:1]]).poses) == 1


def test_motion_is_smooth_and_stays():
    motion = sample_motion(np.random.default_rng(4), 240, 60.0)
    assert motion.poses.shape == (240, len(POSED_BONES), 3)
    np.testing.assert_allclose(keep_limits(motion.poses), motion.poses, atol=1e-9)
    moved = np.linalg.norm(np.diff(joint_positions(motion.poses), axis=0), axis=-1) * 60
    assert moved.max() < 8000  # mm/s
    assert moved[:, JOINTS.index("wrist.L")].mean() > 100
    pace = np.linalg.norm(np.diff(motion.position_mm, axis=0), axis=-1) * 60
    assert pace.max() < 1200
    assert np.abs(motion.position_mm).max() < 3000
    # It walks where it looks: along -y at heading 0.
    ahead = np.stack([np.sin(motion.heading_rad), -np.cos(motion.heading_rad)], -1)[1:]
    step = np.diff(motion.position_mm, axis=0)
    assert ((ahead * step).sum(-1) > 0.99 * np.linalg.norm(step, axis=-1)).all()
    again = sample_motion(np.random.default_rng(4), 240, 60.0)
    np.testing.assert_array_equal(again.poses, motion.poses)


def test_motion_may_be_short():
    assert len(sample_motion(np.random.default_rng(0), 1, 30.0).poses) == 1
