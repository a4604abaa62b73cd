"""Recordings whose people are labelled, as samples: the path of everybody's own data and of the public data sets."""

from __future__ import annotations

from bisect import bisect_right
from collections.abc import Iterator
from dataclasses import dataclass
from itertools import accumulate

import numpy as np
from jaxtyping import Bool, Float, Int, UInt8

from tripose.cameras import Cameras
from tripose.data.batch import Sample
from tripose.errors import TriposeError
from tripose.geometry.crops import crop_person, person_box
from tripose.recording import FrameSet, Recording
from tripose.skeleton import Skeleton

# Side of a crop over the longer side of the box around the projected joints, as prediction cuts them.
_BOX_SCALE = 1.25
# So many frames are decoded and thrown away rather than sought: a seek decodes from the last key frame on.
_WORTH_A_SEEK = 250


@dataclass(frozen=True)
class Labelled:
    """A recording and where its people are.

    Attributes:
        recording: with images.
        frame: for every row its place on the recording's time axis; ascending, one row for each person.
        keypoints_mm: world frame; NaN where unknown.
        visible: whether a view shows a joint.
        group: what results are told apart by.
    """

    recording: Recording
    frame: Int[np.ndarray, " row"]
    keypoints_mm: Float[np.ndarray, "row joint 3"]
    visible: Bool[np.ndarray, "row view joint"]
    group: str


class LabelledSamples:
    """Samples cut out of videos: quick in order, slow at random; for training they are stored (`tripose.data.shards`).

    Args:
        clips: labelled recordings.
        skeleton: of all of them.
        side_px: of the crops.
    """

    def __init__(self, clips: tuple[Labelled, ...], skeleton: Skeleton, side_px: int = 256) -> None:
        self.clips, self.skeleton, self.side_px = clips, skeleton, side_px
        self._ends = list(accumulate(len(c.frame) for c in clips))
        self._open = -1
        self._frames: Iterator[FrameSet] = iter(())
        self._last: FrameSet | None = None

    def __len__(self) -> int:
        return self._ends[-1] if self._ends else 0

    def __getitem__(self, index: int) -> Sample:
        """A sample with the views that show the person.

        Raises:
            TriposeError: no view does.
        """
        if not 0 <= index < len(self):
            raise IndexError(index)
        sample = self.cut(index)
        if sample is None:
            which, row = self._row(index)
            clip = self.clips[which]
            raise TriposeError(f"{clip.recording.folder}: no image of frame {clip.frame[row]} shows the person")
        return sample

    def cut(self, index: int) -> Sample | None:
        """A sample, or None when no view has an image that shows the person."""
        which, row = self._row(index)
        clip = self.clips[which]
        images = self._images(which, int(clip.frame[row]))
        cameras, keypoints = clip.recording.cameras, clip.keypoints_mm[row]
        views, crops = [], []
        for view, (name, image) in enumerate(zip(cameras.names, images, strict=True)):
            camera = cameras.select([name])
            box = (
                person_box(camera, keypoints, _BOX_SCALE)
                if image is not None and clip.visible[row, view].any()
                else None
            )
            if image is not None and box is not None:
                views.append(view)
                crops.append(crop_person(image, camera, box, self.side_px))
        if not crops:
            return None
        return Sample(
            images=np.stack([image for image, _ in crops]),
            cameras=Cameras.join([rig for _, rig in crops]),
            keypoints_mm=keypoints,
            visible=clip.visible[row, views],
            group=clip.group,
        )

    def _row(self, index: int) -> tuple[int, int]:
        which = bisect_right(self._ends, index)
        return which, index - (self._ends[which - 1] if which else 0)

    def _images(self, which: int, frame: int) -> tuple[UInt8[np.ndarray, "height width 3"] | None, ...]:
        """The images of a frame of a clip; goes on in the videos that are open where that is quicker."""
        recording, last = self.clips[which].recording, self._last
        if which != self._open or last is None or not last.index <= frame < last.index + _WORTH_A_SEEK:
            self._open, self._frames, last = which, recording.frames(start=frame), None
        while last is None or last.index < frame:
            last = next(self._frames, None)
            if last is None:  # the videos end before
                break
        self._last = last
        return (None,) * len(recording.cameras) if last is None else last.images
