"""TRC: the marker files of OpenSim, one person a file."""

from __future__ import annotations

from pathlib import Path
from typing import Literal

from tripose.cameras import Up
from tripose.errors import TriposeError
from tripose.formats.writing import MM_PER_UNIT, atomic, only_person, turn_up
from tripose.pose import Pose3D


def write_trc(
    poses: Pose3D,
    path: Path,
    up: Up = "y",
    unit: Literal["m", "mm"] = "m",
    person: str | None = None,
    world_up: Up | None = None,
) -> None:
    """Write the joints of one person as markers; a missing joint is three blank cells.

    The file names its unit; it has no place for the up axis, which OpenSim takes to be y.

    Args:
        poses: mm, world frame.
        path: the file, written atomically.
        up: the axis that points up in the file, reached by a rotation (`tripose.formats.writing.rotate_up`).
        unit: length unit of the file; it is written to 0.0001 mm.
        person: whom to write; may be left out when there is only one.
        world_up: the world axis that points up, when the poses do not say.

    Raises:
        TriposeError: several persons and none chosen, an unknown person or unit, an unknown up axis of the
            poses, or a folder that cannot be written to.
    """
    if unit not in ("m", "mm"):
        raise TriposeError(f"{path}: a TRC file is in 'm' or 'mm', not in {unit!r}")
    if person is None and len(poses.persons) != 1:
        raise TriposeError(f"{path}: a TRC file holds one person; choose one of {', '.join(poses.persons) or 'nobody'}")
    one = turn_up(only_person(poses, person or poses.persons[0]), up, world_up)
    joints = one.skeleton.joints
    frames = len(one.position_mm)
    rate = f"{one.fps:.12g}"
    header = (
        f"PathFileType\t4\t(X/Y/Z)\t{path.name}",
        "DataRate\tCameraRate\tNumFrames\tNumMarkers\tUnits\tOrigDataRate\tOrigDataStartFrame\tOrigNumFrames",
        f"{rate}\t{rate}\t{frames}\t{len(joints)}\t{unit}\t{rate}\t1\t{frames}",
        "Frame#\tTime\t" + "".join(f"{joint}\t\t\t" for joint in joints),
        "\t\t" + "".join(f"X{i}\tY{i}\tZ{i}\t" for i in range(1, len(joints) + 1)),
        "",
    )
    # OpenSim drops a blank last cell, so every row, like the names above, ends with a tab.
    row = ("%.7f\t" if unit == "m" else "%.4f\t") * (3 * len(joints))
    values = one.position_mm.reshape(frames, -1) / MM_PER_UNIT[unit]
    with atomic(path) as temporary, temporary.open("w", encoding="utf-8", newline="\n") as file:
        file.writelines(f"{line}\n" for line in header)
        for i, (time, xyz) in enumerate(zip(one.time_s, values.tolist(), strict=True)):
            file.write(f"{i + 1}\t{time:.8f}\t{(row % tuple(xyz)).replace('nan', '')}\n")
