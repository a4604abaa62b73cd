"""Images of labelled moments: whole recordings, and takes of public data sets."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from functools import cached_property
from pathlib import Path
from typing import Generic, Protocol, TypeVar, runtime_checkable

import numpy as np
from jaxtyping import UInt8

from tripose.cameras import Cameras
from tripose.data.scenes import Scene
from tripose.image_folder import numbered_images, read_image
from tripose.recording import Recording
from tripose.video import read_frames

# So many frames are decoded and thrown away rather than sought: a seek decodes from the last key frame on.
_WORTH_A_SEEK = 250

Images = tuple[UInt8[np.ndarray, "height width 3"] | None, ...]
"""One image a view, in the order of the cameras, RGB; None where there is none."""


@runtime_checkable
class _HasIndex(Protocol):
    @property
    def index(self) -> int: ...


_Numbered = TypeVar("_Numbered", bound=_HasIndex)


class Footage(Protocol):
    """What the cameras of a rig took; quick in order, slow at random where it is in videos."""

    @property
    def folder(self) -> Path:
        """Where it lies, for messages."""

    @property
    def cameras(self) -> Cameras:
        """Of the whole images."""

    def at(self, frame: int) -> Images:
        """The images of a frame."""

    def close(self) -> None:
        """Let go of decoders; reading goes on afterwards all the same."""


class Filmed:
    """A recording, whose views are in step by their times.

    Args:
        recording: with images.
        cameras: where they are not the recording's own.
    """

    def __init__(self, recording: Recording, cameras: Cameras | None = None) -> None:
        self.folder, self.cameras = recording.folder, cameras or recording.cameras
        self._recording = recording
        self.close()

    def close(self) -> None:
        """Forget where the videos are."""
        self._moments = _Forward(lambda start: self._recording.frames(start=start))

    def at(self, frame: int) -> Images:
        """What all views show; nothing behind the end."""
        moment = self._moments.at(frame)
        return (None,) * len(self.cameras) if moment is None else moment.images


class SceneFootage:
    """A take of a data set, whose views are in step by their frame numbers.

    Args:
        scene: with the sources of its images.
        folder: of the data set, for messages.
    """

    def __init__(self, scene: Scene, folder: Path) -> None:
        self.folder, self.cameras = folder, scene.cameras
        self._sources = scene.sources
        self.close()

    def close(self) -> None:
        """Close the videos."""
        self._views = {name: _view(path) for name, path in self._sources.items()}

    def at(self, frame: int) -> Images:
        """Of the views that have an image of this number."""
        return tuple(self._views[n].at(frame) if n in self._views else None for n in self.cameras.names)


class _Folder:
    """Images by the number in their name."""

    def __init__(self, path: Path) -> None:
        self.path = path

    @cached_property
    def images(self) -> dict[int, Path]:
        return numbered_images(self.path)

    def at(self, frame: int) -> UInt8[np.ndarray, "height width 3"] | None:
        return read_image(self.images[frame]) if frame in self.images else None


class _Video:
    """Images by their place on the video's time grid."""

    def __init__(self, path: Path) -> None:
        self._frames = _Forward(lambda start: read_frames(path, start=start))

    def at(self, frame: int) -> UInt8[np.ndarray, "height width 3"] | None:
        found = self._frames.at(frame)
        return None if found is None else found.image


class _Forward(Generic[_Numbered]):
    """Something that is read in order from any place on; goes on where that is quicker than to start again.

    Args:
        start: reads from a number on.
    """

    def __init__(self, start: Callable[[int], Iterator[_Numbered]]) -> None:
        self._start = start
        self._rest: Iterator[_Numbered] = iter(())
        self._last: _Numbered | None = None

    def at(self, index: int) -> _Numbered | None:
        """The item of this number, if there is one."""
        last = self._last
        if last is None or not last.index <= index < last.index + _WORTH_A_SEEK:
            self._rest, last = self._start(index), None
        while last is None or last.index < index:
            last = next(self._rest, None)
            if last is None:  # it ends before
                break
        self._last = last
        return last if last is not None and last.index == index else None


def _view(path: Path) -> _Folder | _Video:
    return _Folder(path) if path.is_dir() else _Video(path)
