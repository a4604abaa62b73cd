"""A crop is a camera: the image of a person and the ideal pinhole camera that took it.

The crop is one resampling of the raw frame through the lens (undistort, crop and resize in a single map), so its
projection is exact and nothing is undistorted in advance.
"""

from __future__ import annotations

import math

import cv2
import numpy as np
import torch
from jaxtyping import Float, UInt8

from tripose.cameras import Cameras
from tripose.lens import to_normalised, to_pixels

# A pixel position outside of every frame.
_NOWHERE = -1e5
# Whether a lens folds back is looked at in every so many pixels first: where the area of a cell is nowhere less than
# half of the largest, it does not sink to zero in between.
_GLANCE_PX = 4
LEAST_JOINTS = 3
"""With fewer known joints nobody knows where a person ends."""


def square_box(points_px: Float[np.ndarray, "point 2"], scale: float = 1.0) -> Float[np.ndarray, 4]:
    """The square around points: left, top, right, bottom.

    Args:
        points_px: at least one finite point; NaN points are left out.
        scale: side of the square over the longer side of the tight box.
    """
    low, high = np.nanmin(points_px, axis=0), np.nanmax(points_px, axis=0)
    centre = (low + high) / 2
    half = max(float((high - low).max()), 1.0) * scale / 2
    return np.concatenate([centre - half, centre + half])


def person_box(camera: Cameras, position_mm: Float[np.ndarray, "joint 3"], scale: float) -> Float[np.ndarray, 4] | None:
    """The square around a person's projected joints, ideal pixels; None when the person is not in the image.

    Args:
        camera: one view.
        position_mm: joints, world frame; NaN joints are left out.
        scale: see `square_box`.
    """
    ideal = camera.undistorted().project(torch.as_tensor(position_mm))[0][0].numpy()
    if np.isfinite(ideal).all(-1).sum() < LEAST_JOINTS:
        return None
    box = square_box(ideal, scale)
    width, height = camera.size_px[0].tolist()
    inside = box[0] < width and box[1] < height and box[2] > 0 and box[3] > 0
    # A person very near to a camera plane projects to an enormous box.
    return box if inside and box[2] - box[0] < 4 * max(width, height) else None


def crop_person(
    image: UInt8[np.ndarray, "height width 3"], camera: Cameras, box_px: Float[np.ndarray, 4], side_px: int
) -> tuple[UInt8[np.ndarray, "side side 3"], Cameras]:
    """Cut a square crop out of a raw frame.

    Args:
        image: the raw (distorted) frame; outside of it the crop is black.
        camera: the frame's camera (one view).
        box_px: square box in ideal (undistorted) pixels, as `square_box` gives it.
        side_px: side of the result.

    Returns:
        The crop and its camera, an ideal pinhole.
    """
    view = crop_camera(camera, box_px, side_px)
    map_x, map_y = _raw_positions(camera, view, side_px)
    shrink = float(box_px[2] - box_px[0]) / side_px
    return _resample(image, map_x, map_y, shrink), view


def crop_camera(camera: Cameras, box_px: Float[np.ndarray, 4], side_px: int) -> Cameras:
    """The ideal pinhole camera of a square crop; arguments as in `crop_person`."""
    K = camera.K[0].clone()
    # `Cameras.crop` is meant for whole pixels; a fractional box is the same shift with pixel edges at -0.5.
    K[:2, 2] -= torch.as_tensor(box_px[:2], dtype=torch.float64)
    K[:2] *= side_px / float(box_px[2] - box_px[0])
    K[:2, 2] -= 0.5
    pinhole = camera.undistorted()
    return Cameras(
        K=K[None],
        R=pinhole.R,
        t=pinhole.t,
        distortion=pinhole.distortion,
        size_px=torch.tensor([[side_px, side_px]]),
        names=pinhole.names,
        lens=pinhole.lens,
        up=pinhole.up,
    )


def to_frame(points_px: Float[np.ndarray, "point 2"], view: Cameras, camera: Cameras) -> Float[np.ndarray, "point 2"]:
    """Move points from a crop to its raw frame, through the lens."""
    points = torch.as_tensor(points_px, dtype=torch.float64)
    ideal = to_pixels(to_normalised(points, view.K[0]), camera.K[0])
    raw: Float[np.ndarray, "point 2"] = camera.distort(ideal[None])[0].numpy()
    return raw


def to_crop(points_px: Float[np.ndarray, "point 2"], view: Cameras, camera: Cameras) -> Float[np.ndarray, "point 2"]:
    """Move points from a raw frame to a crop, out of the lens: the inverse of `to_frame`."""
    ideal = camera.undistort(torch.as_tensor(points_px, dtype=torch.float64)[None])[0]
    points: Float[np.ndarray, "point 2"] = to_pixels(to_normalised(ideal, camera.K[0]), view.K[0]).numpy()
    return points


def _raw_positions(
    camera: Cameras, view: Cameras, side_px: int
) -> tuple[Float[np.ndarray, "side side"], Float[np.ndarray, "side side"]]:
    """For every pixel of the crop its position in the raw frame."""
    K, K_view = camera.K[0].numpy(), view.K[0].numpy()
    size = (side_px, side_px)
    distortion = camera.distortion[0].numpy()
    if camera.lens[0] == "fisheye":
        x, y = cv2.fisheye.initUndistortRectifyMap(K, distortion[:4], np.eye(3), K_view, size, cv2.CV_32FC1)
    else:
        lens = np.zeros(5) if camera.lens[0] == "pinhole" else distortion
        x, y = cv2.initUndistortRectifyMap(K, lens, np.eye(3), K_view, size, cv2.CV_32FC1)
    glance = _area(x[::_GLANCE_PX, ::_GLANCE_PX], y[::_GLANCE_PX, ::_GLANCE_PX])
    if glance.min() > glance.max() / 2:
        return x, y
    # From the radius on where the polynomial of a strong lens folds back, it would show the image again, mirrored.
    folded = _area(x, y) <= 0
    if folded.any():
        row, column = np.indices(x.shape)
        radius = np.hypot(column - K_view[0, 2], row - K_view[1, 2])
        x[radius >= radius[folded].min()] = _NOWHERE
    return x, y


def _area(x: Float[np.ndarray, "row column"], y: Float[np.ndarray, "row column"]) -> Float[np.ndarray, "row column"]:
    """The area of the frame that a cell of a map covers, in square pixels; negative where it is mirrored."""
    (x_down, x_right), (y_down, y_right) = np.gradient(x), np.gradient(y)
    area: Float[np.ndarray, "row column"] = x_right * y_down - x_down * y_right
    return area


def _resample(
    image: UInt8[np.ndarray, "height width 3"],
    map_x: Float[np.ndarray, "side side"],
    map_y: Float[np.ndarray, "side side"],
    shrink: float,
) -> UInt8[np.ndarray, "side side 3"]:
    """Sample the frame at the mapped positions; when shrinking, average the pixels in between first."""
    factor = max(1, math.floor(shrink))
    left, right = _span(map_x, image.shape[1], factor)
    top, bottom = _span(map_y, image.shape[0], factor)
    if right <= left or bottom <= top:
        return np.zeros((*map_x.shape, 3), np.uint8)
    region = image[top:bottom, left:right]
    if factor > 1:
        region = cv2.resize(region, ((right - left) // factor, (bottom - top) // factor), interpolation=cv2.INTER_AREA)
    middle = (factor - 1) / 2  # of the pixels that became one
    x, y = (map_x - (left + middle)) / factor, (map_y - (top + middle)) / factor
    # OpenCV samples four channels in half the time of three, with the same result.
    sampled = cv2.remap(cv2.cvtColor(region, cv2.COLOR_RGB2RGBA), x, y, cv2.INTER_LINEAR)
    crop: UInt8[np.ndarray, "side side 3"] = cv2.cvtColor(sampled, cv2.COLOR_RGBA2RGB)
    return crop


def _span(positions: Float[np.ndarray, "side side"], length: int, factor: int) -> tuple[int, int]:
    """First and last pixel (exclusive) that the positions need, a whole number of `factor` pixels inside the image."""
    first = max(0, math.floor(positions.min()) - factor)
    last = min(length, math.ceil(positions.max()) + 2 * factor)
    return first, first + (last - first) // factor * factor
