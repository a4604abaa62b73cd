"""A pose prior of recorded motion: the poses that differ most, and how poses vary."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
from jaxtyping import Float

from tripose.data.synthetic.motion_body import BONE, joint_positions
from tripose.data.synthetic.prior import PosePrior
from tripose.data.synthetic.prior_limits import keep_limits

# Kernels as wide as 0.25 standard deviations of all poses, along the 16 directions that matter.
_WIDTH, _RANK = 0.25, 16


def fit_prior(motions: Sequence[Float[np.ndarray, "_ bone 3"]], kernels: int = 700) -> PosePrior:
    """A prior of recorded motion, see `retarget` and `read_motions`.

    Clips repeat themselves, so kernels stand where poses are farthest apart (Gonzalez 1985, on joint positions): a walk
    of a minute counts no more than one step.

    Args:
        motions: poses by clip.
        kernels: how many poses to keep at most.
    """
    poses = keep_limits(np.concatenate(list(motions)))
    upright = poses.copy()  # or else the most tilted of all would be chosen
    upright[:, BONE["root"]] = 0
    chosen = poses[_farthest(joint_positions(upright).reshape(len(poses), -1), min(kernels, len(poses)))]
    flat = chosen.reshape(len(chosen), -1)
    _, scale, directions = np.linalg.svd(flat - flat.mean(0), full_matrices=False)
    spread = _WIDTH * scale[:_RANK, None] / np.sqrt(max(len(flat) - 1, 1)) * directions[:_RANK]
    return PosePrior(chosen, spread)


def _farthest(points: Float[np.ndarray, "pose coordinate"], count: int) -> list[int]:
    """Greedily the points that are farthest from those taken before, beginning with the one nearest to the mean."""
    chosen = [int(np.argmin(((points - points.mean(0)) ** 2).sum(1)))]
    nearest = ((points - points[chosen[0]]) ** 2).sum(1)
    while len(chosen) < count:
        chosen.append(int(np.argmax(nearest)))
        nearest = np.minimum(nearest, ((points - points[chosen[-1]]) ** 2).sum(1))
    return chosen
