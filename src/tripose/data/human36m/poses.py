"""The pose files of Human3.6M: CDF with one variable ``Pose`` of [1, frame, joints x 3] numbers."""

from __future__ import annotations

from pathlib import Path

import numpy as np
from jaxtyping import Float

from tripose.errors import TriposeError, missing_extra

_JOINTS = 32


def read_poses_3d(path: Path) -> Float[np.ndarray, "frame 32 3"]:
    """Read a file of ``D3_Positions``: mm, world frame, z up.

    Raises:
        TriposeError: the package cdflib is not installed; no such file, truncated, or another kind of file.
    """
    try:
        import cdflib
    except ImportError:
        raise missing_extra("cdflib", "h36m") from None
    if not path.is_file():
        raise TriposeError(f"{path}: there is no such file of poses")
    try:
        poses = np.asarray(cdflib.CDF(path).varget("Pose"), np.float64)
    except Exception as error:  # cdflib reads on in whatever the bytes are, until something or other fails
        raise TriposeError(
            f"{path} cannot be read: it is truncated, damaged or no CDF file with the variable 'Pose' ({error})"
        ) from error
    if poses.ndim == 3 and len(poses) == 1:
        poses = poses[0]
    if poses.ndim != 2 or poses.shape[1] != 3 * _JOINTS:
        raise TriposeError(
            f"{path} holds an array {list(poses.shape)}, expected [1, frames, {3 * _JOINTS}]: the folder for files"
            f" like this is another than D3_Positions"
        )
    if not np.isfinite(poses).all():
        raise TriposeError(f"{path} holds numbers that are not finite: it is damaged, unpack it again")
    return poses.reshape(-1, _JOINTS, 3)
