"""What the calibration readers and writers share: one camera as a file states it, checked pieces of it, units."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Literal, get_args

import numpy as np
from jaxtyping import Float

from tripose.cameras import Cameras, Up
from tripose.errors import TriposeError
from tripose.formats.writing import MM_PER_UNIT
from tripose.lens import LENS_COEFFICIENTS

Unit = Literal["mm", "cm", "m"]

_PER_FRAME = " (one pose per camera; per-frame board poses of a calibration run are not camera poses)"


@dataclass(frozen=True)
class RawCamera:
    """One camera as its file states it.

    Attributes:
        name: unique in the rig.
        K: intrinsic matrix, px.
        R: world to camera.
        t: world to camera, in the unit of the file.
        distortion: coefficients in OpenCV's order, or ``k1 k2 k3 k4`` of its fisheye model.
        size_px: width and height, None when the file does not say.
        fisheye: which of the two lens models.
    """

    name: str
    K: Float[np.ndarray, "3 3"]
    R: Float[np.ndarray, "3 3"]
    t: Float[np.ndarray, " 3"]
    distortion: tuple[float, ...] = ()
    size_px: tuple[int, int] | None = None
    fisheye: bool = False


def build_cameras(
    raw: Sequence[RawCamera],
    unit: Unit,
    up: Up | None = None,
    sizes_px: Mapping[str, tuple[int, int]] | None = None,
) -> Cameras:
    """Make a rig of cameras; lengths become mm.

    A size that the file does not state comes from `sizes_px`; without one the principal point is taken to be the
    centre of the image: width = round(2 cx + 1), height = round(2 cy + 1).
    """
    if not raw:
        raise TriposeError("the calibration holds no camera")
    known = sizes_px or {}
    sizes = [c.size_px or known.get(c.name) or _size_around(c.K) for c in raw]
    return Cameras.build(
        names=[c.name for c in raw],
        K=np.array([c.K for c in raw]),
        R=np.array([c.R for c in raw]),
        t_mm=np.array([c.t for c in raw]) * MM_PER_UNIT[unit],
        size_px=sizes,
        distortion=[c.distortion for c in raw],
        fisheye=[c.fisheye for c in raw],
        up=up,
    )


def choose_unit(asked: Unit | None, stated: object, default: Unit) -> Unit:
    """The unit of a file: what it states, else what the caller says, else the format's usual one.

    Raises:
        TriposeError: an unknown unit, or the caller contradicts the file.
    """
    for unit in (asked, stated):
        if unit is not None and unit not in tuple(MM_PER_UNIT):  # a tuple, for what a file states may have no hash
            raise TriposeError(f"unknown unit {unit!r}; known are {', '.join(MM_PER_UNIT)}")
    if asked is not None and stated is not None and asked != stated:
        raise TriposeError(f"the file states its unit, {stated!r}, but it was to be read in {asked!r}")
    return stated or asked or default  # type: ignore[return-value]


def checked_up(value: object) -> Up | None:
    """The up axis that a file states, or None.

    Raises:
        TriposeError: not an axis.
    """
    if value is not None and value not in get_args(Up):
        raise TriposeError(f"the up axis is {value!r}; it must be one of {', '.join(get_args(Up))}")
    return value  # type: ignore[return-value]


def require(table: Mapping[str, Any], key: str, camera: str) -> Any:
    """The value of a key that every camera must have.

    Raises:
        TriposeError: the key is missing.
    """
    if key not in table:
        raise TriposeError(f"camera {camera!r} has no {key!r}")
    return table[key]


def numbers(value: object, camera: str, key: str) -> Float[np.ndarray, "*shape"]:
    """An array of numbers.

    Raises:
        TriposeError: text, or rows of different lengths.
    """
    try:
        return np.asarray(value, dtype=np.float64)
    except (TypeError, ValueError, OverflowError):
        raise TriposeError(f"camera {camera!r}: {key!r} is not an array of numbers") from None


def square(value: object, camera: str, key: str) -> Float[np.ndarray, "3 3"]:
    """A 3x3 matrix, given as such or as nine numbers row by row."""
    array = numbers(value, camera, key)
    if array.shape not in ((3, 3), (9,)):
        raise TriposeError(f"camera {camera!r}: {key!r} has shape {array.shape}, expected (3, 3)")
    return array.reshape(3, 3)


def vector(value: object, camera: str, key: str) -> Float[np.ndarray, " 3"]:
    """Three numbers, as a row or a column."""
    array = numbers(value, camera, key)
    if array.size != 3:
        raise TriposeError(f"camera {camera!r}: {key!r} has shape {array.shape}, expected 3 numbers{_PER_FRAME}")
    return array.ravel()


def rotation(value: object, camera: str, key: str) -> Float[np.ndarray, "3 3"]:
    """A rotation given as a matrix or as a rotation vector (Rodrigues), as a matrix."""
    from scipy.spatial.transform import Rotation

    array = numbers(value, camera, key)
    if array.shape in ((3, 3), (9,)):
        return array.reshape(3, 3)
    if array.size != 3:
        raise TriposeError(
            f"camera {camera!r}: {key!r} has shape {array.shape}, expected a rotation vector or a 3x3 matrix"
            f"{_PER_FRAME}"
        )
    matrix: Float[np.ndarray, "3 3"] = Rotation.from_rotvec(array.ravel()).as_matrix()
    return matrix


def image_size(value: object, camera: str, key: str) -> tuple[int, int]:
    """Width and height."""
    array = numbers(value, camera, key)
    if array.size != 2 or not (np.abs(array) < 1e6).all():
        raise TriposeError(f"camera {camera!r}: {key!r} is {value}, expected width and height")
    width, height = array.ravel()
    return int(width), int(height)


def coefficients(value: object, camera: str, key: str) -> tuple[float, ...]:
    """Distortion coefficients; `Cameras.build` checks their number."""
    return tuple(numbers(value, camera, key).ravel().tolist())


def _size_around(K: Float[np.ndarray, "3 3"]) -> tuple[int, int]:
    if not np.isfinite(K).all():
        return 1, 1  # any size will do: the rig is about to be refused
    return round(2 * float(K[0, 2]) + 1), round(2 * float(K[1, 2]) + 1)


def kept_coefficients(cameras: Cameras, view: int) -> list[float]:
    """The distortion of one view for a writer: the fewest coefficients (4, 5, 8, 12 or 14) that lose nothing."""
    padded: list[float] = cameras.distortion[view].tolist()
    if cameras.lens[view] == "pinhole":
        return [0.0] * 4
    if cameras.lens[view] == "fisheye":
        return padded[:4]
    return next(padded[:n] for n in LENS_COEFFICIENTS if n >= 4 and not any(padded[n:]))
