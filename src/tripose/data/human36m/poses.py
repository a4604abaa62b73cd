"""The pose files of Human3.6M: CDF with one variable ``Pose`` of [1, frame, joints x 2 or 3] numbers."""

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
    return _read(path, 3)


def read_poses_2d(path: Path) -> Float[np.ndarray, "frame 32 2"]:
    """Read a file of ``D2_Positions``: pixels of the whole image.

    Raises:
        TriposeError: as `read_poses_3d`.
    """
    return _read(path, 2)


def _read(path: Path, space: int) -> Float[np.ndarray, "frame 32 space"]:
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
    if poses.ndim != 2 or poses.shape[1] != space * _JOINTS:
        raise TriposeError(
            f"{path} holds an array {list(poses.shape)}, expected [1, frames, {space * _JOINTS}]: the folder for files"
            f" like this is another than D{space}_Positions"
        )
    if not np.isfinite(poses).all():
        raise TriposeError(f"{path} holds numbers that are not finite: it is damaged, unpack it again")
    return poses.reshape(-1, _JOINTS, space)
