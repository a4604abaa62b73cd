"""``tripose evaluate`` of poses of several people: precision and recall, in the terminal and in a folder."""

from __future__ import annotations

import json
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path

import numpy as np

from tripose.data.scenes import Scene, read_index
from tripose.errors import TriposeError
from tripose.evaluation.markdown import text_table
from tripose.evaluation.people import match_people, people_cells, people_table, shared_joints
from tripose.evaluation.report import strict
from tripose.evaluation.tables import Table
from tripose.formats.netcdf import read_netcdf
from tripose.formats.writing import atomic
from tripose.pose import Pose3D
from tripose.skeleton import Skeleton

LEAST_JOINTS = 6
"""As many as the published transfer between data sets compares; see `tripose.data.joints.TRANSFER_JOINTS`."""


def evaluate_people(
    results: Sequence[Path], labels: Path | None, out: Path, *, say: Callable[[str], None] = lambda text: None
) -> Table:
    """Precision and recall of results against the truth of an index.

    Args:
        results: netCDF, one of each scene; frame i is number i of the scene, to which a result belongs by the name of
            its recording or of its file.
        labels: the index, see `tripose.data.scenes`.
        out: folder for metrics.json and report.md, made if it is not there.
        say: told which joints are compared.

    Returns:
        A row for each scene, and one for all.

    Raises:
        TriposeError: no labels; files that are damaged, hold nobody, or do not fit each other; `out` cannot be written.
    """
    if labels is None:
        raise TriposeError(f"{results[0]} holds poses without a truth: --labels INDEX.npz, which tripose prepare makes")
    truth = {scene.name: scene for scene in read_index(labels)}
    found = {file: _read(file) for file in results}
    taken: dict[str, Path] = {}
    for file, poses in found.items():
        name = _scene_name(file, poses, truth, labels)
        if name in taken:
            raise TriposeError(f"{taken[name]} and {file} are both of the scene {name!r}; give one of them")
        _check_frames(file, poses, truth[name], labels)
        taken[name] = file
    joints = _joints(found, truth[next(iter(taken))].skeleton)
    compared = f"{len(joints)}: {', '.join(joints)}"
    say(f"joints compared, {compared}")
    try:
        table = people_table({name: match_people(found[file], truth[name], joints) for name, file in taken.items()})
    except TriposeError as error:
        raise TriposeError(f"{labels}: {error}") from error
    about = {"results": ", ".join(map(str, results)), "truth": str(labels), "joints": compared}
    _write(table, about, out)
    return table


def _read(file: Path) -> Pose3D:
    poses = read_netcdf(file)
    if not np.isfinite(poses.position_mm).all(-1).any():
        raise TriposeError(f"{file} holds nobody: no joint has a position")
    return poses


def _scene_name(file: Path, poses: Pose3D, truth: Mapping[str, Scene], labels: Path) -> str:
    names = dict.fromkeys([poses.notes.get("recording", file.stem), file.stem])
    fits = [name for name in names if name in truth]
    if not fits:
        asked = " or ".join(map(repr, names))
        raise TriposeError(
            f"{labels} has no scene {asked}, after which {file} is named; it has {', '.join(truth) or 'none'}"
        )
    return fits[0]


def _check_frames(file: Path, poses: Pose3D, scene: Scene, labels: Path) -> None:
    last = int(scene.frame.max(initial=-1))
    if last >= len(poses.position_mm):
        raise TriposeError(
            f"{file} ends at frame {len(poses.position_mm) - 1}, and {labels} has a truth of {scene.name!r} up to "
            f"{last}: it is of a part of the recording, or of images whose numbers do not start at 0"
        )


def _joints(found: Mapping[Path, Pose3D], truth: Skeleton) -> tuple[str, ...]:
    joints = shared_joints([poses.skeleton for poses in found.values()], truth)
    if len(joints) < LEAST_JOINTS:
        names = " and ".join(dict.fromkeys(poses.skeleton.name for poses in found.values()))
        raise TriposeError(
            f"{', '.join(map(str, found))}: the joints of {names} have {len(joints)} names in common with those of "
            f"{truth.name} that count ({', '.join(joints) or 'none'}); at least {LEAST_JOINTS} are needed"
        )
    return joints


_LEGEND = (
    "AP: average precision of all predicted people by their scores, a hit being the first within so many mm of a true "
    "person. Recall: share of the true people who have somebody within 500 mm. MPJPE: mean distance of these, mm, over "
    "the joints that were found; missing, the share of their joints that were not."
)


def _write(table: Table, about: Mapping[str, str], folder: Path) -> None:
    try:
        folder.mkdir(parents=True, exist_ok=True)
    except OSError as error:
        raise TriposeError(f"{folder} cannot be made: {error.strerror}") from error
    head, *rows = people_cells(table)
    lines = "\n".join(f"- {name}: {text}" for name, text in about.items())
    report = "\n\n".join(["# Evaluation of several people", lines, text_table(head, rows), _LEGEND]) + "\n"
    texts = {
        "metrics.json": json.dumps({"about": about, "people": strict(table)}, indent=1, allow_nan=False) + "\n",
        "report.md": report,
    }
    for name, text in texts.items():
        with atomic(folder / name) as part:
            part.write_text(text, encoding="utf-8")
