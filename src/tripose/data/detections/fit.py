"""How bad a detector is, from its own keypoints: each view judged by all the others."""

from __future__ import annotations

from dataclasses import dataclass, replace

import numpy as np
import torch
from jaxtyping import Bool, Float

from tripose.cameras import Cameras
from tripose.data.detections.noise import TRAINING, Noise, body_of
from tripose.errors import TriposeError
from tripose.geometry.triangulate import triangulate
from tripose.skeleton import Skeleton

# Beyond this, in metres of somebody of 1.75 m as in `Noise`, an observation is elsewhere.
_ELSEWHERE = 0.12
# The median of a Rayleigh distribution of scale one: of the length of an error whose two coordinates are normal.
_RAYLEIGH = 1.1774
_LEAST = 30
_METRES_OF_TRUNK_AND_LEGS = 1.27


@dataclass(frozen=True)
class Residuals:
    """Where a view sees joints, less where the other views put them, metres of somebody of 1.75 m.

    Attributes:
        offset: across the view's rays, in the image's directions x and y; NaN where it is not known.
        seen: whether the view sees the joint.
    """

    offset: Float[np.ndarray, "time view joint 2"]
    seen: Bool[np.ndarray, "time view joint"]


def residuals(
    cameras: Cameras,
    points_px: Float[np.ndarray, "time view joint 2"],
    confidence: Float[np.ndarray, "time view joint"],
    skeleton: Skeleton,
) -> Residuals:
    """Every view against the position from all the others (irls).

    Raises:
        TriposeError: fewer than three views, which could judge each other.
    """
    if len(cameras) < 3:
        raise TriposeError(f"{len(cameras)} views: a view is judged by the others, of which two at least are needed")
    size_mm = person_unit_mm(cameras, points_px, confidence, skeleton)
    pinhole = cameras.undistorted()
    time, views, joints = confidence.shape
    ideal = cameras.undistort(torch.as_tensor(points_px).movedim(1, 0).flatten(1, 2).double()).numpy()
    ideal = ideal.reshape(views, time, joints, 2)
    offset = np.full(points_px.shape, np.nan)
    for view, name in enumerate(cameras.names):
        others = [v for v in range(views) if v != view]
        rest = cameras.select([cameras.names[v] for v in others])
        found = triangulate(rest, points_px[:, others], confidence[:, others], method="irls", covariance=False)
        one = pinhole.select([name])
        there = one.project(found.position_mm.flatten(0, 1))[0][0].numpy().reshape(time, joints, 2)
        depth_mm = (found.position_mm @ one.R[0, 2] + one.t[0, 2]).numpy()
        per_px = depth_mm / one.K[0, (0, 1), (0, 1)].mean().item() / size_mm
        offset[:, view] = (ideal[view] - there) * per_px[..., None]
    seen = np.isfinite(points_px).all(-1) & (confidence > 0)
    return Residuals(np.where(seen[..., None], offset, np.nan), seen)


def person_unit_mm(
    cameras: Cameras,
    points_px: Float[np.ndarray, "time view joint 2"],
    confidence: Float[np.ndarray, "time view joint"],
    skeleton: Skeleton,
) -> float:
    """Median size of the person: 1000 mm are somebody of 1.75 m; by thighs, shanks and the trunk.

    Raises:
        TriposeError: these joints are missing.
    """
    found = triangulate(cameras, points_px, confidence, method="irls", covariance=False).position_mm.numpy()
    length = 0.0
    for a, b in (("hip", "knee"), ("knee", "ankle"), ("shoulder", "hip")):
        ends = [[skeleton.index(f"{side}_{joint}") for side in ("left", "right")] for joint in (a, b)]
        distance = np.linalg.norm(found[:, ends[0]] - found[:, ends[1]], axis=-1)
        if not np.isfinite(distance).any():
            raise TriposeError(f"no frame has a {a} and a {b} that two views agree on: nothing to measure errors by")
        length += float(np.nanmedian(distance))
    return length / _METRES_OF_TRUNK_AND_LEGS


def fit_noise(found: Residuals, skeleton: Skeleton, start: Noise = TRAINING) -> Noise:
    """A model of the detector that made these residuals.

    Fitted are the usual error (5 % to 95 % of views and moments), what is missing, what is elsewhere, and the shift
    that a view has all the time, which is the calibration's. How limbs are hidden and sides exchanged cannot be told
    from them and is that of `start`. A position from few views errs, too, so the usual error is somewhat overestimated.

    Raises:
        TriposeError: too few residuals.
    """
    length = np.linalg.norm(found.offset, axis=-1)
    inlier = length < _ELSEWHERE
    if (inlier.sum((0, 2)) < _LEAST).any():
        fewest = int(inlier.sum((0, 2)).min())
        raise TriposeError(f"one view has {fewest} joints that the others agree with: too few to say how bad it is")
    kept = np.where(inlier[..., None], found.offset, np.nan)
    shift = np.nanmedian(kept, axis=(0, 2))
    factor = body_of(skeleton.joints).factor.numpy()
    centred = np.linalg.norm(kept - shift[None, :, None], axis=-1) / factor
    enough = np.isfinite(centred).sum(-1) >= max(3, len(skeleton) // 4)
    low, high = np.quantile(np.nanmedian(centred[enough], axis=-1) / _RAYLEIGH, [0.05, 0.95])
    has = found.seen.any((0, 1))  # joints that the detector has at all
    present = found.seen.any(-1)  # views that see the person at all
    missing = float((~found.seen[..., has][present]).mean())
    elsewhere = float((length[np.isfinite(length)] >= _ELSEWHERE).mean())
    return replace(
        start,
        sigma=(_rounded(low), _rounded(high)),
        outliers=(0.0, _rounded(min(0.5, 3 * elsewhere))),
        missing=(0.0, _rounded(min(0.5, 3 * missing))),
        calibration=(0.0, _rounded(3 * float(np.sqrt((shift**2).mean())))),
    )


def _rounded(value: float) -> float:
    return float(f"{max(value, 1e-4):.2g}")
