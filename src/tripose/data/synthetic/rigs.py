"""Random rigs of cameras, as laboratories, studios and sports halls have them."""

from __future__ import annotations

from typing import Literal

import numpy as np
from jaxtyping import Float

from tripose.cameras import Cameras

Layout = Literal["ring", "corner", "narrow", "any"]
"""Around a person; all within a right angle; a row of near neighbours; anywhere."""
LAYOUTS: tuple[Layout, ...] = ("ring", "corner", "narrow", "any")
# How often each is chosen.
_SHARES = (0.55, 0.15, 0.1, 0.2)
SIZES_PX = ((1280, 720), (1920, 1080), (1024, 1024), (1000, 1002), (1080, 1920))


def random_layout(rng: np.random.Generator) -> Layout:
    """One of `LAYOUTS`, a ring most often."""
    return LAYOUTS[int(rng.choice(len(LAYOUTS), p=_SHARES))]


def random_rig(
    rng: np.random.Generator,
    views: int,
    *,
    layout: Layout | None = None,
    distance_mm: tuple[float, float] = (2300.0, 5500.0),
    size_px: tuple[int, int] | None = None,
    distorted: bool = False,
) -> Cameras:
    """Cameras that look at a person who stands at the world's origin (z up, floor at 0).

    Args:
        rng: source of randomness.
        views: number of cameras.
        layout: see `Layout`; None: a random one.
        distance_mm: bounds of the horizontal distances.
        size_px: width and height of the images; None: of a usual format.
        distorted: whether the lenses have (OpenCV) distortion.
    """
    layout = layout or random_layout(rng)
    # A rig is one make of camera, more often than not.
    usual, fill = SIZES_PX[rng.integers(len(SIZES_PX))], rng.uniform(0.45, 0.9)
    size = size_px or usual
    distance = rng.uniform(*distance_mm)
    K, R, t, distortion = [], [], [], []
    for angle in _angles(rng, views, layout):
        radius = float(np.clip(distance * rng.uniform(0.85, 1.15), *distance_mm))
        height = rng.uniform(400, 2600)
        centre = np.array([radius * np.cos(angle), radius * np.sin(angle), height])
        target = np.array([*rng.normal(0, 120, 2), rng.uniform(750, 1050)])
        rotation = looking_at(centre, target, rng.normal(0, 0.06))
        focal = fill * min(size) * np.linalg.norm(centre - target) / 1900
        K.append([[focal, 0, (size[0] - 1) / 2], [0, focal * rng.uniform(0.995, 1.005), (size[1] - 1) / 2], [0, 0, 1]])
        R.append(rotation)
        t.append(-rotation @ centre)
        distortion.append([rng.uniform(-0.25, 0.05), rng.uniform(-0.02, 0.08), *rng.normal(0, 5e-4, 2), 0.0])
    return Cameras.build(
        [f"cam{i + 1:02d}" for i in range(views)],
        K,
        R,
        t,
        [size] * views,
        distortion=distortion if distorted else None,
        up="z",
    )


def _angles(rng: np.random.Generator, views: int, layout: Layout) -> Float[np.ndarray, " view"]:
    start = rng.uniform(0, 2 * np.pi)
    if layout == "ring":
        step = 2 * np.pi / views
        return start + step * np.arange(views) + rng.uniform(-0.35, 0.35, views) * min(1.0, step)
    if layout == "any":
        return rng.uniform(0, 2 * np.pi, views)
    reach = np.pi / 2 if layout == "corner" else np.deg2rad(14) * (views - 1)
    return start + np.linspace(-reach / 2, reach / 2, views) + rng.uniform(-0.05, 0.05, views)


def looking_at(
    centre_mm: Float[np.ndarray, " 3"], target_mm: Float[np.ndarray, " 3"], roll_rad: float
) -> Float[np.ndarray, "3 3"]:
    """The rotation, world to camera, of an upright camera that looks at a point, rolled about its axis."""
    forward = (target_mm - centre_mm) / np.linalg.norm(target_mm - centre_mm)
    right = np.cross(forward, [0, 0, 1.0])
    right /= np.linalg.norm(right)
    upright = np.stack([right, np.cross(forward, right), forward])
    cos, sin = np.cos(roll_rad), np.sin(roll_rad)
    rolled: Float[np.ndarray, "3 3"] = np.array([[cos, sin, 0], [-sin, cos, 0], [0, 0, 1]]) @ upright
    return rolled
