"""Follow one person through the images of a single camera."""

from __future__ import annotations

from collections.abc import Iterator

import numpy as np
import torch
from jaxtyping import Float, UInt8

from tripose.cameras import Cameras
from tripose.detect.movenet import CROP_SIZE_PX, detect_people, estimate_keypoints
from tripose.geometry.crops import crop_person, square_box, to_frame
from tripose.recording import FrameSet
from tripose.track import BOX_SCALE, DETECT_EVERY, FORGET_AFTER_S, LEAST_CONFIDENCE, Detectors, Followed, FollowedFrame

# A person of whom fewer keypoints are sure is lost.
_LEAST_KEYPOINTS = 6


def follow_one_view(
    frames: Iterator[FrameSet],
    camera: Cameras,
    detectors: Detectors,
    fps: float,
    last: Float[np.ndarray, "17 2"] | None = None,
) -> Iterator[FollowedFrame]:
    """The person who is seen best at first, and from then on whoever is nearest to where that person was.

    Args:
        frames: images of the view, in time order.
        camera: of the view.
        detectors: the networks.
        fps: frames per second.
        last: where the person was before the first frame.
    """
    lost = 0
    for frame in frames:
        image = frame.images[0]
        points, confidence = np.full((17, 2), np.nan), np.zeros(17)
        if image is not None:
            if last is None or lost or frame.index % DETECT_EVERY == 0:
                last = _nearest(image, detectors, last)
            if last is not None:
                points, confidence = _look(image, camera, detectors, last)
        found = np.isfinite(points).all(-1).sum() >= _LEAST_KEYPOINTS
        lost = 0 if found else lost + 1
        if found:
            last = points
        else:
            points, confidence = np.full((17, 2), np.nan), np.zeros(17)
            last = None if lost > FORGET_AFTER_S * fps else last
        yield FollowedFrame(frame.index, points[None], confidence[None], Followed(None, lost))


def box_of(points_px: Float[np.ndarray, "17 2"], camera: Cameras, scale: float) -> Float[np.ndarray, 4]:
    """The square around raw keypoints, ideal pixels; NaN where there is none."""
    ideal = camera.undistort(torch.as_tensor(points_px, dtype=torch.float64)[None])[0].numpy()
    return square_box(ideal, scale) if np.isfinite(ideal).all(-1).any() else np.full(4, np.nan)


def _nearest(
    image: UInt8[np.ndarray, "height width 3"], detectors: Detectors, last: Float[np.ndarray, "17 2"] | None
) -> Float[np.ndarray, "17 2"] | None:
    """Coarse keypoints of the person nearest to the last ones, or of the best seen; the last ones if nobody is."""
    people = detect_people(detectors.people, image[None])[0]
    if not len(people.score):
        return last
    if last is None:
        best: Float[np.ndarray, "17 2"] = people.points_px[0]
        return best
    centres = people.box_px.reshape(-1, 2, 2).mean(1)
    nearest: Float[np.ndarray, "17 2"] = people.points_px[
        np.linalg.norm(centres - np.nanmean(last, axis=0), axis=-1).argmin()
    ]
    return nearest


def _look(
    image: UInt8[np.ndarray, "height width 3"], camera: Cameras, detectors: Detectors, near: Float[np.ndarray, "17 2"]
) -> tuple[Float[np.ndarray, "17 2"], Float[np.ndarray, " 17"]]:
    box = box_of(near, camera, BOX_SCALE)
    if not np.isfinite(box).all():
        return np.full((17, 2), np.nan), np.zeros(17)
    crop, view = crop_person(image, camera, box, CROP_SIZE_PX)
    found, score = estimate_keypoints(detectors.keypoints, crop[None])
    sure = score[0] >= LEAST_CONFIDENCE
    return np.where(sure[:, None], to_frame(found[0], view, camera), np.nan), np.where(sure, score[0], 0.0)
