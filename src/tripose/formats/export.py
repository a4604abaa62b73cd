"""Poses to a file for another program, chosen by the suffix."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Literal

from tripose.cameras import Up
from tripose.errors import TriposeError
from tripose.formats.c3d import write_c3d
from tripose.formats.netcdf import write_netcdf
from tripose.formats.table import write_csv, write_json, write_parquet
from tripose.formats.trc import write_trc
from tripose.formats.writing import only_person, turn_up
from tripose.pose import Pose3D

_WRITERS: dict[str, Callable[[Pose3D, Path], None]] = {
    ".nc": write_netcdf,
    ".c3d": write_c3d,
    ".csv": write_csv,
    ".parquet": write_parquet,
    ".json": write_json,
}


def export(
    poses: Pose3D,
    path: Path | str,
    *,
    up: Up | None = None,
    unit: Literal["mm", "m"] | None = None,
    person: str | None = None,
    world_up: Up | None = None,
) -> list[Path]:
    """Write poses for another program: ``.nc .trc .c3d .csv .parquet .json``.

    TRC is in m with y up unless told otherwise and holds one person, so several persons give several files,
    ``<stem>_<person>.trc``. All other files are in mm, in the world as calibrated unless `up` is given.

    Args:
        poses: mm, world frame.
        path: the file; an old one is replaced once the new one is complete.
        up: the axis that shall point up, reached by a rotation (`tripose.formats.writing.rotate_up`).
        unit: length unit of the file; only TRC can be in m.
        person: write this person only.
        world_up: the world axis that points up, when the poses do not say.

    Returns:
        The files written.

    Raises:
        TriposeError: an unknown suffix, unit, person or up axis, a library that is not installed, or a folder that
            is missing or cannot be written to.
    """
    path = Path(path)
    suffix = path.suffix.lower()
    if suffix != ".trc" and suffix not in _WRITERS:
        raise TriposeError(f"{path}: the suffix {path.suffix!r} is unknown; known are .trc {' '.join(_WRITERS)}")
    if person is not None:
        poses = only_person(poses, person)
    if suffix == ".trc":
        return _export_trc(poses, path, up or "y", unit or "m", world_up)
    if unit not in (None, "mm"):
        raise TriposeError(f"{path}: a {suffix} file is always in mm, not in {unit!r}")
    _WRITERS[suffix](poses if up is None else turn_up(poses, up, world_up), path)
    return [path]


def _export_trc(poses: Pose3D, path: Path, up: Up, unit: Literal["mm", "m"], world_up: Up | None) -> list[Path]:
    if len(poses.persons) < 2:
        write_trc(poses, path, up=up, unit=unit, world_up=world_up)
        return [path]
    files = {person: path.with_name(f"{path.stem}_{_in_file_name(person)}{path.suffix}") for person in poses.persons}
    for person, file in files.items():
        write_trc(poses, file, up=up, unit=unit, person=person, world_up=world_up)
    return list(files.values())


def _in_file_name(person: str) -> str:
    if Path(person).name != person or "\\" in person:
        raise TriposeError(f"person {person!r} cannot be part of a file name: pass person= and a path of your own")
    return person
