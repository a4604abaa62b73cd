"""netCDF: the file that keeps everything, in the convention of the `movement` package (0.17).

Dimensions are time, space, keypoint, individual; `movement` and plain xarray read ``position`` and ``confidence``.
"""

from __future__ import annotations

import json
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from tripose.errors import TriposeError
from tripose.formats.writing import MM_PER_UNIT, atomic
from tripose.pose import Pose3D
from tripose.skeleton import Skeleton, custom

if TYPE_CHECKING:
    import xarray as xr

_POINT = ("time", "individual", "keypoint")
_DIMS = {
    "position": (*_POINT, "space"),
    "confidence": _POINT,
    "n_views": _POINT,
    "reprojection_px": ("time", "view", "individual", "keypoint"),
    "covariance_mm2": (*_POINT, "space", "space_2"),
    "prior_share": _POINT,
    "view_share": ("time", "view", "individual", "keypoint"),
}
"""Dimensions of every variable in the order of `Pose3D`; in the file space stands before keypoint and individual."""

_FILE_ORDER = ("time", "view", "space", "space_2", "keypoint", "individual")
_PLURAL = {"keypoints": "keypoint", "individuals": "individual"}  # movement before 0.17


def write_netcdf(poses: Pose3D, path: Path) -> None:
    """Write every field of the poses; `read_netcdf` gets them back unchanged.

    Lengths are in mm (attribute ``length_unit``) in the world frame, whose up axis is the attribute ``up``.

    Raises:
        TriposeError: a folder that cannot be written to.
    """
    dataset = _dataset(poses)
    with atomic(path) as temporary:
        dataset.to_netcdf(temporary, engine="h5netcdf")


def read_netcdf(path: Path, unit: str | None = None) -> Pose3D:
    """Read poses that `write_netcdf` or `movement` wrote.

    Args:
        path: a netCDF-4 file.
        unit: length unit (mm, cm or m) of a file that does not name its own (attribute ``length_unit``).

    Returns:
        Poses in mm. A file of another program has no up axis and no extra arrays, and its skeleton has the usual
        bones between those of its keypoints that have usual names.

    Raises:
        TriposeError: no such file, not netCDF-4, not 3D poses, no frame rate, or no length unit.
    """
    import xarray as xr

    if not path.is_file():
        raise TriposeError(f"there is no file {path}")
    try:
        with xr.open_dataset(path, engine="h5netcdf", decode_times=False) as file:
            dataset = file.load()
    except (OSError, ValueError) as error:
        raise TriposeError(f"{path} cannot be read as netCDF-4: it is damaged or another kind of file") from error
    dataset = dataset.rename({old: new for old, new in _PLURAL.items() if old in dataset.dims})
    if missing := [name for name in ("position", "confidence") if name not in dataset]:
        raise TriposeError(f"{path} has no variable {missing[0]!r}: it does not hold poses as tripose and movement do")
    position = dataset["position"]
    if lacking := [dim for dim in _DIMS["position"] if dim not in position.dims]:
        raise TriposeError(
            f"{path}: 'position' has no dimension {lacking[0]!r}, only {', '.join(map(str, position.dims))}"
        )
    # movement also allows one confidence for all keypoints of an individual
    dataset["confidence"] = dataset["confidence"].broadcast_like(position.isel(space=0, drop=True))
    return _poses(dataset, path, unit)


def _dataset(poses: Pose3D) -> xr.Dataset:
    import xarray as xr

    skeleton = poses.skeleton
    arrays = {
        "position": poses.position_mm,
        "confidence": poses.confidence,
        "n_views": poses.n_views,
        "reprojection_px": poses.reprojection_px,
        "covariance_mm2": poses.covariance_mm2,
        "prior_share": poses.prior_share,
        "view_share": poses.view_share,
    }
    attributes = {
        "source_software": "tripose",
        "ds_type": "poses",
        "fps": poses.fps,
        "time_unit": "seconds",
        "length_unit": "mm",
        "skeleton": skeleton.name,
        "bones": json.dumps(skeleton.bones),
        "root": skeleton.root,
        "up": poses.up,
        "notes": json.dumps(poses.notes),
    }
    dataset = xr.Dataset(
        {name: (_DIMS[name], array) for name, array in arrays.items() if array is not None},
        coords={
            "time": poses.time_s,
            "space": ["x", "y", "z"],
            "keypoint": list(skeleton.joints),
            "individual": list(poses.persons),
            "view": list(poses.views),
        },
        attrs={name: value for name, value in attributes.items() if value is not None},
    )
    return dataset.transpose(*_FILE_ORDER, missing_dims="ignore")


def _poses(dataset: xr.Dataset, path: Path, unit: str | None) -> Pose3D:
    about = dataset.attrs
    scale = _mm_per_unit(about.get("length_unit", unit), path)
    if dataset.sizes["space"] != 3:
        raise TriposeError(f"{path} holds positions in {dataset.sizes['space']} dimensions; 3D poses have 3")
    fps = about.get("fps")
    if not fps:
        raise TriposeError(f"{path} does not say its frame rate: set the attribute 'fps' of the dataset")

    def array(name: str) -> Any:
        if name not in dataset:
            return None
        return np.ascontiguousarray(dataset[name].transpose(*_DIMS[name]).values)

    return Pose3D(
        position_mm=array("position") * scale,
        confidence=array("confidence"),
        skeleton=_skeleton(dataset),
        fps=float(fps),
        persons=_names(dataset, "individual"),
        views=_names(dataset, "view"),
        n_views=array("n_views"),
        reprojection_px=array("reprojection_px"),
        covariance_mm2=array("covariance_mm2"),
        prior_share=array("prior_share"),
        view_share=array("view_share"),
        up=about.get("up"),
        notes=json.loads(about.get("notes", "{}")),
    )


def _skeleton(dataset: xr.Dataset) -> Skeleton:
    about, joints = dataset.attrs, _names(dataset, "keypoint")
    if "skeleton" not in about:
        return custom(str(about.get("source_software", "unknown")), joints)
    bones = tuple((a, b) for a, b in json.loads(about["bones"]))
    return Skeleton(about["skeleton"], joints, bones, about.get("root"))


def _names(dataset: xr.Dataset, dim: str) -> tuple[str, ...]:
    return tuple(map(str, dataset[dim].values)) if dim in dataset.coords else ()


def _mm_per_unit(unit: str | None, path: Path) -> float:
    if unit is None:
        raise TriposeError(f"{path} does not say its length unit: pass unit='mm', 'cm' or 'm'")
    if unit not in MM_PER_UNIT:
        raise TriposeError(f"{path}: the length unit {unit!r} is unknown; known are {', '.join(MM_PER_UNIT)}")
    return MM_PER_UNIT[unit]
