"""The 3D poses of CMU Panoptic: one JSON file a frame, in a folder or in the archive that it is downloaded as.

A file lists ``bodies``, each with an ``id`` and ``joints19``: 19 times x, y, z in cm and a score. The order of the
joints is that of `tripose.skeleton.PANOPTIC19`, eyes and ears as the toolbox's README has them since July 2020 (its
issues #26 and #34); converters from before swap them, and tell left from right wrongly.
"""

from __future__ import annotations

import json
import os
import re
import tarfile
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, replace
from pathlib import Path
from typing import IO, Any

import numpy as np
from jaxtyping import Bool, Float, Int

from tripose.errors import TriposeError
from tripose.formats.writing import MM_PER_UNIT
from tripose.skeleton import PANOPTIC19

POSES = "hdPose3d_stage1_coco19"
"""What the folder is called; the archive is this with ``.tar``."""

_FILE = re.compile(r"body3DScene_(\d{1,9})\.json")
_NUMBERS = 4 * len(PANOPTIC19)
_LARGEST_BYTES = 1 << 20  # a body takes 700


@dataclass(frozen=True)
class Poses:
    """People, a row for each in each frame; in the order of the frames, and within one in that of its file.

    Attributes:
        frame: HD frame number, which is the place of its image in the video.
        person: who; the same person may come back under another number.
        keypoints_mm: world frame of the calibration (y points down), joints of PANOPTIC19; NaN where missing.
        score: 0 where missing.
    """

    frame: Int[np.ndarray, " row"]
    person: Int[np.ndarray, " row"]
    keypoints_mm: Float[np.ndarray, "row 19 3"]
    score: Float[np.ndarray, "row 19"]

    def __len__(self) -> int:
        return len(self.frame)

    def rows(self, which: Bool[np.ndarray, " row"] | Int[np.ndarray, " some"]) -> Poses:
        """Some of the rows."""
        return Poses(self.frame[which], self.person[which], self.keypoints_mm[which], self.score[which])


def pose_frames(path: Path) -> Int[np.ndarray, " frame"]:
    """The numbers of the frames that have a file, ascending.

    Args:
        path: folder or archive.

    Raises:
        TriposeError: there is none, or not one file in it; a damaged archive.
    """
    with _open(path) as files:
        return np.array(sorted(files), np.int64)


def read_poses(path: Path, *, every: int = 1, spans: Sequence[tuple[int, int]] | None = None) -> Poses:
    """Read poses; 10,000 files take a second.

    Args:
        path: folder or archive; an archive is not unpacked.
        every: takes every n-th file, the first one included, and does not open the others.
        spans: takes only frames in these spans, both ends included, before the n-th are counted.

    Raises:
        TriposeError: as `pose_frames`, and a file that is cut off, of another layout, or has the older 15 joints.
    """
    people: list[tuple[int, int]] = []
    numbers: list[list[int | float]] = []
    with _open(path) as files:
        chosen = sorted(n for n in files if spans is None or any(first <= n <= last for first, last in spans))
        for frame in chosen[::every]:
            name = f"{path}: body3DScene_{frame:08d}.json"
            for person, joints in _bodies(files[frame](), name):
                people.append((frame, person))
                numbers.append(joints)
    table = _table(numbers, people, path)
    keypoints, score = table[..., :3] * MM_PER_UNIT["cm"], table[..., 3]
    missing = (score <= 0) | (keypoints == 0).all(-1)
    who = np.array(people, np.int64).reshape(-1, 2)
    keypoints[missing] = np.nan
    return Poses(who[:, 0], who[:, 1], keypoints, np.where(missing, 0.0, score))


def first_person(poses: Poses) -> Poses:
    """One person a frame: the first of its file."""
    return poses.rows(np.unique(poses.frame, return_index=True)[1])


def above_score(poses: Poses, least: float) -> Poses:
    """Without joints whose score is not above a value, and without people whose pelvis is one of them."""
    sure = poses.score > least
    kept = replace(
        poses,
        keypoints_mm=np.where(sure[..., None], poses.keypoints_mm, np.nan),
        score=np.where(sure, poses.score, 0.0),
    )
    return kept.rows(sure[:, PANOPTIC19.index("pelvis")])


@contextmanager
def _open(path: Path) -> Iterator[dict[int, Callable[[], bytes]]]:
    """The files of a folder or an archive, by frame number: what reads them."""
    try:
        if path.is_dir():
            with os.scandir(path) as entries:
                named = [(_FILE.fullmatch(entry.name), Path(entry.path)) for entry in entries]
            yield _some({int(match[1]): file.read_bytes for match, file in named if match}, path)
        elif path.is_file():
            with tarfile.open(path, "r:") as archive:
                members = {number: _Member(archive, entry).read for number, entry in _members(archive)}
                _check_end(archive, path)
                yield _some(members, path)
        else:
            raise TriposeError(f"{path}: there is no such folder or archive")
    except TriposeError:
        raise
    except OSError as error:
        raise TriposeError(f"{error.filename or path} cannot be read: {error.strerror}") from error
    except (tarfile.TarError, EOFError, ValueError, OverflowError) as error:  # the last two: sizes beyond all measure
        raise TriposeError(f"{path} is no tar archive, or cut off ({error}): download it again") from error


@dataclass(frozen=True)
class _Member:
    archive: tarfile.TarFile
    entry: tarfile.TarInfo

    def read(self) -> bytes:
        file: IO[bytes] | None = self.archive.extractfile(self.entry)
        return b"" if file is None else file.read()


def _members(archive: tarfile.TarFile) -> Iterator[tuple[int, tarfile.TarInfo]]:
    """The poses of an archive, by the last part of their names: where else a name leads to does not matter."""
    for entry in archive:
        match = _FILE.fullmatch(entry.name.rpartition("/")[2])
        if match and entry.isreg() and entry.size <= _LARGEST_BYTES:
            yield int(match[1]), entry


def _check_end(archive: tarfile.TarFile, path: Path) -> None:
    """An archive ends in a block of zeros; `tarfile` does not mind when a download stopped between two files."""
    with path.open("rb") as file:
        file.seek(archive.offset)
        if file.read(tarfile.BLOCKSIZE) != bytes(tarfile.BLOCKSIZE):
            raise tarfile.ReadError("it has no end")


def _some(files: dict[int, Callable[[], bytes]], path: Path) -> dict[int, Callable[[], bytes]]:
    if not files:
        raise TriposeError(f"{path} holds no poses: there is no body3DScene_00000000.json or of another frame in it")
    return files


def _bodies(content: bytes, name: str) -> list[tuple[int, list[int | float]]]:
    """The people of a file: number and 76 numbers, which are checked later, all at once."""
    try:
        document = json.loads(content)
    except (ValueError, RecursionError) as error:
        raise TriposeError(f"{name} is no JSON, or cut off ({error}): unpack or download it again") from None
    bodies = document.get("bodies") if isinstance(document, dict) else None
    if not isinstance(bodies, list) or not all(isinstance(body, dict) for body in bodies):
        raise TriposeError(f"{name} has no list of bodies: it is not of CMU Panoptic's 3D body poses")
    people = [(_person(body, name), _joints(body, name)) for body in bodies]
    if len({person for person, _ in people}) < len(people):
        raise TriposeError(f"{name} has two bodies with the same id")
    return people


def _person(body: dict[str, Any], name: str) -> int:
    person = body.get("id")
    if not isinstance(person, int) or abs(person) >= 1 << 31:
        raise TriposeError(f"{name} has a body whose id is {person!r}, not a number")
    return person


def _joints(body: dict[str, Any], name: str) -> list[int | float]:
    joints = body.get("joints19")
    if joints is None:
        other = next((key for key in body if key.startswith("joints")), "no joints")
        raise TriposeError(
            f"{name} has {other} in place of joints19: the older hdPose3d_stage1 has 15 joints, without eyes and ears;"
            f" download {POSES}.tar"
        )
    if not isinstance(joints, list) or len(joints) != _NUMBERS:
        count = len(joints) if isinstance(joints, list) else 0
        raise TriposeError(f"{name}: joints19 has {count} numbers, expected 19 times x, y, z and score")
    return joints


def _table(
    numbers: list[list[int | float]], people: list[tuple[int, int]], path: Path
) -> Float[np.ndarray, "row 19 4"]:
    try:
        table = np.array(numbers, np.float64).reshape(-1, len(PANOPTIC19), 4)
        bad = None if np.isfinite(table).all() else int(np.flatnonzero(~np.isfinite(table).all((1, 2)))[0])
    except (TypeError, ValueError):
        bad = next(i for i, row in enumerate(numbers) if not all(isinstance(value, int | float) for value in row))
    if bad is not None:
        frame, person = people[bad]
        raise TriposeError(f"{path}: body3DScene_{frame:08d}.json: joints19 of body {person} are not all numbers")
    return table
