"""Frames of a video file or of a folder of images, each with its exact place in time.

A frame's index is its place on the clip's regular time grid and comes from timestamps, so a dropped or damaged frame
leaves a gap and does not shift the frames after it. AVI files have no display times: their frames are counted, and a
frame that the camera dropped does shift them. What cannot be read is left out and told
once, at the end, through `warnings` (`UserWarning` with the file and the number of frames).
"""

from __future__ import annotations

import warnings
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from itertools import islice
from pathlib import Path
from typing import Any

import numpy as np
from jaxtyping import UInt8

from tripose.errors import TriposeError
from tripose.image_folder import numbered_images, read_image

VIDEO_SUFFIXES = frozenset(
    ".mp4 .mov .m4v .avi .mkv .webm .mpg .mpeg .ts .mts .m2ts .wmv .mxf .3gp .flv .ogv .mjpeg".split()
)

DEFAULT_FOLDER_FPS = 30.0
# Containers with an index of key frames. In MPEG streams a seek may land behind the frame asked for, or a picture off:
# they are decoded from the beginning.
_SEEKABLE = ("mp4", "matroska")
SCANNED_PACKETS = 200  # enough for the median distance of frames, dropped ones included


@dataclass(frozen=True)
class VideoInfo:
    """What is known of a clip before it is read.

    Attributes:
        path: the file, or the folder of images.
        size_px: width and height as displayed, that is after the rotation metadata.
        fps: nominal frames per second, the rate of the time grid; dropped frames do not lower it.
        n_frames: length of the time grid that the header promises (number of images of a folder); a cut file has
            fewer frames, and None means that the header does not say.
        rotation_deg: clockwise rotation (0, 90, 180, 270) that the metadata asks for and `read_frames` applies.
    """

    path: Path
    size_px: tuple[int, int]
    fps: float
    n_frames: int | None
    rotation_deg: int


@dataclass(frozen=True)
class Frame:
    """One frame of a clip.

    Attributes:
        index: place on the clip's regular time grid, ``round(time_s * fps)``; increases, with gaps.
        time_s: time since the clip's first frame, from timestamps.
        image: RGB, upright.
    """

    index: int
    time_s: float
    image: UInt8[np.ndarray, "height width 3"]


def probe(path: Path, fps: float | None = None) -> VideoInfo:
    """Look at a video file or a folder of images without reading it through.

    Args:
        path: video file, or folder of images named by frame number.
        fps: rate of a folder of images (default 30); a video file has its own.

    Raises:
        TriposeError: the path is missing, empty, not a video, or without one image that can be read.
    """
    path = Path(path)
    _check_rate(fps)
    if path.is_dir():
        images = numbered_images(path)
        first = next((image for image in (read_image(file) for file in images.values()) if image is not None), None)
        if first is None:
            raise TriposeError(f"none of the {len(images)} images in {path} can be read: they are damaged")
        height, width = first.shape[:2]
        return VideoInfo(path, (width, height), fps or DEFAULT_FOLDER_FPS, len(images), 0)
    return _inspect(path)


def read_frames(path: Path, *, start: int = 0, fps: float | None = None, rotate_deg: int = 0) -> Iterator[Frame]:
    """Read the frames of a clip in order, lazily and in constant memory.

    Damaged frames are left out: those that the decoder reports, and those up to the next key frame that are built on
    them. A `UserWarning` at the end of the clip tells how many frames were lost.

    Args:
        path: video file, or folder of images named by frame number (a gap in the numbers is a gap in the indices).
        start: index of the first frame wanted; found exactly, by seeking to a key frame and decoding from there.
        fps: rate of the grid that `Frame.index` counts on; default is the clip's own (30 for images). Of two frames
            with the same index the first is kept, so that a lower rate thins the clip out.
        rotate_deg: clockwise rotation (a multiple of 90) in addition to the one that the metadata asks for.

    Raises:
        TriposeError: as `probe`, at the call; and an illegal `start`, `fps` or `rotate_deg`.
    """
    path = Path(path)
    _check_rate(fps)
    if start < 0:
        raise TriposeError(f"the first frame of {path} cannot be {start}: indices start at 0")
    if rotate_deg % 90:
        raise TriposeError(f"{path} cannot be rotated by {rotate_deg} degrees: only by multiples of 90")
    if path.is_dir():
        rate = probe(path, fps).fps
        return _folder_frames(path, start, rate, rotate_deg)
    info = _inspect(path)
    return _video_frames(info, start, fps or info.fps, info.rotation_deg + rotate_deg)


def count_frames(path: Path) -> int:
    """Count the frames that `read_frames` gives, by decoding all of them.

    Raises:
        TriposeError: as `probe`.
    """
    path = Path(path)
    if path.is_dir():
        return sum(1 for _ in read_frames(path))
    info = _inspect(path)
    return sum(1 for _ in _decode(info, 0, info.fps))


# Folders of images


def _folder_frames(folder: Path, start: int, fps: float, rotate_deg: int) -> Iterator[Frame]:
    images = numbered_images(folder)
    first = next(iter(images))
    wanted = [number for number in images if number - first >= start]
    lost = 0
    for number in wanted:
        image = read_image(images[number])
        if image is None:
            lost += 1
        else:
            yield Frame(number - first, (number - first) / fps, _rotated(image, rotate_deg))
    _tell_lost(folder, lost)


# Video files


@contextmanager
def _open(path: Path) -> Iterator[Any]:
    """A container with at least one video stream.

    Raises:
        TriposeError: the path is missing, empty, or no video.
    """
    import av

    if not path.exists():
        raise TriposeError(f"{path}: there is no such video or image folder")
    if path.stat().st_size == 0:
        raise TriposeError(f"{path}: the file is empty")
    try:
        container = av.open(str(path))
    except (av.error.FFmpegError, OSError, UnicodeDecodeError) as error:
        raise TriposeError(f"{path}: not a video that can be opened ({error})") from error
    with container:
        if not container.streams.video:
            raise TriposeError(f"{path}: the file has no video stream")
        yield container


def _inspect(path: Path) -> VideoInfo:
    with _open(path) as container:
        stream = container.streams.video[0]
        fps = _nominal_fps(stream, container)
        length_s = float(stream.duration * stream.time_base) if stream.duration else (container.duration or 0) / 1e6
        promised = stream.frames or round(length_s * fps) or None
    with _open(path) as container:
        frame = next((f for p in _packets(container) for f in _frames_of(p) or []), None)
        if frame is None:
            raise TriposeError(f"{path}: not one frame can be decoded; the file is damaged or was never finished")
        rotation = round(-frame.rotation / 90) * 90 % 360  # PyAV counts counter-clockwise
        size = (frame.height, frame.width) if rotation % 180 else (frame.width, frame.height)
    return VideoInfo(path, size, fps, promised, rotation)


def _nominal_fps(stream: Any, container: Any) -> float:
    """The rate of the time grid: the header's, unless the distances between frames say otherwise.

    A recording that dropped frames has a low average rate in its header; its frames still lie on the nominal grid.
    """
    ticks = sorted(p.pts for p in islice(_packets(container), SCANNED_PACKETS) if p.pts is not None)
    said = [float(rate) for rate in (stream.average_rate, stream.guessed_rate) if rate]
    gaps = np.diff(ticks)
    if not (gaps > 0).any():
        return said[0] if said else DEFAULT_FOLDER_FPS
    gap_s = float(np.median(gaps[gaps > 0]) * stream.time_base)
    # Coarse clocks (1 ms in Matroska) put frames of 60 fps at 16 or 17 ms: trust the header within one tick.
    return next((rate for rate in said if abs(1 / rate - gap_s) <= stream.time_base + 0.01 * gap_s), 1 / gap_s)


def _video_frames(info: VideoInfo, start: int, fps: float, turn_deg: int) -> Iterator[Frame]:
    from av.video.reformatter import VideoReformatter

    # One for all frames: `frame.to_ndarray(format="rgb24")` makes tables and threads for each, which may take longer
    # than the conversion itself.
    colours, last = VideoReformatter(), -1
    for index, time_s, frame in _decode(info, start, fps):
        if index > last:
            last = index
            yield Frame(index, time_s, _rotated(colours.reformat(frame, format="rgb24").to_ndarray(), turn_deg))


def _decode(info: VideoInfo, start: int, fps: float) -> Iterator[tuple[int, float, Any]]:
    """Sound frames from index `start` on: (index, time since the clip's first frame in seconds, frame).

    After a decoding error the frames up to the next key frame are built on damaged ones, and are left out with it.
    """
    with _open(info.path) as container:
        stream = container.streams.video[0]
        stream.thread_type = "AUTO"
        first = _first_tick(container, info.path)
        early_s = start / fps - 1.0
        if early_s > 0 and first is not None and any(n in container.format.name for n in _SEEKABLE):
            container.seek(first + int(early_s / stream.time_base), stream=stream, backward=True)
        damaged, counted, lost, index = False, 0, 0, -1
        for packet in _packets(container):
            frames = _frames_of(packet)
            if frames is None:
                damaged, lost, counted = True, lost + 1, counted + 1
            for frame in frames or []:
                damaged = (damaged and not frame.key_frame) or frame.is_corrupt
                counted += 1
                if damaged or (first is not None and frame.pts is None):
                    lost += 1
                    continue
                time_s = (counted - 1) / fps if first is None else float((frame.pts - first) * stream.time_base)
                index = round(time_s * fps)
                if index >= start:
                    yield index, time_s, frame
        # One frame of slack: durations in headers are rounded.
        if fps == info.fps and lost == 0 and index + 2 < (info.n_frames or 0):
            text = f"{info.path}: ends after {index + 1} of {info.n_frames} frames; the file is cut off"
            warnings.warn(text, stacklevel=2)
        _tell_lost(info.path, lost)


def _packets(container: Any) -> Iterator[Any]:
    """The packets of the video stream, up to where the file cannot be read further."""
    import av

    try:
        yield from container.demux(container.streams.video[0])
    except (av.error.FFmpegError, IndexError):  # IndexError: PyAV's, when damage looks like a new stream
        return


def _frames_of(packet: Any) -> list[Any] | None:
    """The frames that a packet completes; None when it is damaged."""
    import av

    try:
        return list(packet.decode())
    except av.error.FFmpegError:
        return None


def _first_tick(container: Any, path: Path) -> int | None:
    """Display time of the first frame, in the stream's ticks; None when the file has no display times (AVI)."""
    stream = container.streams.video[0]
    if container.format.name == "avi":
        return None
    if stream.start_time is not None:
        return int(stream.start_time)
    with _open(path) as again:
        packets = islice(_packets(again), SCANNED_PACKETS)
        return min((p.pts for p in packets if p.pts is not None), default=None)


def _rotated(
    image: UInt8[np.ndarray, "height width 3"], clockwise_deg: int
) -> UInt8[np.ndarray, "turned_height turned_width 3"]:
    quarters = clockwise_deg // 90 % 4
    return image if quarters == 0 else np.ascontiguousarray(np.rot90(image, -quarters))


def _tell_lost(path: Path, lost: int) -> None:
    if lost:
        frames = "1 frame is damaged and was" if lost == 1 else f"{lost} frames are damaged and were"
        warnings.warn(f"{path}: {frames} left out", stacklevel=2)


def _check_rate(fps: float | None) -> None:
    if fps is not None and not (np.isfinite(fps) and fps > 0):
        raise TriposeError(f"{fps} frames per second: a frame rate must be positive")
