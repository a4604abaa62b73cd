"""C3D: the binary files of motion capture laboratories, all persons in one file."""

from __future__ import annotations

from pathlib import Path

import numpy as np

from tripose.errors import TriposeError, missing_extra
from tripose.formats.writing import atomic
from tripose.pose import Pose3D

MAX_FRAMES = 65535
"""The header counts frames in 16 bits."""


def write_c3d(poses: Pose3D, path: Path) -> None:
    """Write joints as points in mm; a missing joint is NaN with residual -1.

    The world stays as it is. Labels are joint names, with several persons ``person_0:left_knee``. C3D stores 32-bit
    floats: values are exact to 0.001 mm within 16 m of the origin.

    Args:
        poses: mm, world frame.
        path: the file, written atomically.

    Raises:
        TriposeError: `ezc3d` is not installed, more frames than C3D can count or none, or a folder that
            cannot be written to.
    """
    try:
        import ezc3d
    except ImportError as error:
        raise missing_extra("ezc3d", "export") from error
    frames = len(poses.position_mm)
    if not 0 < frames <= MAX_FRAMES:
        raise TriposeError(
            f"{path}: a C3D file holds 1 to {MAX_FRAMES} frames and the poses have {frames}: write another format"
        )
    joints = poses.skeleton.joints
    labels = list(joints) if len(poses.persons) == 1 else [f"{p}:{j}" for p in poses.persons for j in joints]
    xyz = poses.position_mm.reshape(frames, len(labels), 3).transpose(2, 1, 0)  # [3, point, time]
    missing = ~np.isfinite(xyz).all(axis=0)
    points = np.ones((4, *xyz.shape[1:]))
    points[:3] = np.where(missing, np.nan, xyz)

    file = ezc3d.c3d()
    file["parameters"]["POINT"]["RATE"]["value"] = [poses.fps]
    file["parameters"]["POINT"]["LABELS"]["value"] = labels
    file["parameters"]["POINT"]["UNITS"]["value"] = ["mm"]
    file["data"]["points"] = points
    file["data"]["meta_points"]["residuals"] = np.where(missing, -1.0, 0.0)[None]
    with atomic(path, ".c3d") as temporary:
        file.write(str(temporary))  # ezc3d would add .c3d, in small letters, to any other name
