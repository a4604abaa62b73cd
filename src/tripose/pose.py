"""Poses: keypoints in images (`Pose2D`) and joints in the world (`Pose3D`), as plain NumPy arrays.

Axis order is always time, view, person, joint, space. Missing is NaN, never zero.
"""

from __future__ import annotations

from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np
from jaxtyping import Float, Int

from tripose.errors import TriposeError
from tripose.skeleton import Skeleton

if TYPE_CHECKING:
    from tripose.cameras import Up


@dataclass(frozen=True)
class Pose2D:
    """Keypoints of people in synchronised views.

    Attributes:
        points_px: positions in the raw (distorted) images; NaN where a joint was not found. Persons of one view are
            in no particular order until `tripose.associate` has matched them.
        confidence: detection score in 0..1; 0 where a joint was not found.
        skeleton: the joints.
        views: view names, matched to cameras by name.
        fps: frames per second of the time axis.
        notes: how the keypoints came about: name -> text.
    """

    points_px: Float[np.ndarray, "time view person joint 2"]
    confidence: Float[np.ndarray, "time view person joint"]
    skeleton: Skeleton
    views: tuple[str, ...]
    fps: float
    notes: dict[str, str] = field(default_factory=dict)

    def __post_init__(self) -> None:
        shape = self.points_px.shape
        if len(shape) != 5 or shape[-1] != 2:
            raise TriposeError(f"points_px must be (time, view, person, joint, 2), got {shape}")
        if self.confidence.shape != shape[:-1]:
            raise TriposeError(f"confidence must be {shape[:-1]} like points_px, got {self.confidence.shape}")
        _check_axis("view", shape[1], len(self.views))
        _check_joints(shape[3], self.skeleton)


@dataclass(frozen=True)
class Pose3D:
    """Joints of people in the world.

    Attributes:
        position_mm: world frame; NaN where fewer views than asked for agree.
        confidence: 0..1, mean detection score of the views used; NaN where the position is.
        skeleton: the joints.
        fps: frames per second of the time axis.
        persons: one identity per person.
        views: names of the views behind the arrays below.
        n_views: number of views whose rays support the joint.
        reprojection_px: distance between the detected and the reprojected joint in each view, pixels of the ideal
            (undistorted) image; NaN where either is missing, infinite where the joint lies behind the camera. Views
            that were rejected as outliers keep their (large) distance.
        covariance_mm2: 3x3 covariance of each position: from the reprojection errors, or by the fusion network.
        prior_share: how much of a position what is known of bodies decided and not the views, 0..1; of fusion only.
        view_share: how much of what the views say each of them counts, one in sum; of fusion only.
        up: which world axis points up, if known.
        notes: how the poses came about (method, versions, warnings): name -> text.
    """

    position_mm: Float[np.ndarray, "time person joint 3"]
    confidence: Float[np.ndarray, "time person joint"]
    skeleton: Skeleton
    fps: float
    persons: tuple[str, ...] = ("person_0",)
    views: tuple[str, ...] = ()
    n_views: Int[np.ndarray, "time person joint"] | None = None
    reprojection_px: Float[np.ndarray, "time view person joint"] | None = None
    covariance_mm2: Float[np.ndarray, "time person joint 3 3"] | None = None
    prior_share: Float[np.ndarray, "time person joint"] | None = None
    view_share: Float[np.ndarray, "time view person joint"] | None = None
    up: Up | None = None
    notes: dict[str, str] = field(default_factory=dict)

    def __post_init__(self) -> None:
        shape = self.position_mm.shape
        if len(shape) != 4 or shape[-1] != 3:
            raise TriposeError(f"position_mm must be (time, person, joint, 3), got {shape}")
        _check_joints(shape[2], self.skeleton)
        _check_axis("person", shape[1], len(self.persons))
        time, person, joint = shape[:3]
        expected = {
            "confidence": (time, person, joint),
            "n_views": (time, person, joint),
            "reprojection_px": (time, len(self.views), person, joint),
            "covariance_mm2": (time, person, joint, 3, 3),
            "prior_share": (time, person, joint),
            "view_share": (time, len(self.views), person, joint),
        }
        for name, wanted in expected.items():
            value = getattr(self, name)
            if value is not None and value.shape != wanted:
                raise TriposeError(f"{name} must be {wanted}, got {value.shape}")

    @property
    def time_s(self) -> Float[np.ndarray, " time"]:
        """Time of each frame since the first one."""
        return np.arange(len(self.position_mm)) / self.fps

    def with_positions(self, position_mm: Float[np.ndarray, "time person joint 3"]) -> Pose3D:
        """The same poses at other positions, as filters return them."""
        return replace(self, position_mm=position_mm)

    def fill_gaps(self, max_gap_s: float) -> Pose3D:
        """Interpolate short gaps, see `tripose.filters.fill_gaps`."""
        from tripose.filters import fill_gaps

        return fill_gaps(self, max_gap_s)

    def lowpass(self, cutoff_hz: float) -> Pose3D:
        """Smooth without delay, see `tripose.filters.lowpass`."""
        from tripose.filters import lowpass

        return lowpass(self, cutoff_hz)

    def smooth(self, frames: int = 7) -> Pose3D:
        """Smooth by the frames around, each as surely as it is known, see `tripose.filters.smooth`."""
        from tripose.filters import smooth

        return smooth(self, frames)

    def save(self, path: Path | str) -> None:
        """Write a netCDF file, see `tripose.formats.netcdf`."""
        from tripose.formats.netcdf import write_netcdf

        write_netcdf(self, Path(path))

    @staticmethod
    def load(path: Path | str) -> Pose3D:
        """Read a netCDF file that `save` wrote."""
        from tripose.formats.netcdf import read_netcdf

        return read_netcdf(Path(path))


def bone_lengths_mm(poses: Pose3D) -> dict[tuple[str, str], Float[np.ndarray, "time person"]]:
    """Length of every bone of the skeleton in every frame, mm; NaN where an end is missing."""
    lengths = {}
    for (a, b), name in zip(poses.skeleton.bone_indices, poses.skeleton.bones, strict=True):
        difference = poses.position_mm[:, :, a] - poses.position_mm[:, :, b]
        lengths[name] = np.linalg.norm(difference, axis=-1)
    return lengths


def _check_axis(what: str, got: int, names: int) -> None:
    if got != names:
        raise TriposeError(f"{got} on the {what} axis, but {names} {what} names")


def _check_joints(got: int, skeleton: Skeleton) -> None:
    if got != len(skeleton):
        raise TriposeError(
            f"the data has {got} joints, but skeleton {skeleton.name!r} has {len(skeleton)}:"
            " name the skeleton that the keypoints were made with"
        )
