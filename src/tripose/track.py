"""Follow one person through a recording: images or everybody's keypoints in, that person's keypoints out.

The detector looks at whole images only every `DETECT_EVERY` frames and whenever the person is lost; in between, boxes
come from the projection of the last 3D pose. Every frame is matched over all views (`tripose.associate`), so a crop in
which the keypoint network latched onto somebody else is left out instead of believed.
"""

from __future__ import annotations

import os
from collections.abc import Callable, Iterable, Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from dataclasses import dataclass
from typing import TypeVar

import numpy as np
import torch
from jaxtyping import Float, UInt8

from tripose.associate import Match, find_person
from tripose.cameras import Cameras
from tripose.detect.movenet import (
    CROP_SIZE_PX,
    Detections,
    detect_people,
    estimate_keypoints,
    load_multipose,
    load_thunder,
)
from tripose.geometry.crops import crop_person, person_box, to_frame
from tripose.models.movenet import MoveNet
from tripose.recording import FrameSet
from tripose.skeleton import COCO17

T = TypeVar("T")

DETECT_EVERY = 30
# A person not seen for this long may come back anywhere, so the last position no longer counts.
FORGET_AFTER_S = 1.0
# Side of a crop over the longer side of the box around the projected joints, which ends at ankles and eyes.
BOX_SCALE = 1.25
# Keypoints whose heatmap peak is lower are left out. The sample recording has none; those between 0.2 and 0.4 are 24 px
# from the reprojected joint in the median, those above 12 px.
LEAST_CONFIDENCE = 0.1

_JOINTS = len(COCO17)


@dataclass(frozen=True)
class Detectors:
    """The two networks, loaded once: people in whole images, and keypoints in crops.

    Every image is a task of its own on one thread: these networks are so small that a batch overflows the caches
    (102 instead of 61 ms a crop) and that threads inside an operation mostly wait for each other.
    """

    people: MoveNet
    keypoints: MoveNet
    pool: ThreadPoolExecutor

    def map(self, look: Callable[[int], T], views: Iterable[int]) -> list[T]:
        """Call a function for every view, side by side."""
        return list(self.pool.map(look, views))


@contextmanager
def open_detectors() -> Iterator[Detectors]:
    """Load the networks, and give each of their threads one core for as long as they are open."""
    before = torch.get_num_threads()
    torch.set_num_threads(1)
    try:
        with ThreadPoolExecutor(max_workers=os.cpu_count()) as pool:
            yield Detectors(load_multipose(), load_thunder(), pool)
    finally:
        torch.set_num_threads(before)


@dataclass(frozen=True)
class Followed:
    """The followed person at the end of a frame; all that the next frame needs to know.

    Attributes:
        position_mm: joints at the last sighting, world frame; None before the first one or after a long loss.
        lost_frames: frames since the last sighting.
    """

    position_mm: Float[np.ndarray, "joint 3"] | None = None
    lost_frames: int = 0

    def after(self, match: Match | None, fps: float) -> Followed:
        """The state one frame later."""
        if match is not None:
            return Followed(_keep_known(match.position_mm, self.position_mm), 0)
        lost = self.lost_frames + 1
        return Followed(None if lost > FORGET_AFTER_S * fps else self.position_mm, lost)


@dataclass(frozen=True)
class FollowedFrame:
    """The followed person's keypoints in every view of one frame; NaN and 0 where it was not found."""

    index: int
    points_px: Float[np.ndarray, "view 17 2"]
    confidence: Float[np.ndarray, "view 17"]
    state: Followed


def follow_images(
    frames: Iterator[FrameSet], cameras: Cameras, detectors: Detectors, fps: float, state: Followed
) -> Iterator[FollowedFrame]:
    """Detect and follow one person.

    Args:
        frames: images of all views, in time order.
        cameras: their cameras.
        detectors: the networks.
        fps: frames per second.
        state: where the person was before the first frame.
    """
    each = [cameras.select([name]) for name in cameras.names]
    for frame in frames:
        expected = state.position_mm
        if expected is None or state.lost_frames or frame.index % DETECT_EVERY == 0:
            seen = _detect(frame.images, cameras, detectors, state.position_mm)
            expected = seen if seen is not None else expected
        points, confidence = _keypoints(frame.images, each, detectors, expected)
        match = find_person(cameras, points[:, None], confidence[:, None], state.position_mm)
        state = state.after(match, fps)
        points[match.person < 0 if match else slice(None)] = np.nan
        confidence[np.isnan(points).any(-1)] = 0.0
        yield FollowedFrame(frame.index, points, confidence, state)


def follow_keypoints(
    cameras: Cameras,
    points_px: Float[np.ndarray, "time view person joint 2"],
    confidence: Float[np.ndarray, "time view person joint"],
    fps: float,
) -> tuple[Float[np.ndarray, "time view joint 2"], Float[np.ndarray, "time view joint"]]:
    """Follow one person through everybody's keypoints.

    Args:
        cameras: the rig.
        points_px: keypoints of all people, raw pixels; the order of people may change from frame to frame.
        confidence: scores, 0..1.
        fps: frames per second.

    Returns:
        The person's keypoints and scores; NaN and 0 where no detection fits.
    """
    time, views, _, joints = confidence.shape
    points = np.full((time, views, joints, 2), np.nan)
    score = np.zeros((time, views, joints))
    state = Followed()
    for i in range(time):
        match = find_person(cameras, points_px[i], confidence[i], state.position_mm)
        state = state.after(match, fps)
        for view, person in enumerate(match.person.tolist() if match else ()):
            if person >= 0:
                points[i, view] = points_px[i, view, person]
                score[i, view] = confidence[i, view, person]
    return points, score


def _detect(
    images: tuple[UInt8[np.ndarray, "height width 3"] | None, ...],
    cameras: Cameras,
    detectors: Detectors,
    previous_mm: Float[np.ndarray, "17 3"] | None,
) -> Float[np.ndarray, "17 3"] | None:
    """Find the person in whole images; coarse joints, world frame, or None."""
    points, confidence = detect_everybody(images, detectors)
    match = find_person(cameras, points, confidence, previous_mm)
    return None if match is None else _keep_known(match.position_mm, previous_mm)


def detect_everybody(
    images: tuple[UInt8[np.ndarray, "height width 3"] | None, ...], detectors: Detectors
) -> tuple[Float[np.ndarray, "view person 17 2"], Float[np.ndarray, "view person 17"]]:
    """Everybody's coarse keypoints, raw pixels, and their scores in the images of one moment; NaN and 0 fill up."""

    def look(view: int) -> Detections | None:
        image = images[view]
        return None if image is None else detect_people(detectors.people, image[None])[0]

    found = detectors.map(look, range(len(images)))
    people = max((len(f.score) for f in found if f is not None), default=0)
    points = np.full((len(images), people, _JOINTS, 2), np.nan)
    confidence = np.zeros((len(images), people, _JOINTS))
    for view, detections in enumerate(found):
        if detections is not None:
            points[view, : len(detections.score)] = detections.points_px
            confidence[view, : len(detections.score)] = detections.confidence
    return points, confidence


def _keypoints(
    images: tuple[UInt8[np.ndarray, "height width 3"] | None, ...],
    each: list[Cameras],
    detectors: Detectors,
    expected_mm: Float[np.ndarray, "17 3"] | None,
) -> tuple[Float[np.ndarray, "view 17 2"], Float[np.ndarray, "view 17"]]:
    """Look at the person's crop in every view."""
    points = np.full((len(images), _JOINTS, 2), np.nan)
    confidence = np.zeros((len(images), _JOINTS))
    if expected_mm is None:
        return points, confidence

    def look(view: int) -> None:
        image, camera = images[view], each[view]
        box = None if image is None else person_box(camera, expected_mm, BOX_SCALE)
        if image is None or box is None:
            return
        crop, cell = crop_person(image, camera, box, CROP_SIZE_PX)
        expected = cell.project(torch.as_tensor(expected_mm))[0].numpy()
        found, score = estimate_keypoints(detectors.keypoints, crop[None], expected)
        sure = score[0] >= LEAST_CONFIDENCE
        points[view] = np.where(sure[:, None], to_frame(found[0], cell, camera), np.nan)
        confidence[view] = np.where(sure, score[0], 0.0)

    detectors.map(look, range(len(images)))
    return points, confidence


def _keep_known(
    position_mm: Float[np.ndarray, "joint 3"], previous_mm: Float[np.ndarray, "joint 3"] | None
) -> Float[np.ndarray, "joint 3"]:
    """Fill joints that are missing now with where they were, moved along with the others."""
    if previous_mm is None or not np.isfinite(position_mm + previous_mm).any():
        return position_mm
    moved = np.nanmedian(position_mm - previous_mm, axis=0)
    filled: Float[np.ndarray, "joint 3"] = np.where(np.isnan(position_mm), previous_mm + moved, position_mm)
    return filled
