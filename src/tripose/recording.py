"""A recording: calibrated cameras with one video, image folder or keypoint file each, matched by name.

Its parts are found by convention (`tripose.discovery`) or named in ``recording.yaml`` (`tripose.recording_file`).
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass, replace
from pathlib import Path

import numpy as np
from jaxtyping import UInt8

from tripose.cameras import Cameras, Up
from tripose.discovery import (
    find_calibration,
    find_keypoints,
    find_videos,
    keypoint_views,
    late_starts,
    match_views,
)
from tripose.errors import TriposeError
from tripose.formats.calibration import Unit, read_calibration
from tripose.image_folder import frame_numbers
from tripose.recording_file import read_recording_file
from tripose.video import Frame, VideoInfo, probe, read_frames

# Codecs pad images to multiples of 16 pixels, and some programs store or calibrate the padded size.
_PADDING_PX = 16


@dataclass(frozen=True)
class Recording:
    """One recording, opened but not decoded.

    Attributes:
        name: the folder's name.
        folder: where it lies.
        cameras: the cameras that have a view, in the order of the calibration.
        videos: camera name -> video file or image folder; empty when only keypoints exist.
        keypoints: camera name -> 2D keypoint file or folder; empty when there are none.
        calibration: the calibration file (or folder of a file pair).
        unused_cameras: calibrated cameras without a view.
        unused_files: views without a calibrated camera.
        infos: camera name -> what the video's header says.
        rotate_deg: camera name -> clockwise rotation to apply on top of the video's own metadata.
        skeleton: name of the skeleton of the keypoint files, if `recording.yaml` says.
        fps: frame rate that `recording.yaml` gives to image folders and keypoint files.
        warnings: what was assumed while opening.
    """

    name: str
    folder: Path
    cameras: Cameras
    videos: Mapping[str, Path]
    keypoints: Mapping[str, Path]
    calibration: Path
    unused_cameras: tuple[str, ...]
    unused_files: tuple[str, ...]
    infos: Mapping[str, VideoInfo]
    rotate_deg: Mapping[str, int]
    skeleton: str | None
    fps: float | None
    warnings: tuple[str, ...]

    @classmethod
    def open(
        cls,
        path: Path | str,
        *,
        calibration: Path | str | None = None,
        keypoints: Path | str | None = None,
        skeleton: str | None = None,
        unit: Unit | None = None,
        up: Up | None = None,
    ) -> Recording:
        """Find the parts of a recording and match them by name.

        Args:
            path: the folder, or its `recording.yaml`.
            calibration: a calibration file to use instead of the one found.
            keypoints: a folder of 2D keypoints to use, instead of videos or of the folder found.
            skeleton: name of the keypoints' skeleton, where the files do not tell.
            unit: length unit of the calibration, where the file does not have its format's usual one.
            up: world axis that points up, where the calibration does not say.

        Raises:
            TriposeError: no or several calibrations, no views, a view without a camera, or sizes that do not fit;
                each with the likely cause.
        """
        path = Path(path)
        if not path.exists():
            raise TriposeError(f"{path}: there is no such recording")
        folder = path if path.is_dir() else path.parent
        described = read_recording_file(path if path.is_file() else folder / "recording.yaml")
        calibration_path = Path(calibration) if calibration else described.calibration or find_calibration(folder)
        videos = {} if keypoints else described.videos or find_videos(folder)
        found = Path(keypoints) if keypoints else described.keypoints or find_keypoints(folder, required=not videos)
        points = keypoint_views(found) if found and (keypoints or described.keypoints or not videos) else {}
        infos = {name: probe(p, described.fps) for name, p in videos.items()}
        names = read_calibration(calibration_path, unit or described.unit).names
        by_video = match_views(names, list(videos), calibration_path)
        unknown = [n for n in described.rotate_deg if n not in by_video and n not in videos]
        if unknown:
            raise TriposeError(f"{folder}: rotate_deg names {unknown[0]!r}, which is neither a camera nor a view here")
        camera_of = {view: camera for camera, view in by_video.items()}
        turns = described.rotate_deg
        rotations = {name: turns.get(name, turns.get(camera_of.get(name, name), 0)) for name in videos}
        sizes = {name: _turned(info.size_px, rotations[name]) for name, info in infos.items()}
        by_points = match_views(names, list(points), calibration_path)
        known_px = {camera: sizes[view] for camera, view in by_video.items()}
        cameras = read_calibration(calibration_path, unit or described.unit, sizes_px=known_px)
        if up or described.up:
            cameras = replace(cameras, up=up or described.up)
        used = [n for n in cameras.names if n in (by_video or by_points)]
        warnings = [w for c in used if c in known_px for w in _size_warning(cameras, c, known_px[c])]
        taken = set(by_video.values()) | set(by_points.values())
        return cls(
            name=folder.resolve().name,
            folder=folder,
            cameras=cameras.select(used),
            videos={c: videos[v] for c, v in by_video.items()},
            keypoints={c: points[v] for c, v in by_points.items() if c in used},
            calibration=calibration_path,
            unused_cameras=tuple(n for n in cameras.names if n not in used),
            unused_files=tuple(sorted((set(videos) | set(points)) - taken)),
            infos={c: infos[v] for c, v in by_video.items()},
            rotate_deg={c: rotations[v] for c, v in by_video.items()},
            skeleton=skeleton or described.skeleton,
            fps=described.fps,
            warnings=tuple(warnings),
        )

    @property
    def frame_rate(self) -> float:
        """Frames per second of the common time axis: the slowest video's."""
        return min(info.fps for info in self.infos.values()) if self.infos else self.fps or 30.0

    @property
    def n_frames(self) -> int | None:
        """Length of the common time axis as the headers tell it; None when one does not. For progress bars only."""
        lengths = [
            None if info.n_frames is None else round(info.n_frames * self.frame_rate / info.fps)
            for info in self.infos.values()
        ]
        known = [n for n in lengths if n is not None]
        return max(known) if known and len(known) == len(lengths) else None

    def frames(self, start: int = 0) -> Iterator[FrameSet]:
        """Decode all views side by side, in constant memory.

        Views of other frame rates are sampled at the nearest frame. A view that misses a frame is None there; the
        iteration ends when fewer than two views go on.

        Args:
            start: first index of the common time axis.
        """
        streams = {}
        offsets = late_starts({n: frame_numbers(p) if p.is_dir() else None for n, p in self.videos.items()})
        for name, path in self.videos.items():
            info = self.infos[name]
            # Half a common period earlier lies the first frame that may be the nearest.
            first = int((start - 0.5) * info.fps / self.frame_rate) - 1 - offsets[name]
            rate = self.fps if path.is_dir() else None  # a video file has its own
            decoded = read_frames(path, start=max(0, first), fps=rate, rotate_deg=self.rotate_deg[name])
            streams[name] = _resample(decoded, info, self.frame_rate, start, offsets[name])
        names = self.cameras.names
        pending = {name: next(streams[name], None) for name in names}
        index = start
        while sum(p is not None for p in pending.values()) >= min(2, len(names)):
            images: list[UInt8[np.ndarray, "height width 3"] | None] = []
            for name in names:
                item = pending[name]
                if item is not None and item[0] == index:
                    images.append(item[1])
                    pending[name] = next(streams[name], None)
                else:
                    images.append(None)
            yield FrameSet(index, index / self.frame_rate, tuple(images))
            index += 1


@dataclass(frozen=True)
class FrameSet:
    """The images of one moment, one per camera in the order of the recording's cameras; None where one is missing."""

    index: int
    time_s: float
    images: tuple[UInt8[np.ndarray, "height width 3"] | None, ...]


def _resample(
    frames: Iterator[Frame], info: VideoInfo, common_fps: float, start: int, offset: int
) -> Iterator[tuple[int, UInt8[np.ndarray, "height width 3"]]]:
    """Yield (index on the common axis, image): for every index the frame nearest in time, if within half a period."""
    # Rates that differ by less than half a frame over the whole clip are one rate, written differently.
    drift_frames = abs(info.fps - common_fps) / common_fps * (info.n_frames or 100_000)
    if drift_frames < 0.5:
        yield from ((f.index + offset, f.image) for f in frames if f.index + offset >= start)
        return
    best: tuple[int, float, Frame] | None = None
    for frame in frames:
        index = round(frame.time_s * common_fps)
        distance = abs(frame.time_s - index / common_fps)
        if best is not None and index != best[0]:
            yield best[0], best[2].image
            best = None
        if index >= start and (best is None or distance < best[1]):
            best = (index, distance, frame)
    if best is not None:
        yield best[0], best[2].image


def _turned(size_px: tuple[int, int], rotate_deg: int) -> tuple[int, int]:
    return size_px if rotate_deg % 180 == 0 else (size_px[1], size_px[0])


def _size_warning(cameras: Cameras, name: str, video_px: tuple[int, int]) -> list[str]:
    """Compare the sizes of a video and its camera.

    Raises:
        TriposeError: they do not describe the same image.
    """
    width, height = cameras.select([name]).size_px[0].tolist()
    if (width, height) == video_px:
        return []
    said = f"camera {name!r}: the video is {video_px[0]}x{video_px[1]}, the calibration {width}x{height}"
    if abs(width - video_px[0]) < _PADDING_PX and abs(height - video_px[1]) < _PADDING_PX:
        return [f"{said}: taken as codec padding at the right and lower border"]
    if (height, width) == video_px:
        raise TriposeError(
            f"{said}: one of them is turned by 90 degrees; say `rotate_deg` in recording.yaml, or calibrate again"
        )
    raise TriposeError(
        f"{said}: the video was scaled or cropped after calibration; use the original, or calibrate again"
    )
