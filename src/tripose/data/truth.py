"""The truth of a labelled recording: 3D keypoints in a netCDF or CSV file, or 2D annotations to triangulate."""

from __future__ import annotations

import csv
from collections import Counter
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import torch
from jaxtyping import Bool, Float, Int

from tripose.discovery import keypoint_views, late_starts, match_views
from tripose.errors import TriposeError
from tripose.formats.keypoints_coco import people_from_coco
from tripose.formats.keypoints_names import joint_name
from tripose.formats.keypoints_people import Person, read_json, skeleton_of
from tripose.formats.netcdf import read_netcdf
from tripose.formats.writing import MM_PER_UNIT
from tripose.geometry.triangulate import triangulate
from tripose.image_folder import frame_numbers
from tripose.recording import Recording
from tripose.skeleton import SKELETONS, Skeleton

TRUTH = ("truth.nc", "truth.csv", "annotations")
"""What truth is called in a recording's folder."""

# Headers of videos promise a frame more or less than there is.
_SLACK_FRAMES = 2
_KNOWN_JOINTS = {joint for skeleton in SKELETONS.values() for joint in skeleton.joints}


@dataclass(frozen=True)
class Truth:
    """Labelled people.

    Attributes:
        path: file or folder that says it.
        joints: names as there.
        frame: of every row, on the recording's time axis; ascending, a row for each person.
        keypoints_mm: world frame; NaN where unknown.
        seen: whether an annotator saw a joint in a view; None where nobody said.
        triangulated: whether positions come from 2D annotations.
    """

    path: Path
    joints: tuple[str, ...]
    frame: Int[np.ndarray, " row"]
    keypoints_mm: Float[np.ndarray, "row joint 3"]
    seen: Bool[np.ndarray, "row view joint"] | None = None
    triangulated: bool = False


def read_truth(recording: Recording, skeleton: Skeleton | None = None) -> Truth:
    """Read the truth of a recording, whatever it is in.

    Args:
        recording: with images.
        skeleton: of 2D annotations that do not name their joints.

    Raises:
        TriposeError: no truth or two, a damaged file, frames or cameras that the recording does not have.
    """
    found = [recording.folder / name for name in TRUTH if (recording.folder / name).exists()]
    if len(found) != 1:
        said = f"both {found[0].name} and {found[1].name}" if found else "no truth"
        raise TriposeError(f"{recording.folder}: there is {said}; one of {', '.join(TRUTH)} has to be there")
    match found[0].name:
        case "truth.nc":
            return _from_netcdf(found[0], recording)
        case "truth.csv":
            return _from_csv(found[0], recording)
        case _:
            return _from_annotations(found[0], recording, skeleton)


def to_skeleton(truth: Truth, skeleton: Skeleton, renamed: Mapping[str, str | None]) -> Truth:
    """The truth in the joints of a skeleton; those that it lacks are NaN, those that the skeleton lacks are left out.

    Args:
        truth: with joints called as in its file; usual spellings such as ``LeftKnee`` or ``l_knee`` are understood.
        skeleton: the joints wanted.
        renamed: our names of others; None leaves one out.

    Raises:
        TriposeError: a name that no skeleton has, two names of one joint, or nothing that the skeleton has.
    """
    ours = [renamed[name] if name in renamed else joint_name(name) for name in truth.joints]
    for name, our in zip(truth.joints, ours, strict=True):
        if our is not None and our not in _KNOWN_JOINTS | set(skeleton.joints):
            raise TriposeError(
                f"{truth.path}: no skeleton has a joint {our!r}; under joints: in dataset.yaml say what it is "
                f"({name}: left_knee) or leave it out ({name}: null). {skeleton.name} has {', '.join(skeleton.joints)}"
            )
        if our is not None and ours.count(our) > 1:
            raise TriposeError(f"{truth.path}: two of its joints are {our!r}, one of them {name!r}")
    source = [ours.index(joint) if joint in ours else -1 for joint in skeleton.joints]
    missing = np.array(source) < 0
    if missing.all():
        raise TriposeError(f"{truth.path}: it has no joint of {skeleton.name}, only {', '.join(truth.joints)}")
    keypoints = np.where(missing[:, None], np.nan, truth.keypoints_mm[:, source])
    seen = None if truth.seen is None else truth.seen[..., source] & ~missing
    return Truth(truth.path, skeleton.joints, truth.frame, keypoints, seen, truth.triangulated)


def _from_netcdf(path: Path, recording: Recording) -> Truth:
    poses = read_netcdf(path)
    time, persons, joints = poses.position_mm.shape[:3]
    if abs(poses.fps - recording.frame_rate) > 0.01 * recording.frame_rate:
        raise TriposeError(
            f"{path} has {poses.fps:g} frames per second and the videos have {recording.frame_rate:g}: "
            "resample it to theirs"
        )
    images = recording.n_frames
    if images is not None and abs(time - images) > _SLACK_FRAMES:
        raise TriposeError(f"{path} has {time} frames and the videos have {images}: they do not belong together")
    rows = poses.position_mm.reshape(time * persons, joints, 3)
    return Truth(path, poses.skeleton.joints, np.repeat(np.arange(time), persons), rows)


def _from_csv(path: Path, recording: Recording) -> Truth:
    with path.open(newline="", encoding="utf-8-sig") as file:
        table = csv.DictReader(file)
        header = table.fieldnames or []
        unit = next((u for u in MM_PER_UNIT if {f"{axis}_{u}" for axis in "xyz"} <= set(header)), None)
        if unit is None or not {"frame", "joint"} <= set(header):
            raise TriposeError(
                f"{path} needs the columns frame, joint, x_mm, y_mm, z_mm (or _cm, or _m); it has {', '.join(header)}"
            )
        rows: dict[tuple[int, str], dict[str, list[float]]] = {}
        joints: dict[str, None] = {}
        for entry in table:
            try:
                position = [float(entry[f"{axis}_{unit}"] or "nan") * MM_PER_UNIT[unit] for axis in "xyz"]
                row = rows.setdefault((int(entry["frame"]), entry.get("person") or ""), {})
            except (TypeError, ValueError) as error:
                raise TriposeError(f"{path}, line {table.line_num}: {error}") from error
            row[entry["joint"]] = position
            joints[entry["joint"]] = None
    frame = np.array([frame for frame, _ in sorted(rows)], dtype=np.int64)
    _check_frames(path, frame, recording)
    unknown = [np.nan] * 3
    keypoints = [[rows[row].get(joint, unknown) for joint in joints] for row in sorted(rows)]
    return Truth(path, tuple(joints), frame, np.array(keypoints, dtype=np.float64).reshape(len(frame), len(joints), 3))


def _from_annotations(folder: Path, recording: Recording, skeleton: Skeleton | None) -> Truth:
    """One COCO file a camera; a person labelled in two views or more at the same time has a place."""
    cameras = recording.cameras
    files = keypoint_views(folder)
    by_camera = match_views(cameras.names, list(files), recording.calibration)
    labels: dict[str, dict[int, Person]] = {}
    joints: tuple[str, ...] = ()
    firsts = _first_numbers(recording)
    for camera, view in by_camera.items():
        people, said = _one_person(files[view], skeleton)
        labels[camera] = {frame - firsts[camera]: person for frame, person in people.items()}
        joints = joints or said
        if said != joints:
            raise TriposeError(f"{files[view]} labels {', '.join(said)}, another view {', '.join(joints)}")
    views = Counter(frame for people in labels.values() for frame in people)
    frame = np.array(sorted(f for f, n in views.items() if n > 1), dtype=np.int64)
    if not len(frame):
        raise TriposeError(f"{folder}: nobody is labelled in two views at the same time, so no position is known")
    _check_frames(folder, frame, recording)
    nobody = np.zeros((len(joints), 3))
    found = np.array([[labels.get(c, {}).get(f, nobody) for c in cameras.names] for f in frame.tolist()])
    return _triangulated(folder, recording, joints, frame, found)


def _triangulated(
    folder: Path,
    recording: Recording,
    joints: tuple[str, ...],
    frame: Int[np.ndarray, " row"],
    found: Float[np.ndarray, "row view joint 3"],
) -> Truth:
    """Triangulate; x, y and COCO's flag: 0 not labelled, 1 labelled but hidden, 2 seen (or scores in 0..1)."""
    labelled = found[..., 2] > 0
    points = np.where(labelled[..., None], found[..., :2], np.nan)
    with torch.no_grad():
        position = triangulate(recording.cameras, points, labelled.astype(float), covariance=False).position_mm
    seen = found[..., 2] > (1 if (found[..., 2] > 1).any() else 0)
    # A view in which nobody is labelled at the time says nothing about who is hidden.
    seen |= ~labelled.any(-1, keepdims=True)
    return Truth(folder, joints, frame, position.numpy(), seen, triangulated=True)


def _one_person(path: Path, skeleton: Skeleton | None) -> tuple[dict[int, Person], tuple[str, ...]]:
    """The labelled person of each frame of one view, and the joints' names."""
    try:
        everybody, _, named = people_from_coco(read_json(path))
        if crowded := [frame for frame, persons in everybody.items() if len(persons) > 1]:
            raise TriposeError(
                f"{len(everybody[crowded[0]])} people are labelled in frame {crowded[0]}, and nothing says who is who "
                "in the other views: label one, or give the truth in 3D"
            )
        people = {frame: persons[0] for frame, persons in everybody.items() if persons}
        counts = Counter(len(person) for person in people.values())
        joints = (named or skeleton or skeleton_of(counts)).joints
        if set(counts) - {len(joints)}:
            raise TriposeError(f"people have {', '.join(map(str, counts))} joints, but {len(joints)} are named")
    except TriposeError as error:
        raise TriposeError(f"{path}: {error}") from error
    return people, joints


def _first_numbers(recording: Recording) -> dict[str, int]:
    """The number, in each view's own counting, of the recording's frame 0: image folders rarely start with 0."""
    numbers = {name: frame_numbers(path) if path.is_dir() else None for name, path in recording.videos.items()}
    late = late_starts(numbers)
    return {name: 0 if n is None else n[0] - late[name] for name, n in numbers.items()}


def _check_frames(path: Path, frame: Int[np.ndarray, " row"], recording: Recording) -> None:
    """Refuse frames that are not in the videos.

    Raises:
        TriposeError: naming one of them.
    """
    images = recording.n_frames
    if len(frame) and frame.min() < 0:
        raise TriposeError(f"{path} labels frame {frame.min()}, counted from the first image: frames count from 0")
    if len(frame) and images is not None and frame.max() >= images + _SLACK_FRAMES:
        raise TriposeError(f"{path} labels frame {frame.max()}, but the videos have {images} frames, from 0 on")
