"""The tables that the command line prints about poses."""

from __future__ import annotations

import numpy as np
from rich.table import Table

from tripose.diagnosis import LIMBS, bone_statistics, reprojection_by_camera
from tripose.pose import Pose3D
from tripose.skeleton import LIMB_JOINTS


def summary_tables(poses: Pose3D) -> list[Table]:
    """Joints found, reprojection error per camera, and lengths of the long bones."""
    return [_cameras(poses), _bones(poses)]


def joints_found(poses: Pose3D) -> float:
    """Share of limb joints (all joints for other skeletons) times frames that have a position, 0..1."""
    joints = poses.skeleton.indices(LIMB_JOINTS) or list(range(len(poses.skeleton)))
    return float(np.isfinite(poses.position_mm[:, :, joints]).all(-1).mean())


def joints_expected(poses: Pose3D) -> float:
    """Share of limb joints times frames that what is known of bodies decided more than the views did, 0..1."""
    if poses.prior_share is None:
        return 0.0
    joints = poses.skeleton.indices(LIMB_JOINTS) or list(range(len(poses.skeleton)))
    return float((poses.prior_share[:, :, joints] > 0.5).mean())


def _cameras(poses: Pose3D) -> Table:
    found = f"{100 * joints_found(poses):.1f} % of limb joints found"
    if poses.prior_share is not None:
        found += f", {100 * joints_expected(poses):.1f} % expected rather than seen"
    title = f"{len(poses.position_mm)} frames, {found} ({poses.notes.get('method', '')})"
    table = Table(title=title, title_justify="left")
    table.add_column("camera")
    for column in ("reprojection px, median", "90 %", "joints"):
        table.add_column(column, justify="right")
    for name, error in reprojection_by_camera(poses).items():
        table.add_row(name, f"{error.median:.1f}", f"{error.p90:.1f}", str(error.n))
    return table


def _bones(poses: Pose3D) -> Table:
    table = Table(title="bone length, mm", title_justify="left")
    table.add_column("bone")
    for column in ("left, mean", "std", "right, mean", "std"):
        table.add_column(column, justify="right")
    bones = bone_statistics(poses)
    for (upper, lower), limb in LIMBS.items():
        sides = [bones.get((f"{side}_{upper}", f"{side}_{lower}")) for side in ("left", "right")]
        if any(sides):
            cells = [c for s in sides for c in ((f"{s.mean:.0f}", f"{s.std:.1f}") if s else ("", ""))]
            table.add_row(limb, *cells)
    return table
