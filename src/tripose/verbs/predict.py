"""``tripose predict``: a recording in, 3D poses out.

Stages, each a file on disk, so that any can be looked at, repeated or replaced:

1. follow the person through the images -> ``<name>.keypoints.npz`` (given keypoint files are read every time)
2. triangulate                          -> ``<name>.nc``

An interrupted run resumes: keypoints are kept in pieces while they are made. A finished one is not repeated unless
its input or options changed.
"""

from __future__ import annotations

import hashlib
import itertools
import shutil
import tempfile
import zipfile
import zlib
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from dataclasses import replace
from pathlib import Path
from typing import TypeVar

import numpy as np
from jaxtyping import Float

from tripose import __version__
from tripose.discovery import late_starts
from tripose.errors import TriposeError
from tripose.formats.keypoints import read_keypoints, read_keypoints_npz, write_keypoints_npz
from tripose.formats.keypoints_openpose import numbered_frames
from tripose.formats.netcdf import read_netcdf, write_netcdf
from tripose.formats.writing import atomic
from tripose.geometry.triangulate import Method
from tripose.lifting import check_size, lift
from tripose.pose import Pose2D, Pose3D
from tripose.recording import FrameSet, Recording
from tripose.skeleton import COCO17, Skeleton, skeleton_named
from tripose.track import Followed, FollowedFrame, follow_images, follow_keypoints, open_detectors

T = TypeVar("T")

PIECE_FRAMES = 250
"""Frames between two saves of an unfinished run."""

Progress = Callable[[int, int | None], None]
"""Called with the number of frames done and the number in all (None when unknown)."""


def predict(
    recording: Recording,
    *,
    method: Method = "ransac",
    min_views: int = 2,
    out: Path | None = None,
    progress: Progress | None = None,
) -> Pose3D:
    """Triangulate the one person that a recording shows.

    Uses the recording's 2D keypoints if it has no videos, else the detector that ships with the package.

    Args:
        recording: calibrated views.
        method: see `tripose.geometry.triangulate`.
        min_views: smallest number of agreeing views that makes a joint.
        out: folder for the files of the stages; None keeps everything in memory.
        progress: told after every frame.

    Raises:
        TriposeError: fewer than two usable views, nobody found, or bones of impossible length (wrong unit).
    """
    if len(recording.cameras) < 2:
        raise TriposeError(
            f"{recording.folder}: {len(recording.cameras)} usable view ({', '.join(recording.cameras.names)}); "
            "triangulation needs at least 2"
        )
    result = None if out is None else out / f"{recording.name}.nc"
    key = fingerprint(recording, method, min_views)
    done = _finished(result, read_netcdf)
    if done is not None and done.notes.get("fingerprint") == key:
        return done
    pose2d = keypoints_of(recording, out=out, progress=progress)
    poses = lift(pose2d, recording.cameras, method=method, min_views=min_views)
    check_size(poses, str(recording.calibration))
    poses.notes.update(
        {
            "recording": recording.name,
            "calibration": recording.calibration.name,
            "source": "tripose " + __version__,
            "fingerprint": key,
            **{f"warning {i + 1}": w for i, w in enumerate(recording.warnings)},
        }
    )
    if result is not None:
        make_folder(result.parent)
        write_netcdf(poses, result)
    return poses


def keypoints_of(recording: Recording, *, out: Path | None = None, progress: Progress | None = None) -> Pose2D:
    """The followed person's keypoints in all views (person axis of length 1).

    Args:
        recording: calibrated views.
        out: where to keep ``<name>.keypoints.npz`` and the pieces of an unfinished run; None keeps nothing.
        progress: told after every frame.

    Raises:
        TriposeError: nobody is found in two views, or keypoint files that do not fit together.
    """
    if not recording.videos:
        return _follow_files(recording)
    if out is None:
        frames = list(_follow_videos(recording, Followed(), 0, progress))
        return _joined(recording, [f.points_px[None] for f in frames], [f.confidence[None] for f in frames])
    finished = out / f"{recording.name}.keypoints.npz"
    key = fingerprint(recording)
    done = _finished(finished, read_keypoints_npz)
    if done is not None and done.notes.get("fingerprint") == key:
        return done
    pieces = out / f".{recording.name}.{key}"
    make_folder(pieces)
    pose2d = replace(_follow_in_pieces(recording, pieces, progress), notes={"fingerprint": key})
    write_keypoints_npz(pose2d, finished)
    shutil.rmtree(pieces)
    return pose2d


def _finished(path: Path | None, read: Callable[[Path], T]) -> T | None:
    """A result of an earlier run; None when there is none or it cannot be read."""
    try:
        return read(path) if path is not None and path.exists() else None
    except TriposeError:
        return None


def make_folder(path: Path) -> None:
    """Make an output folder.

    Raises:
        TriposeError: it cannot be made or written to.
    """
    try:
        path.mkdir(parents=True, exist_ok=True)
        with tempfile.TemporaryFile(dir=path):
            pass
    except OSError as error:
        raise TriposeError(f"{path}: the output folder cannot be written: {error.strerror or error}") from error


def fingerprint(recording: Recording, *options: object) -> str:
    """A short hash of what a result depends on: the cameras, the input files' names, sizes and times, the options."""
    calibration = recording.calibration
    files = [calibration, *(sorted(calibration.glob("*tri.yml")) if calibration.is_dir() else [])]
    for source in (recording.videos or recording.keypoints).values():
        files += [source, *(sorted(source.iterdir()) if source.is_dir() else [])]
    stamps = [(f.name, f.stat().st_size, f.stat().st_mtime_ns) for f in files]
    cameras = recording.cameras
    rig = [getattr(cameras, part).tolist() for part in ("K", "R", "t", "distortion", "size_px")]
    meant = (cameras.names, cameras.lens, cameras.up, recording.skeleton, recording.frame_rate)
    said = (__version__, rig, meant, dict(recording.rotate_deg), stamps, options)
    return hashlib.sha256(repr(said).encode()).hexdigest()[:16]


def _follow_in_pieces(recording: Recording, pieces: Path, progress: Progress | None) -> Pose2D:
    """Follow through the videos, saving every `PIECE_FRAMES`; go on where saved pieces end."""
    points, confidence, state = [], [], Followed()
    for path in sorted(pieces.glob("[0-9]*.npz")):
        try:
            with np.load(path, allow_pickle=False) as piece:
                arrays = {name: piece[name] for name in piece.files}
        except (OSError, ValueError, EOFError, zipfile.BadZipFile, zlib.error):
            break  # cut off by a full disk or a power failure: made again, with all that follow
        points.append(arrays["points_px"])
        confidence.append(arrays["confidence"])
        known = arrays["position_mm"]
        state = Followed(known if known.size else None, int(arrays["lost_frames"]))
    start = sum(len(p) for p in points)
    for frames in _batched(_follow_videos(recording, state, start, progress)):
        points.append(np.stack([f.points_px for f in frames]))
        confidence.append(np.stack([f.confidence for f in frames]))
        last = frames[-1].state
        with atomic(pieces / f"{frames[0].index:09d}.npz", ".npz") as temporary:
            np.savez(
                temporary,
                points_px=points[-1],
                confidence=confidence[-1],
                position_mm=np.empty(0) if last.position_mm is None else last.position_mm,
                lost_frames=last.lost_frames,
            )
    return _joined(recording, points, confidence)


def _follow_videos(
    recording: Recording, state: Followed, start: int, progress: Progress | None
) -> Iterator[FollowedFrame]:
    with open_detectors() as detectors:
        frames = ahead(recording.frames(start))
        for frame in follow_images(frames, recording.cameras, detectors, recording.frame_rate, state):
            if progress is not None:
                progress(frame.index + 1, recording.n_frames)
            yield frame


def _batched(frames: Iterator[FollowedFrame]) -> Iterator[list[FollowedFrame]]:
    while batch := list(itertools.islice(frames, PIECE_FRAMES)):
        yield batch


def ahead(frames: Iterator[FrameSet]) -> Iterator[FrameSet]:
    """Decode the next frames in a thread while the last ones are looked at; decoding releases the interpreter lock."""
    with ThreadPoolExecutor(max_workers=1) as thread:
        coming = thread.submit(next, frames, None)
        while (frame := coming.result()) is not None:
            coming = thread.submit(next, frames, None)
            yield frame


def _joined(
    recording: Recording,
    points: list[Float[np.ndarray, "time view joint 2"]],
    confidence: list[Float[np.ndarray, "time view joint"]],
    skeleton: Skeleton = COCO17,
) -> Pose2D:
    if not points or not any(np.isfinite(p).any() for p in points):
        raise TriposeError(
            f"{recording.folder}: nobody was found in two views at once; either nobody is there, or the calibration "
            "does not belong to these videos (tripose check tells more)"
        )
    return Pose2D(
        points_px=np.concatenate(points)[:, :, None],
        confidence=np.concatenate(confidence)[:, :, None],
        skeleton=skeleton,
        views=recording.cameras.names,
        fps=recording.frame_rate,
    )


def _follow_files(recording: Recording) -> Pose2D:
    """Read the keypoint files of all views and pick the one person out of everybody."""
    everybody = read_views(recording)
    points, confidence = follow_keypoints(
        recording.cameras.select(everybody.views), everybody.points_px, everybody.confidence, everybody.fps
    )
    return _joined(recording, [points], [confidence], everybody.skeleton)


def read_views(recording: Recording) -> Pose2D:
    """Everybody's keypoints in all views of a recording; shorter views and fewer people are filled with NaN.

    Raises:
        TriposeError: views with different skeletons, or as the readers say.
    """
    skeleton = skeleton_named(recording.skeleton) if recording.skeleton else None
    sizes = recording.cameras.select(list(recording.keypoints)).size_px.tolist()
    sources = [(c, p, tuple(s)) for (c, p), s in zip(recording.keypoints.items(), sizes, strict=True)]
    if skeleton is None:
        # A camera that sees nobody has no joints to count, so the others tell.
        skeleton = next((v.skeleton for c, p, s in sources if (v := _told(p, recording.frame_rate, s))), None)
    views = {c: read_keypoints(p, skeleton, recording.frame_rate, s) for c, p, s in sources}
    late = late_starts({c: numbered_frames(p) for c, p, _ in sources})
    views = {c: _later(view, late[c]) for c, view in views.items()}
    first = next(iter(views.values()))
    time = max(len(v.points_px) for v in views.values())
    people = max(v.points_px.shape[2] for v in views.values())
    points = np.full((time, len(views), people, len(first.skeleton), 2), np.nan)
    confidence = np.zeros(points.shape[:-1])
    for i, view in enumerate(views.values()):
        frames, _, persons = view.confidence.shape[:3]
        points[:frames, i, :persons] = view.points_px[:, 0]
        confidence[:frames, i, :persons] = view.confidence[:, 0]
    return Pose2D(points, confidence, first.skeleton, tuple(views), first.fps)


def _told(path: Path, fps: float, size_px: tuple[int, int]) -> Pose2D | None:
    """The keypoints of a view if its file tells its skeleton."""
    try:
        return read_keypoints(path, None, fps, size_px)
    except TriposeError:
        return None  # told when it is read again


def _later(view: Pose2D, frames: int) -> Pose2D:
    """The view with empty frames before its first one."""
    if not frames:
        return view
    points = np.concatenate([np.full((frames, *view.points_px.shape[1:]), np.nan), view.points_px])
    score = np.concatenate([np.zeros((frames, *view.confidence.shape[1:])), view.confidence])
    return replace(view, points_px=points, confidence=score)
