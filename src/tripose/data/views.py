"""Other views of the same moment: fewer of them, a mirrored world, cameras that are turned, zoomed and shifted.

All but `miscalibrate` is exact: the images change as the cameras do, so the truth still projects to where it is seen.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace

import cv2
import numpy as np
import torch
from jaxtyping import Bool, Float

from tripose.cameras import Cameras, Up
from tripose.data.batch import Sample
from tripose.skeleton import Skeleton

_FLIPPED_UP: dict[Up, Up] = {"x": "-x", "-x": "x"}


def select_views(sample: Sample, views: Sequence[int]) -> Sample:
    """The sample as some of its views see it, in the order given."""
    index = list(views)
    return replace(
        sample,
        images=sample.images[index],
        cameras=sample.cameras.select([sample.cameras.names[i] for i in index]),
        visible=None if sample.visible is None else sample.visible[index],
    )


def mirror(sample: Sample, skeleton: Skeleton) -> Sample:
    """The sample in a mirror: images flipped left to right, world x negated, left and right joints exchanged.

    With ``F = diag(-1, 1, 1)``, ``x_c = R x + t`` gives ``F x_c = (F R F) (F x) + F t``: the mirrored rig is again one
    of rotations. A pixel ``u`` moves to ``width - 1 - u``.
    """
    cameras = sample.cameras
    flip = torch.tensor([-1.0, 1.0, 1.0], dtype=cameras.K.dtype)
    K = cameras.K.clone()
    K[:, 0, 1] = -K[:, 0, 1]
    K[:, 0, 2] = cameras.size_px[:, 0] - 1 - K[:, 0, 2]
    partners = skeleton.mirror
    return replace(
        sample,
        images=np.stack([cv2.flip(image, 1) for image in sample.images]),
        cameras=replace(
            cameras,
            K=K,
            R=flip[:, None] * cameras.R * flip,
            t=flip * cameras.t,
            up=cameras.up and _FLIPPED_UP.get(cameras.up, cameras.up),
        ),
        keypoints_mm=(sample.keypoints_mm * [-1.0, 1.0, 1.0])[partners],
        visible=None if sample.visible is None else sample.visible[:, partners],
    )


def reframe(
    sample: Sample,
    roll_rad: Float[np.ndarray, " view"],
    zoom: Float[np.ndarray, " view"],
    shift_px: Float[np.ndarray, "view 2"],
) -> Sample:
    """The sample as its cameras see it when each is turned about its optical axis, zoomed and shifted.

    What was outside of the old image is black. A camera ``K [R | t]`` becomes ``A K [Z R | Z t]`` with the rotation
    ``Z`` about its axis and the similarity ``A`` of its pixels, which is again a pinhole; the image moves by
    ``A K Z K^-1``, which is affine.

    Args:
        sample: with pinhole cameras.
        roll_rad: turns the image content from x to y (clockwise).
        zoom: enlarges the content, about the middle of the image.
        shift_px: moves the content, after that.
    """
    cameras = sample.cameras
    K = cameras.K.numpy()
    cos, sin, zero = np.cos(roll_rad), np.sin(roll_rad), np.zeros_like(roll_rad)
    Z = np.stack([cos, -sin, zero, sin, cos, zero, zero, zero, zero + 1], -1).reshape(-1, 3, 3)
    rolled = K @ Z @ np.linalg.inv(K)
    middle = (cameras.size_px.numpy() - 1) / 2
    A = np.zeros_like(K)
    A[:, 0, 0] = A[:, 1, 1] = zoom
    A[:, 2, 2] = 1
    A[:, :2, 2] = middle + shift_px - zoom[:, None] * (rolled @ np.insert(middle, 2, 1, 1)[..., None])[:, :2, 0]
    change = A @ rolled
    size = sample.images.shape[2], sample.images.shape[1]
    turn = torch.from_numpy(Z)
    moved = replace(
        cameras,
        K=torch.from_numpy(A @ K),
        R=turn @ cameras.R,
        t=(turn @ cameras.t[..., None])[..., 0],
    )
    inside = in_image(moved, sample.keypoints_mm)
    return replace(
        sample,
        images=np.stack([cv2.warpAffine(i, c[:2], size) for i, c in zip(sample.images, change, strict=True)]),
        cameras=moved,
        visible=None if sample.visible is None else sample.visible & inside,
    )


def miscalibrate(sample: Sample, shift_px: Float[np.ndarray, "view 2"]) -> Sample:
    """The sample with cameras whose principal points are off by so many pixels: for a crop, nearly a small turn.

    The images and the truth stay: a calibration that is off, as those of real recordings are.
    """
    K = sample.cameras.K.clone()
    K[:, :2, 2] += torch.from_numpy(shift_px)
    return replace(sample, cameras=replace(sample.cameras, K=K))


def in_image(cameras: Cameras, keypoints_mm: Float[np.ndarray, "joint 3"]) -> Bool[np.ndarray, "view joint"]:
    """Whether joints lie in front of a camera and within its image; False for unknown ones."""
    points, _ = cameras.project(torch.from_numpy(keypoints_mm))
    inside: Bool[np.ndarray, "view joint"] = (
        ((points >= -0.5) & (points <= cameras.size_px[:, None] - 0.5)).all(-1).numpy()
    )
    return inside
