"""The keypoint stage of ``tripose predict``: one person's keypoints in all views, from images or keypoint files."""

from __future__ import annotations

import shutil
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from dataclasses import replace
from pathlib import Path

import numpy as np
from jaxtyping import Float

from tripose.discovery import late_starts
from tripose.errors import TriposeError
from tripose.formats.keypoints import read_keypoints, read_keypoints_npz, write_keypoints_npz
from tripose.formats.keypoints_openpose import numbered_frames
from tripose.pose import Pose2D
from tripose.recording import FrameSet, Recording
from tripose.skeleton import COCO17, Skeleton, skeleton_named
from tripose.track import Followed, FollowedFrame, follow_images, follow_keypoints, open_detectors
from tripose.track_single import follow_one_view
from tripose.verbs.stages import fingerprint, finished, in_pieces, make_folder, read_pieces, write_piece

Progress = Callable[[int, int | None], None]
"""Called with the number of frames done and the number in all (None when unknown)."""


def keypoints_of(recording: Recording, *, out: Path | None = None, progress: Progress | None = None) -> Pose2D:
    """The followed person's keypoints in all views (person axis of length 1).

    Args:
        recording: calibrated views.
        out: where to keep ``<name>.keypoints.npz`` and the pieces of an unfinished run; None keeps nothing.
        progress: told after every frame.

    Raises:
        TriposeError: nobody is found in two views (in one, if it is the only one), or keypoint files that do not fit
            together.
    """
    if not recording.videos:
        return _follow_files(recording)
    if out is None:
        frames = list(_follow_videos(recording, Followed(), 0, progress))
        return _joined(recording, [f.points_px[None] for f in frames], [f.confidence[None] for f in frames])
    kept = out / f"{recording.name}.keypoints.npz"
    key = fingerprint(recording)
    done = finished(kept, read_keypoints_npz)
    if done is not None and done.notes.get("fingerprint") == key:
        return done
    pieces = out / f".{recording.name}.{key}"
    make_folder(pieces)
    pose2d = replace(_follow_in_pieces(recording, pieces, progress), notes={"fingerprint": key})
    write_keypoints_npz(pose2d, kept)
    shutil.rmtree(pieces)
    return pose2d


def _follow_in_pieces(recording: Recording, pieces: Path, progress: Progress | None) -> Pose2D:
    """Follow through the videos, saving pieces; go on where saved ones end."""
    points, confidence, state = [], [], Followed()
    for piece in read_pieces(pieces):
        points.append(piece["points_px"])
        confidence.append(piece["confidence"])
        known = piece["position_mm"]
        state = Followed(known if known.size else None, int(piece["lost_frames"]))
    start = sum(len(p) for p in points)
    last_px = next((p for piece in reversed(points) for p in piece[::-1, 0] if np.isfinite(p).any()), None)
    for frames in in_pieces(_follow_videos(recording, state, start, progress, last_px)):
        points.append(np.stack([f.points_px for f in frames]))
        confidence.append(np.stack([f.confidence for f in frames]))
        last = frames[-1].state
        write_piece(
            pieces,
            frames[0].index,
            points_px=points[-1],
            confidence=confidence[-1],
            position_mm=np.empty(0) if last.position_mm is None else last.position_mm,
            lost_frames=np.array(last.lost_frames),
        )
    return _joined(recording, points, confidence)


def _follow_videos(
    recording: Recording,
    state: Followed,
    start: int,
    progress: Progress | None,
    last_px: Float[np.ndarray, "17 2"] | None = None,
) -> Iterator[FollowedFrame]:
    with open_detectors() as detectors:
        frames, fps = ahead(recording.frames(start)), recording.frame_rate
        if len(recording.cameras) == 1:
            followed = follow_one_view(frames, recording.cameras, detectors, fps, last_px)
        else:
            followed = follow_images(frames, recording.cameras, detectors, fps, state)
        for frame in followed:
            if progress is not None:
                progress(frame.index + 1, recording.n_frames)
            yield frame


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
            if len(recording.cameras) > 1
            else f"{recording.folder}: nobody was found"
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
