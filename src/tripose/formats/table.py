"""Long tables (CSV, Parquet) with one row per frame, person and joint, and one JSON object with nested arrays."""

from __future__ import annotations

import json
import warnings
from pathlib import Path
from typing import Any

import numpy as np
from jaxtyping import Float, Shaped

from tripose.errors import missing_extra
from tripose.formats.writing import atomic
from tripose.pose import Pose3D

_INDEX = ("frame", "time_s", "person", "joint")


def write_csv(poses: Pose3D, path: Path) -> None:
    """Write the columns of `columns` as CSV; a missing value is an empty cell.

    Lengths are in mm, as the column names say, to 0.0001 mm; world frame.

    Raises:
        TriposeError: a folder that cannot be written to.
    """
    table = columns(poses)
    index = zip(*(table[name].tolist() for name in _INDEX), strict=True)
    values = np.column_stack([column for name, column in table.items() if name not in _INDEX])
    values[~np.isfinite(values)] = np.nan
    row = ",".join("%.0f" if name == "n_views" else "%.4f" for name in table if name not in _INDEX)
    quoted = {name: _quoted(name) for name in (*poses.persons, *poses.skeleton.joints)}
    with atomic(path) as temporary, temporary.open("w", encoding="utf-8", newline="\n") as file:
        file.write(",".join(table) + "\n")
        for (frame, time, person, joint), numbers in zip(index, values.tolist(), strict=True):
            cells = (row % tuple(numbers)).replace("nan", "")
            file.write(f"{frame},{time:.6f},{quoted[person]},{quoted[joint]},{cells}\n")


def write_parquet(poses: Pose3D, path: Path) -> None:
    """Write the columns of `columns` as Parquet; a missing value is null, what `metadata` says is in the schema.

    Raises:
        TriposeError: `pyarrow` is not installed, or a folder that cannot be written to.
    """
    try:
        import pyarrow as pa
        from pyarrow import parquet
    except ImportError as error:
        raise missing_extra("pyarrow", "export") from error
    # from_pandas: NaN becomes null
    table = pa.table({name: pa.array(column, from_pandas=True) for name, column in columns(poses).items()})
    about = {key: value if isinstance(value, str) else json.dumps(value) for key, value in metadata(poses).items()}
    with atomic(path) as temporary:
        parquet.write_table(table.replace_schema_metadata(about), temporary)


def write_json(poses: Pose3D, path: Path) -> None:
    """Write one object: what `metadata` says, and arrays nested as time, person, joint, to four decimals.

    ``position_mm`` and ``sigma_mm`` (standard deviations) also have x, y, z inside. A missing number is null, and so
    is an array that the poses do not have.

    Raises:
        TriposeError: a folder that cannot be written to.
    """
    arrays = {
        "position_mm": poses.position_mm,
        "confidence": poses.confidence,
        "n_views": poses.n_views,
        "reprojection_px": _mean_reprojection_px(poses),
        "sigma_mm": _sigma_mm(poses),
    }
    head = json.dumps(metadata(poses), allow_nan=False).removesuffix("}")
    with atomic(path) as temporary, temporary.open("w", encoding="utf-8") as file:
        file.write(head)
        file.writelines(f',\n"{name}": {_json_array(array)}' for name, array in arrays.items())
        file.write("}\n")


def metadata(poses: Pose3D) -> dict[str, Any]:
    """Unit, frame rate, up axis, skeleton, persons and notes, ready for JSON."""
    skeleton = poses.skeleton
    return {
        "source_software": "tripose",
        "length_unit": "mm",
        "fps": poses.fps,
        "up": poses.up,
        "skeleton": skeleton.name,
        "joints": skeleton.joints,
        "bones": skeleton.bones,
        "root": skeleton.root,
        "persons": poses.persons,
        "views": poses.views,
        "notes": poses.notes,
    }


def columns(poses: Pose3D) -> dict[str, Shaped[np.ndarray, " row"]]:
    """The long table: a row per frame, person and joint, in that order, whether the joint was seen or not.

    ``frame`` counts from 0; ``reprojection_px`` is the mean over the views that saw the joint, outliers included;
    ``sigma_x_mm`` and so on are standard deviations. The columns are always the same; what the poses lack is NaN.
    """
    time, person, joint = shape = poses.confidence.shape
    nothing = np.full(shape, np.nan)
    reprojection, sigma = _mean_reprojection_px(poses), _sigma_mm(poses)
    values = {
        "frame": np.arange(time)[:, None, None],
        "time_s": poses.time_s[:, None, None],
        "person": np.array(poses.persons, dtype=str)[None, :, None],
        "joint": np.array(poses.skeleton.joints, dtype=str)[None, None, :],
        "x_mm": poses.position_mm[..., 0],
        "y_mm": poses.position_mm[..., 1],
        "z_mm": poses.position_mm[..., 2],
        "confidence": poses.confidence,
        "n_views": nothing if poses.n_views is None else poses.n_views,
        "reprojection_px": nothing if reprojection is None else reprojection,
        "sigma_x_mm": nothing if sigma is None else sigma[..., 0],
        "sigma_y_mm": nothing if sigma is None else sigma[..., 1],
        "sigma_z_mm": nothing if sigma is None else sigma[..., 2],
    }
    return {name: np.broadcast_to(value, (time, person, joint)).reshape(-1) for name, value in values.items()}


def _mean_reprojection_px(poses: Pose3D) -> Float[np.ndarray, "time person joint"] | None:
    if poses.reprojection_px is None:
        return None
    with warnings.catch_warnings():
        warnings.filterwarnings("ignore", "Mean of empty slice")
        finite = np.where(np.isfinite(poses.reprojection_px), poses.reprojection_px, np.nan)  # inf: behind the camera
        mean: Float[np.ndarray, "time person joint"] = np.nanmean(finite, axis=1)
    return mean


def _sigma_mm(poses: Pose3D) -> Float[np.ndarray, "time person joint 3"] | None:
    if poses.covariance_mm2 is None:
        return None
    sigma: Float[np.ndarray, "time person joint 3"] = np.sqrt(np.diagonal(poses.covariance_mm2, axis1=-2, axis2=-1))
    return sigma


def _json_array(array: Shaped[np.ndarray, "*axes"] | None) -> str:
    if array is None:
        return "null"
    finite = np.where(np.isfinite(array), array, np.nan).round(4) if array.dtype.kind == "f" else array
    # Much faster than an array of objects with None; in an array of numbers NaN is only ever a missing one.
    return json.dumps(finite.tolist(), separators=(",", ":")).replace("NaN", "null")


def _quoted(cell: str) -> str:
    return '"' + cell.replace('"', '""') + '"' if any(c in cell for c in ',"\r\n') else cell
