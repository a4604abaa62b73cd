"""Keypoints of other programs: one function that reads one view, and our own file for all views of a recording."""

from __future__ import annotations

import zipfile
import zlib
from pathlib import Path

import numpy as np
from jaxtyping import Shaped

from tripose.errors import TriposeError
from tripose.formats.keypoints_coco import people_from_coco
from tripose.formats.keypoints_deeplabcut import tracks_from_deeplabcut
from tripose.formats.keypoints_openpose import people_from_openpose
from tripose.formats.keypoints_people import array_to_pose, people_to_pose, read_json
from tripose.formats.writing import atomic
from tripose.pose import Pose2D
from tripose.skeleton import SKELETONS, Skeleton

KNOWN = (
    "a folder of OpenPose *.json (one per frame), COCO or AlphaPose *.json, DeepLabCut *.csv or *.h5"
    " (our own *.npz hold all views: read_keypoints_npz)"
)
FPS = 30.0
"""Frames per second when nobody says: none of the formats does."""

_FORMAT = "tripose-keypoints-1"
_BAD_ZIP = (zipfile.BadZipFile, zlib.error, EOFError, RuntimeError)


def read_keypoints(
    path: Path,
    skeleton: Skeleton | None = None,
    fps: float | None = None,
    size_px: tuple[int, int] | None = None,
) -> Pose2D:
    """Read the keypoints of one view; the reader is chosen by file name and content.

    Frames are consecutive: those that the file skips are all NaN. They start with the lowest frame that the file lists,
    except in lists of COCO or AlphaPose results: these list no frame in which nobody was found, so they start with
    frame 0 (starting with the first detection would shift the views against each other). A joint with score 0 is
    missing (NaN); scores above 1 are cut to 1.

    Args:
        path: folder or file, see `KNOWN`. The view is called like it, without suffix, ``_json``, and what DeepLabCut
            appends to the name of the video (``DLC_...``).
        skeleton: what the keypoints are. None means joint names in the file, else the number of keypoints decides
            where it is unambiguous.
        fps: frames per second; None means 30, because no format states it.
        size_px: width and height of the images, needed only where all coordinates are normalised to 0..1.

    Returns:
        Positions in the raw image, px; people in no particular order.

    Raises:
        TriposeError: the file is missing, broken, of an unknown kind, or does not fit the skeleton; it is named.
    """
    path = Path(path)
    rate = FPS if fps is None else float(fps)
    view = (path.name if path.is_dir() else path.stem).removesuffix("_json")
    view = view.partition("DLC_")[0] or view
    try:
        if not path.exists():
            raise TriposeError("there is no such file or folder")
        if path.is_dir():
            people, first = people_from_openpose(path)
            return people_to_pose(people, first, skeleton, view, rate, size_px)
        match path.suffix.lower():
            case ".json":
                people, first, named = people_from_coco(read_json(path))
                return people_to_pose(people, first, skeleton or named, view, rate, size_px)
            case ".csv" | ".h5" | ".hdf5":
                data, joints = tracks_from_deeplabcut(path, skeleton)
                return array_to_pose(data, joints, view, rate, size_px)
        raise TriposeError(f"unknown kind of keypoints; known are {KNOWN}")
    except TriposeError as error:
        raise TriposeError(f"{path}: {error}") from error


def write_keypoints_npz(pose: Pose2D, path: Path) -> None:
    """Write the keypoints of all views: plain arrays of numbers and text, nothing pickled, nothing rounded."""
    skeleton = pose.skeleton
    with atomic(path) as temporary, temporary.open("wb") as file:
        np.savez_compressed(
            file,
            format=np.array(_FORMAT),
            points_px=pose.points_px,
            confidence=pose.confidence,
            views=np.array(pose.views, dtype=np.str_),
            fps=np.array(pose.fps, dtype=np.float64),
            skeleton=np.array(skeleton.name),
            joints=np.array(skeleton.joints, dtype=np.str_),
            bones=np.array(skeleton.bones, dtype=np.str_).reshape(-1, 2),
            root=np.array(skeleton.root or ""),
            notes=np.array([*pose.notes.items()], dtype=np.str_).reshape(-1, 2),
        )


def read_keypoints_npz(path: Path) -> Pose2D:
    """Read a file of `write_keypoints_npz`.

    Raises:
        TriposeError: the file is missing, is no such file, or holds objects (which would have to be unpickled).
    """
    try:
        with np.load(path, allow_pickle=False) as file:
            arrays = {key: file[key] for key in file.files}
        if str(arrays["format"]) != _FORMAT:
            raise TriposeError(f"the format is {str(arrays['format'])!r}, this version reads {_FORMAT!r}")
        return Pose2D(
            points_px=arrays["points_px"].astype(np.float64),
            confidence=arrays["confidence"].astype(np.float64),
            skeleton=_stored_skeleton(arrays),
            views=tuple(arrays["views"].tolist()),
            fps=float(arrays["fps"]),
            notes={str(name): str(text) for name, text in arrays["notes"].tolist()},
        )
    except OSError as error:
        raise TriposeError(f"{path}: cannot be read: {error.strerror or error}") from error
    except (KeyError, ValueError, AttributeError, TypeError, *_BAD_ZIP) as error:
        raise TriposeError(f"{path}: not a keypoint file of tripose ({error})") from error


def _stored_skeleton(arrays: dict[str, Shaped[np.ndarray, ...]]) -> Skeleton:
    name, joints = str(arrays["skeleton"]), tuple(arrays["joints"].tolist())
    if name in SKELETONS and SKELETONS[name].joints == joints:
        return SKELETONS[name]
    bones = tuple((str(a), str(b)) for a, b in arrays["bones"].tolist())
    return Skeleton(name, joints, bones, str(arrays["root"]) or None)
