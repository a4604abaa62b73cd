"""Recordings whose people are labelled, as samples: the path of everybody's own data and of the public data sets."""

from __future__ import annotations

from bisect import bisect_right
from dataclasses import dataclass
from itertools import accumulate
from pathlib import Path

import numpy as np
from jaxtyping import Bool, Float, Int

from tripose.cameras import Cameras
from tripose.data.batch import Sample
from tripose.data.footage import Footage, Images, SceneFootage
from tripose.data.scenes import Scene
from tripose.data.views import in_image
from tripose.errors import TriposeError
from tripose.geometry.crops import crop_person, person_box, square_box
from tripose.skeleton import Skeleton

# Side of a crop over the longer side of the box around the projected joints.
_BOX_SCALE = 1.25
_CHUNK = 5000


@dataclass(frozen=True)
class Labelled:
    """What cameras took, and where its people are.

    Attributes:
        footage: the images.
        frame: for every row its place on the footage's time axis; ascending, one row for each person.
        keypoints_mm: world frame; NaN where unknown.
        visible: whether a view shows a joint.
        group: what results are told apart by.
        box_px: left, upper, right, lower edge of the person in the images, ideal pixels, for views that show them; NaN
            for others. None: the joints tell.
    """

    footage: Footage
    frame: Int[np.ndarray, " row"]
    keypoints_mm: Float[np.ndarray, "row joint 3"]
    visible: Bool[np.ndarray, "row view joint"]
    group: str
    box_px: Float[np.ndarray, "row view 4"] | None = None


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
            raise TriposeError(f"{clip.footage.folder}: no image of frame {clip.frame[row]} shows the person")
        return sample

    def cut(self, index: int) -> Sample | None:
        """A sample, or None when no view has an image that shows the person."""
        which, row = self._row(index)
        clip = self.clips[which]
        images = self._images(which, int(clip.frame[row]))
        cameras, keypoints = clip.footage.cameras, clip.keypoints_mm[row]
        views, crops = [], []
        for view, (name, image) in enumerate(zip(cameras.names, images, strict=True)):
            camera = cameras.select([name])
            box = None if image is None else _box(clip, row, view, camera)
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

    def _images(self, which: int, frame: int) -> Images:
        """The images of a frame of a clip; the decoders of one clip at a time are open."""
        if which != self._open:
            self.clips[self._open].footage.close()
            self._open = which
        return self.clips[which].footage.at(frame)


def label_scene(scene: Scene, folder: Path) -> Labelled:
    """A take of a public data set, with all its rows.

    Args:
        scene: of an index.
        folder: where the index lies.
    """
    visible = inside_images(scene.cameras, scene.keypoints_mm)
    visible &= np.array([name in scene.sources for name in scene.cameras.names])[:, None]
    if scene.box_px is not None:
        visible &= np.isfinite(scene.box_px).all(-1, keepdims=True)
    footage = SceneFootage(scene, folder)
    return Labelled(footage, scene.frame, scene.keypoints_mm, visible, scene.name, scene.box_px)


def inside_images(
    cameras: Cameras, keypoints_mm: Float[np.ndarray, "row joint 3"]
) -> Bool[np.ndarray, "row view joint"]:
    """Whether joints are inside of the images; in parts, as there may be many rows."""
    rows, joints = keypoints_mm.shape[:2]
    parts = [np.zeros((len(cameras), 0, joints), dtype=bool)]
    for start in range(0, rows, _CHUNK):
        some: Float[np.ndarray, "row joint 3"] = keypoints_mm[start : start + _CHUNK]
        parts.append(in_image(cameras, some.reshape(-1, 3)).reshape(len(cameras), -1, joints))
    return np.concatenate(parts, 1).swapaxes(0, 1)


def _box(clip: Labelled, row: int, view: int, camera: Cameras) -> Float[np.ndarray, 4] | None:
    """The square to cut out of a view; None where it does not show the person."""
    if not clip.visible[row, view].any():
        return None
    if clip.box_px is None:
        return person_box(camera, clip.keypoints_mm[row], _BOX_SCALE)
    return square_box(clip.box_px[row, view].reshape(2, 2))
