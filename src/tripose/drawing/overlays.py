"""The 3D skeletons drawn back into the videos, through each camera's lens: the most direct check of a recording."""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence
from pathlib import Path

import numpy as np
import torch
from jaxtyping import Float, UInt8

from tripose.cameras import Cameras
from tripose.diagnosis import side_of_bone
from tripose.errors import TriposeError
from tripose.pose import Pose2D, Pose3D

# RGB. Left blue and right orange, as in the report; both are told apart by colour-blind people.
_COLORS = {"left": (64, 140, 255), "right": (255, 128, 48), "middle": (235, 235, 235)}
_OUTLINE = (16, 16, 16)
_DETECTED = (255, 255, 64)
# Fractional bits of cv2's sub-pixel coordinates.
_SHIFT = 4


def overlay(
    poses: Pose3D,
    cameras: Cameras,
    videos: Mapping[str, Path],
    folder: Path,
    *,
    pose2d: Pose2D | None = None,
    max_side_px: int = 960,
) -> list[Path]:
    """Write ``overlay-<camera>.mp4`` for each video, with the skeletons projected through the lens.

    Left limbs are blue, right ones orange; detected keypoints, when given, are yellow crosses.

    Args:
        poses: the poses, mm, world frame.
        cameras: the rig.
        videos: camera name -> video file.
        folder: where the files go; it is created.
        pose2d: detections in the raw images.
        max_side_px: longer side of the written videos, which are never enlarged.

    Returns:
        The written files, in the order of `videos`.

    Raises:
        TriposeError: a video without a camera of that name, or whose frames have another size than its camera's.
    """
    folder = Path(folder)
    folder.mkdir(parents=True, exist_ok=True)
    written: list[Path] = []
    for name, video in videos.items():
        path = _free_name(folder, name, written)
        detected = None
        if pose2d is not None and name in pose2d.views:
            detected = pose2d.points_px[:, pose2d.views.index(name)]
        _draw_video(poses, cameras.select([name]), Path(video), path, detected, max_side_px)
        written.append(path)
    return written


def _free_name(folder: Path, camera: str, taken: list[Path]) -> Path:
    """A file name that no camera name can lead out of the folder, and that no other camera has."""
    safe = re.sub(r"[^\w-]+", "_", camera).strip("_") or "camera"
    path, number = folder / f"overlay-{safe}.mp4", 2
    while path in taken:
        path, number = folder / f"overlay-{safe}-{number}.mp4", number + 1
    return path


def _draw_video(
    poses: Pose3D,
    camera: Cameras,
    video: Path,
    path: Path,
    detected: Float[np.ndarray, "time person joint 2"] | None,
    max_side_px: int,
) -> None:
    """Stream one video: decode, shrink, draw, encode; one frame is in memory at a time."""
    import cv2

    from tripose.video import probe, read_frames
    from tripose.video_writer import write_video

    info = probe(video, poses.fps)
    width, height = info.size_px
    _check_size(video, camera, width, height)
    projected = _project(poses, camera)
    scale = min(1.0, max_side_px / max(width, height))
    size = (max(2, round(width * scale / 2) * 2), max(2, round(height * scale / 2) * 2))
    factor = np.array(size) / (width, height)
    # Nearly equal rates (29.97 and 30) belong frame to frame; any other video is read on the time grid of the poses.
    rate = info.fps if abs(info.fps - poses.fps) < 0.01 * poses.fps else poses.fps
    with write_video(path, min(rate, info.fps), size) as write:
        for frame in read_frames(video, fps=rate):
            if frame.index >= len(projected):
                break
            image = cv2.resize(frame.image, size, interpolation=cv2.INTER_AREA)
            if detected is not None and frame.index < len(detected):
                _draw_detections(image, (detected[frame.index] + 0.5) * factor - 0.5)
            _draw_people(image, (projected[frame.index] + 0.5) * factor - 0.5, poses)
            _draw_number(image, frame.index)
            write(image)


def _project(poses: Pose3D, camera: Cameras) -> Float[np.ndarray, "time person joint 2"]:
    """Pixels of all joints in the raw image of one camera; NaN for what is missing or behind the camera."""
    points = torch.as_tensor(poses.position_mm, dtype=camera.K.dtype).reshape(-1, 3)
    pixels, _ = camera.to("cpu").project(points)
    result: np.ndarray = pixels[0].detach().numpy().reshape(*poses.position_mm.shape[:-1], 2)
    return result


def _check_size(video: Path, camera: Cameras, width: int, height: int) -> None:
    expected = camera.size_px[0].tolist()
    # Encoders pad or trim to multiples of 8 or 16 px; a larger difference means other pixels than the calibrated ones.
    if max(abs(width - expected[0]), abs(height - expected[1])) >= 16:
        raise TriposeError(
            f"{video}: the frames are {width}x{height} px, but camera {camera.names[0]!r} was calibrated at"
            f" {expected[0]}x{expected[1]} px; it was probably resized, cropped or turned after the calibration"
        )


def _draw_people(image: UInt8[np.ndarray, "height width 3"], points: np.ndarray, poses: Pose3D) -> None:
    joints, height = poses.skeleton.joints, image.shape[0]
    thick = max(2, round(height / 320))
    usable = _usable(points, image)
    for person, seen in zip(_fixed(points).tolist(), usable, strict=True):
        bones = [(a, b) for a, b in poses.skeleton.bone_indices if seen[a] and seen[b]]
        # All outlines first: a dark edge around the whole figure is visible on any background.
        for a, b in bones:
            _line(image, person[a], person[b], _OUTLINE, thick + 2)
        for a, b in bones:
            _line(image, person[a], person[b], _COLORS[side_of_bone(joints[a], joints[b])], thick)
        for j in np.flatnonzero(seen).tolist():
            _dot(image, person[j], _OUTLINE, thick + 2.0)
            _dot(image, person[j], _COLORS[side_of_bone(joints[j], joints[j])], thick + 0.5)


def _draw_detections(image: UInt8[np.ndarray, "height width 3"], points: np.ndarray) -> None:
    arm = 4 << _SHIFT
    for x, y in _fixed(points)[_usable(points, image)].tolist():
        for color, thick in ((_OUTLINE, 3), (_DETECTED, 1)):
            _line(image, (x - arm, y - arm), (x + arm, y + arm), color, thick)
            _line(image, (x - arm, y + arm), (x + arm, y - arm), color, thick)


def _draw_number(image: UInt8[np.ndarray, "height width 3"], number: int) -> None:
    import cv2

    for color, thick in ((_OUTLINE, 4), ((255, 255, 255), 1)):
        cv2.putText(image, str(number), (10, 26), cv2.FONT_HERSHEY_SIMPLEX, 0.7, color, thick, cv2.LINE_AA)


def _usable(points: np.ndarray, image: UInt8[np.ndarray, "height width 3"]) -> np.ndarray:
    """Finite and not absurdly far outside the image, where fixed-point coordinates would overflow."""
    limit = 4 * max(image.shape)
    usable: np.ndarray = np.all(np.abs(points) < limit, axis=-1)
    return usable


def _fixed(points: np.ndarray) -> np.ndarray:
    """Integers with `_SHIFT` fractional bits, as cv2's drawing takes them; NaN becomes an (unused) zero."""
    fixed: np.ndarray = np.rint(np.nan_to_num(points).clip(-1e6, 1e6) * (1 << _SHIFT)).astype(np.int64)
    return fixed


def _line(image: np.ndarray, a: Sequence[int], b: Sequence[int], color: tuple[int, int, int], thick: int) -> None:
    import cv2

    cv2.line(image, a, b, color, thick, cv2.LINE_AA, _SHIFT)


def _dot(image: np.ndarray, at: Sequence[int], color: tuple[int, int, int], radius: float) -> None:
    import cv2

    cv2.circle(image, at, round(radius * (1 << _SHIFT)), color, -1, cv2.LINE_AA, _SHIFT)
