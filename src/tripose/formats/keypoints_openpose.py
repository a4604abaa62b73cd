"""Keypoints of OpenPose and of the many programs that write like it: a folder with one JSON file per frame."""

from __future__ import annotations

import re
from collections import defaultdict
from pathlib import Path

from tripose.errors import TriposeError
from tripose.formats.keypoints_people import Person, read_json, triples


def people_from_openpose(folder: Path) -> tuple[dict[int, list[Person]], int]:
    """Read a folder of per-frame files.

    The frame number is the last group of digits before ``.json`` or ``_keypoints.json``. Files whose names differ in
    more than that number belong to another series; the series with more than half of the files is read and stray
    files are left alone.

    Returns:
        The people by frame number, and the number of the first frame: the lowest in the folder. Frames without a
        file have no people.

    Raises:
        TriposeError: no such files, several series, two files for one frame, a broken file.
    """
    files = _series(folder)
    return {frame: _people(path) for frame, path in files.items()}, min(files)


def numbered_frames(path: Path) -> tuple[int, int] | None:
    """The lowest and the highest frame number of such a folder; None for other kinds of keypoints."""
    if not path.is_dir():
        return None
    files = _series(path)
    return min(files), max(files)


def _series(folder: Path) -> dict[int, Path]:
    series: dict[str, dict[int, Path]] = defaultdict(dict)
    total = 0
    for path in sorted(folder.glob("*.json")):
        match = re.fullmatch(r"(.*?)(\d+)(\D*?)(_keypoints)?", path.stem)
        if not match:
            continue
        total += 1
        files = series[f"{match[1]}*{match[3]}"]
        if int(match[2]) in files:
            raise TriposeError(f"{files[int(match[2])].name} and {path.name} are the same frame")
        files[int(match[2])] = path
    if not series:
        raise TriposeError("the folder holds no file like video_000000000012_keypoints.json")
    files = max(series.values(), key=len)
    if 2 * len(files) <= total:
        raise TriposeError(f"the folder holds several series of frames: {', '.join(sorted(series)[:4])}")
    return files


def _people(path: Path) -> list[Person]:
    document = read_json(path)
    people = document.get("people") if isinstance(document, dict) else None
    if not isinstance(people, list) or not all(isinstance(p, dict) for p in people):
        raise TriposeError(f"{path.name} has no list 'people', so it is not written as OpenPose does")
    return [triples(p.get("pose_keypoints_2d"), path.name) for p in people]
