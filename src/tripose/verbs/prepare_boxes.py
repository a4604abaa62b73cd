"""People of a public data set where a detector finds them, as an alternative to the boxes that come with it."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import replace
from functools import partial
from pathlib import Path

import numpy as np
import torch
from jaxtyping import Float

from tripose.cameras import Cameras
from tripose.data.footage import SceneFootage
from tripose.data.scenes import Scene
from tripose.detect.movenet import detect_people, load_multipose
from tripose.errors import TriposeError
from tripose.geometry.crops import person_box
from tripose.verbs.prepare_scenes import Job

# A detector's box ends at the joints that it knows, which eyes and ankles are.
_SCALE = 1.2
# With less in common, the box is of somebody else.
_LEAST_OVERLAP = 0.3


def with_detector(jobs: Mapping[str, Job]) -> dict[str, Job]:
    """Jobs that also look for the people in the images."""
    return {name: partial(detected, job) for name, job in jobs.items()}


def detected(job: Job) -> tuple[Scene, Sequence[str]]:
    """A scene whose boxes are those of MoveNet Multipose; which of its people is meant, the truth decides.

    Args:
        job: reads the scene.

    Raises:
        TriposeError: as `job`, or nobody was found in any image.
    """
    scene, problems = job()
    torch.set_num_threads(1)
    model, each = load_multipose(), [scene.cameras.select([name]) for name in scene.cameras.names]
    footage = SceneFootage(scene, Path(scene.name))
    boxes = np.full((len(scene.frame), len(each), 4), np.nan)
    for row, (frame, joints) in enumerate(zip(scene.frame.tolist(), scene.keypoints_mm, strict=True)):
        for view, (camera, image) in enumerate(zip(each, footage.at(frame), strict=True)):
            true = None if image is None else person_box(camera, joints, 1.0)
            if image is not None and true is not None:
                found = detect_people(model, image[None])[0].box_px
                boxes[row, view] = _that_of(_ideal(camera, found), true)
    footage.close()
    seen = np.isfinite(boxes).all(-1)
    if not seen.any():
        raise TriposeError(f"{scene.name}: the detector finds the person in none of the images")
    rows, lost = seen.any(1), int((~seen).sum())
    said = [f"{scene.name}: the detector misses the person in {lost} of {seen.size} images"] if lost else []
    kept = replace(scene, frame=scene.frame[rows], keypoints_mm=scene.keypoints_mm[rows], box_px=boxes[rows])
    return kept, [*problems, *said]


def _ideal(camera: Cameras, box_px: Float[np.ndarray, "person 4"]) -> Float[np.ndarray, "person 4"]:
    """Boxes around the corners of boxes, out of the lens."""
    corners = box_px[:, [[0, 1], [2, 1], [2, 3], [0, 3]]].reshape(-1, 2)
    flat = camera.undistort(torch.from_numpy(corners).double()[None])[0].numpy().reshape(-1, 4, 2)
    return np.concatenate([flat.min(1), flat.max(1)], -1)


def _that_of(found_px: Float[np.ndarray, "person 4"], true_px: Float[np.ndarray, 4]) -> Float[np.ndarray, 4]:
    """The box that has most in common with the true square, as a square, enlarged; NaN if none has enough."""
    if not len(found_px):
        return np.full(4, np.nan)
    middle, side = (found_px[:, :2] + found_px[:, 2:]) / 2, (found_px[:, 2:] - found_px[:, :2]).max(-1)
    squares = np.concatenate([middle - side[:, None] / 2, middle + side[:, None] / 2], -1)
    inner = np.minimum(squares[:, 2:], true_px[2:]) - np.maximum(squares[:, :2], true_px[:2])
    common = inner.clip(0).prod(-1)
    overlap = common / (side**2 + (true_px[2] - true_px[0]) ** 2 - common)
    best = int(np.nan_to_num(overlap).argmax())
    if not overlap[best] >= _LEAST_OVERLAP:
        return np.full(4, np.nan)
    half = _SCALE * side[best] / 2
    return np.concatenate([middle[best] - half, middle[best] + half])
