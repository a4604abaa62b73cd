"""Smooth random motion for synthetic recordings: somebody who strolls about and moves from one pose to the next."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal

import numpy as np
from jaxtyping import Float

from tripose.data.synthetic.motion_body import joint_positions
from tripose.data.synthetic.prior import PosePrior, prior_pose, shipped_prior
from tripose.data.synthetic.prior_collision import collides
from tripose.data.synthetic.prior_limits import keep_limits

_BETWEEN_S = (0.4, 0.9)
# The next pose is the nearest of some: limbs then move as fast as recorded ones, wrists at 0.5 m/s in the mean and 4 at
# most (CMU's clips: 0.7 in the mean).
_CANDIDATES = 6
# At most a stroll, always turning to the same side, so that it stays within about 2 m.
_SPEED_MM_S, _TURN_RAD_S = 1100.0, (0.4, 1.3)


@dataclass(frozen=True)
class Motion:
    """A body in motion.

    Attributes:
        poses: rotation vectors (rad) of `POSED_BONES`.
        heading_rad: the turn about z; 0 heads along -y.
        position_mm: on the floor, about the origin.
    """

    poses: Float[np.ndarray, "frame bone 3"]
    heading_rad: Float[np.ndarray, " frame"]
    position_mm: Float[np.ndarray, "frame 2"]


def sample_motion(
    rng: np.random.Generator, n_frames: int, fps: float, prior: Literal["train", "test"] | PosePrior = "train"
) -> Motion:
    """A random motion through poses of the prior, interpolated without overshoot (Fritsch and Carlson 1980)."""
    from scipy.interpolate import PchipInterpolator

    prior = prior if isinstance(prior, PosePrior) else shipped_prior(prior)
    time = np.arange(n_frames) / fps
    keys = [0.0, rng.uniform(*_BETWEEN_S)]
    while keys[-1] < n_frames / fps:
        keys.append(keys[-1] + rng.uniform(*_BETWEEN_S))
    poses = [_next_pose(rng, prior, None)]
    for _ in keys[1:]:
        poses.append(_next_pose(rng, prior, poses[-1]))
    pace = PchipInterpolator(keys, _SPEED_MM_S * rng.beta(1, 1.5, len(keys)))(time)
    turning = rng.choice([-1, 1]) * PchipInterpolator(keys, rng.uniform(*_TURN_RAD_S, len(keys)))(time)
    heading = rng.uniform(0, 2 * np.pi) + np.cumsum(turning) / fps
    step = pace[:, None] * np.stack([np.sin(heading), -np.cos(heading)], axis=-1) / fps
    position = np.cumsum(step, axis=0)
    return Motion(keep_limits(PchipInterpolator(keys, poses)(time)), heading, position - position.mean(0))


def _next_pose(
    rng: np.random.Generator, prior: PosePrior, last: Float[np.ndarray, "bone 3"] | None
) -> Float[np.ndarray, "bone 3"]:
    """A pose that is near the last one and not inside itself, if there is one."""
    candidates = keep_limits(np.stack([prior_pose(rng, prior) for _ in range(_CANDIDATES)]))
    position = joint_positions(candidates)
    far = np.zeros(_CANDIDATES) if last is None else ((position - joint_positions(last)) ** 2).sum((1, 2))
    cost = [(collides(p), d) for p, d in zip(position, far, strict=True)]
    return np.asarray(candidates[min(range(_CANDIDATES), key=cost.__getitem__)])
