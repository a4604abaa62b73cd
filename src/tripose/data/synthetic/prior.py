"""The pose prior: random human poses, half of them like recorded ones, half within the limits of the joints."""

from __future__ import annotations

from dataclasses import dataclass
from functools import cache
from importlib import resources
from typing import Literal

import numpy as np
from jaxtyping import Float

from tripose.data.synthetic.motion_body import BONE, POSED_BONES, joint_positions, mirror_pose
from tripose.data.synthetic.prior_collision import collides
from tripose.data.synthetic.prior_limits import keep_limits, limit_pose

_FILE = "pose_prior.safetensors"
_TRIES = 8
# Chance that the arms, and that the legs (and what they carry: the tilt of the root), are those of another recorded
# pose: a few hundred poses become many.
_SWAP = 0.35
# Noise (rad) on every bone of every pose, and on what recordings do not tell: wrists, turn of the head, lower back.
_NOISE, _WRIST, _HEAD, _BACK = np.radians([2.5, 14.0, 9.0, 5.0])
_ARM_ROWS, _LEG_ROWS = (
    np.array([i for i, b in enumerate(POSED_BONES) if b.startswith(kinds)])
    for kinds in (("clavicle", "upperarm", "lowerarm", "wrist"), ("root", "upperleg", "lowerleg", "foot"))
)


@dataclass(frozen=True)
class PosePrior:
    """A kernel density of poses.

    Attributes:
        poses: where the kernels stand: rotation vectors (rad) of `POSED_BONES`.
        spread: the kernels' shape: a pose plus a standard normal vector times this matrix.
    """

    poses: Float[np.ndarray, "kernel bone 3"]
    spread: Float[np.ndarray, "rank bone*3"]


@cache
def shipped_prior(half: Literal["train", "test"]) -> PosePrior:
    """The prior that ships with the library, of one of two halves that share no recorded clip."""
    from safetensors.numpy import load

    arrays = load(resources.files("tripose").joinpath("weights", _FILE).read_bytes())
    return PosePrior(arrays[f"{half}.poses"].astype(np.float64), arrays[f"{half}.spread"].astype(np.float64))


def sample_pose(
    rng: np.random.Generator, prior: Literal["train", "test"] | PosePrior = "train"
) -> Float[np.ndarray, "bone 3"]:
    """A random human pose: rotation vectors (rad) of `POSED_BONES`, see `tripose.data.synthetic.motion_body`.

    Half of the poses are of the prior, half within the limits of the joints alone; either side may be the left one.

    Args:
        rng: the source of chance; its state decides the pose.
        prior: a half of the shipped prior, or one of your own motion (`fit_prior`).
    """
    prior = prior if isinstance(prior, PosePrior) else shipped_prior(prior)
    by_limits = rng.random() < 0.5
    for _ in range(_TRIES):  # about one draw in seven is inside itself
        pose = _finish(rng, limit_pose(rng) if by_limits else prior_pose(rng, prior))
        if not collides(joint_positions(pose)):
            break
    return pose


def prior_pose(rng: np.random.Generator, prior: PosePrior) -> Float[np.ndarray, "bone 3"]:
    """A pose of the prior alone: a recorded one or two or three put together, each turned a little."""
    pose = _recorded(rng, prior).copy()
    for rows in (_ARM_ROWS, _LEG_ROWS):
        if rng.random() < _SWAP:
            pose[rows] = _recorded(rng, prior)[rows]
    pose += (rng.standard_normal(len(prior.spread)) @ prior.spread).reshape(pose.shape)
    pose[BONE["root"], 2] = 0
    for side in "LR":
        pose[BONE[f"wrist.{side}"]] += _WRIST * rng.standard_normal(3)
    look = _HEAD * rng.standard_normal(3) * (0.5, 0.3, 1)
    pose[[BONE["neck01"], BONE["head"]]] += look
    back = _BACK * rng.standard_normal(3)  # bends of the three, the pelvis turning against them
    pose[[BONE["spine05"], BONE["spine03"], BONE["spine01"]], 0] += back
    pose[BONE["root"], 0] -= back.sum() / 2
    pose[[BONE["upperleg01.L"], BONE["upperleg01.R"]], 0] += back.sum() / 2
    return pose


def _recorded(rng: np.random.Generator, prior: PosePrior) -> Float[np.ndarray, "bone 3"]:
    pose = prior.poses[rng.integers(len(prior.poses))]
    return mirror_pose(pose) if rng.random() < 0.5 else pose


def _finish(rng: np.random.Generator, pose: Float[np.ndarray, "bone 3"]) -> Float[np.ndarray, "bone 3"]:
    pose = pose + _NOISE * rng.standard_normal(pose.shape)
    pose[BONE["root"], 2] = 0
    pose = keep_limits(pose)
    return mirror_pose(pose) if rng.random() < 0.5 else pose
