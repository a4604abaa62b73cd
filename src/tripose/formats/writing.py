"""What every writer shares: atomic files, the choice of a person, and the change of the up axis."""

from __future__ import annotations

import os
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import replace
from pathlib import Path
from typing import get_args

import numpy as np
from jaxtyping import Float

from tripose.cameras import Up
from tripose.errors import TriposeError
from tripose.pose import Pose3D

MM_PER_UNIT = {"mm": 1.0, "cm": 10.0, "m": 1000.0}
"""Length units that files may be in."""


@contextmanager
def atomic(path: Path, suffix: str = "") -> Iterator[Path]:
    """A temporary path beside `path`, which it replaces when the block succeeds; when it fails nothing is left.

    Args:
        path: the file to be.
        suffix: what the temporary name has to end with.

    Raises:
        TriposeError: the folder is missing or cannot be written to, or the disk is full.
    """
    if not path.parent.is_dir():
        raise TriposeError(f"{path} cannot be written: there is no folder {path.parent.absolute()}")
    temporary = path.with_name(f".{path.name}.{os.getpid()}{suffix}")
    try:
        temporary.touch()  # finds a read-only folder before any library does
        yield temporary
        os.replace(temporary, path)
    except OSError as error:
        raise TriposeError(
            f"{path} cannot be written in {path.parent.absolute()}: {error.strerror or error}"
        ) from error
    finally:
        temporary.unlink(missing_ok=True)


def only_person(poses: Pose3D, person: str) -> Pose3D:
    """The poses of one person.

    Raises:
        TriposeError: there is no such person; the known ones are listed.
    """
    if person not in poses.persons:
        raise TriposeError(f"the poses have no person {person!r}; they have {', '.join(poses.persons) or 'nobody'}")
    i = poses.persons.index(person)
    one = slice(i, i + 1)
    return replace(
        poses,
        persons=(person,),
        position_mm=poses.position_mm[:, one],
        confidence=poses.confidence[:, one],
        n_views=None if poses.n_views is None else poses.n_views[:, one],
        reprojection_px=None if poses.reprojection_px is None else poses.reprojection_px[:, :, one],
        covariance_mm2=None if poses.covariance_mm2 is None else poses.covariance_mm2[:, one],
    )


def turn_up(poses: Pose3D, to_up: Up, world_up: Up | None = None) -> Pose3D:
    """The poses in a world that is turned until `to_up` points up, see `rotate_up`.

    Args:
        poses: mm, world frame.
        to_up: the axis that shall point up.
        world_up: the axis that points up now; None means what the poses say.

    Raises:
        TriposeError: neither the poses nor `world_up` say which axis points up, or what is said is no axis.
    """
    from_up = world_up or poses.up
    if from_up is None:
        raise TriposeError(
            f"the poses do not say which world axis points up, so they cannot be turned to {to_up} up: pass world_up="
        )
    covariance = poses.covariance_mm2
    if covariance is not None:
        half = rotate_up(covariance, from_up, to_up).swapaxes(-1, -2)
        covariance = rotate_up(half, from_up, to_up).swapaxes(-1, -2)
    return replace(poses, position_mm=rotate_up(poses.position_mm, from_up, to_up), covariance_mm2=covariance, up=to_up)


def rotate_up(points: Float[np.ndarray, "*batch 3"], from_up: Up, to_up: Up) -> Float[np.ndarray, "*batch 3"]:
    """Turn points from a world where `from_up` points up to one where `to_up` does; handedness is kept.

    Between two positive axes the coordinates move cyclically, as Pose2Sim does: z up to y up is
    ``(x, y, z) -> (y, z, x)``. A negative axis is first turned half around x (around y when it is -x), so -y up
    to y up is OpenCV to OpenGL, ``(x, -y, -z)``. Turning there and back changes nothing.

    Raises:
        TriposeError: `from_up` or `to_up` is no axis.
    """
    matrix = _to_z_up(to_up).T @ _to_z_up(from_up)
    # A signed permutation: indexing, unlike a matrix product, spares the other coordinates when one is NaN.
    turned: Float[np.ndarray, "*batch 3"] = points[..., np.abs(matrix).argmax(axis=1)] * matrix.sum(axis=1)
    return turned


def _to_z_up(up: Up) -> Float[np.ndarray, "3 3"]:
    if up not in get_args(Up):
        raise TriposeError(f"{up!r} is no axis that can point up; those are {', '.join(get_args(Up))}")
    axis = "xyz".index(up[-1])
    half_turn = np.ones(3)
    if up.startswith("-"):
        half_turn[[axis, 2 if axis != 2 else 1]] = -1
    return np.roll(np.eye(3), 2 - axis, axis=0) * half_turn
