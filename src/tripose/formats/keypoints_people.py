"""What the keypoint readers share: people per frame become one array, their number of keypoints names the skeleton."""

from __future__ import annotations

import json
import re
from collections import Counter
from collections.abc import Collection, Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
from jaxtyping import Float

from tripose.errors import TriposeError
from tripose.pose import Pose2D
from tripose.skeleton import COCO17, HALPE26, SKELETONS, Skeleton

Person = Float[np.ndarray, "_ 3"]
"""x, y (px) and score of the keypoints of one person in one frame."""

_MOST_FRAMES = 2_000_000  # 18 hours at 30 frames per second


def people_to_pose(
    frames: Mapping[int, Sequence[Person]],
    first: int,
    skeleton: Skeleton | None,
    view: str,
    fps: float,
    size_px: tuple[int, int] | None,
) -> Pose2D:
    """Put the people of each frame into one array.

    Args:
        frames: the people by frame number; a person with another number of keypoints than the skeleton is left out.
        first: the number of the first frame of the result; the last one is the highest in `frames`.
        skeleton: None means that the most frequent number of keypoints decides, see `skeleton_of`.
        view: name of the view.
        fps: frames per second.
        size_px: width and height of the images, needed only where coordinates are normalised to 0..1.

    Raises:
        TriposeError: no person fits the skeleton, the number of keypoints names no skeleton, frame numbers that are
            none, normalised coordinates without an image size.
    """
    counts = Counter(len(person) for people in frames.values() for person in people if len(person))
    if skeleton is None:
        skeleton = skeleton_of(counts)
    elif counts and len(skeleton) not in counts:
        found, likely = ", ".join(map(str, sorted(counts))), _with_joints(counts.most_common(1)[0][0])
        raise TriposeError(
            f"people have {found} keypoints, but skeleton {skeleton.name!r} has {len(skeleton)}"
            + (f"; is it {likely}?" if likely else "")
        )
    fitting = {frame: [p for p in people if len(p) == len(skeleton)] for frame, people in frames.items()}
    most = max((len(people) for people in fitting.values()), default=0)
    data = np.full((frame_count(frames, first), max(most, 1), len(skeleton), 3), np.nan)
    for frame, people in fitting.items():
        for i, person in enumerate(people):
            data[frame - first, i] = person
    return array_to_pose(data, skeleton, view, fps, size_px)


def array_to_pose(
    data: Float[np.ndarray, "time person joint 3"],
    skeleton: Skeleton,
    view: str,
    fps: float,
    size_px: tuple[int, int] | None,
) -> Pose2D:
    """Make a pose of x, y and score.

    A joint is missing where its score is 0 or less, or a value is not finite. Scores above 1, which OpenPose and
    AlphaPose can give, are cut to 1. Coordinates that all lie in 0..1 are taken as normalised the way OpenPose does
    it, x / (width - 1).
    """
    found = np.isfinite(data).all(-1) & (data[..., 2] > 0)
    points = np.where(found[..., None], data[..., :2], np.nan)
    if found.any() and np.nanmin(points) >= 0 and np.nanmax(points) <= 1:
        if size_px is None:
            raise TriposeError("all coordinates lie in 0..1, so they are normalised: give the image size, size_px")
        points = points * (np.array(size_px) - 1.0)
    confidence = np.where(found, np.clip(data[..., 2], 0.0, 1.0), 0.0)
    return Pose2D(points[:, None], confidence[:, None], skeleton, (view,), fps)


def skeleton_of(counts: Mapping[int, int]) -> Skeleton:
    """The skeleton that a number of keypoints stands for: 17 COCO, 26 Halpe.

    Args:
        counts: how many people have how many keypoints, at least one; the most frequent number decides.

    Raises:
        TriposeError: nobody is there, the number is ambiguous (25), or no skeleton has it.
    """
    if not counts:
        raise TriposeError("there is no person in any frame, so the skeleton is unknown: name it")
    n = max(counts, key=lambda k: counts[k])
    if n == len(COCO17):
        return COCO17
    if n == len(HALPE26):
        return HALPE26
    if n == 18:
        raise TriposeError("people have 18 keypoints: OpenPose's COCO-18 is not supported; use its BODY_25 model")
    likely = _with_joints(n)
    if likely:
        raise TriposeError(f"people have {n} keypoints, which could be {likely}: name the skeleton")
    raise TriposeError(f"people have {n} keypoints, and no known skeleton has so many: give the skeleton")


def frame_count(frames: Collection[int], first: int) -> int:
    """How many frames lie between the first and the highest number, both included.

    Raises:
        TriposeError: a number before the first one, or so many that they are something else, say time stamps.
    """
    low, high = min(frames, default=first), max(frames, default=first)
    if low < first or high - first >= _MOST_FRAMES:
        raise TriposeError(f"{low} to {high} are no frame numbers of one video")
    return high - first + 1


def frame_number(name: str) -> int:
    """The last group of digits in a file name without its suffix.

    Raises:
        TriposeError: there is none.
    """
    path = Path(name)
    groups = re.findall(r"\d+", path.stem if path.suffix[1:2].isalpha() else path.name)
    if not groups:
        raise TriposeError(f"no frame number in the name {name!r}")
    return int(groups[-1])


def read_json(path: Path) -> Any:
    """The content of a JSON file.

    Raises:
        TriposeError: the file cannot be read or is no JSON; it is named.
    """
    try:
        return json.loads(path.read_bytes())
    except OSError as error:
        raise TriposeError(f"{path.name} cannot be read: {error.strerror}") from None
    except (ValueError, RecursionError) as error:
        raise TriposeError(f"{path.name} is not a JSON file, or cut short ({error})") from None


def triples(values: object, where: str) -> Person:
    """The keypoints of one person from a flat list x, y, score, x, y, score ...

    Raises:
        TriposeError: not such a list.
    """
    try:
        array = np.asarray(values if values is not None else [], dtype=np.float64).ravel()
    except (TypeError, ValueError, OverflowError):
        raise TriposeError(f"{where}: the keypoints are not a list of numbers") from None
    if array.size % 3:
        raise TriposeError(f"{where}: {array.size} numbers are not x, y, score for each keypoint")
    return array.reshape(-1, 3)


def _with_joints(n: int) -> str:
    return " or ".join(repr(s.name) for s in SKELETONS.values() if len(s) == n)
