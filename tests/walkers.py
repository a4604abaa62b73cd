"""A synthetic walk, seen by four cameras of which the last is bad; shared by the tests of `tripose.drawing`."""

from __future__ import annotations

import numpy as np

from tripose.cameras import Cameras
from tripose.pose import Pose3D
from tripose.skeleton import COCO17

BAD = "<b>right</b>"


_HEAD_MM = {"nose": (0, 90, 1640), "eye": (35, 80, 1680), "ear": (75, 0, 1660)}


def look_at(angles, radius_mm, height_mm, target_mm):
    """Rotations and translations (mm) of cameras on a circle, looking at a height above its middle; z is up."""
    R, t = [], []
    for angle in angles:
        center = np.array([radius_mm * np.cos(angle), radius_mm * np.sin(angle), height_mm])
        forward = np.array([0, 0, target_mm]) - center
        forward /= np.linalg.norm(forward)
        right = np.cross(forward, [0, 0, 1])
        right /= np.linalg.norm(right)
        R.append(np.stack([right, np.cross(forward, right), forward]))
        t.append(-R[-1] @ center)
    return R, t


def rig() -> Cameras:
    """Four cameras on a circle of 4 m, looking at the middle of a person; z is up."""
    R, t = look_at(np.deg2rad([20, 110, 200, 290]), radius_mm=4000, height_mm=1800, target_mm=900)
    K = [[[700, 0, 320], [0, 700, 240], [0, 0, 1]]] * 4
    names = ("front", "left", "back", BAD)
    return Cameras.build(names, K, R, t, [[640, 480]] * 4, distortion=[[-0.1, 0.02, 0.0, 0.0]] * 4, up="z")


def body_part(joint: str, phase: np.ndarray) -> np.ndarray:
    """[time, 3] mm: a joint of someone who walks on the spot, facing +y, with rigid limbs."""
    side, _, part = joint.rpartition("_")
    sign = -1 if side == "left" else 1  # facing +y, the left side is at -x
    if part in _HEAD_MM:
        return np.array(_HEAD_MM[part]) * (sign, 1, 1) + np.zeros((len(phase), 1))
    leg = part in ("hip", "knee", "ankle")
    chain = (("knee", 430), ("ankle", 410)) if leg else (("elbow", 300), ("wrist", 250))
    at = np.array([110 * sign, 0, 930] if leg else [185 * sign, 0, 1440]) + np.zeros((len(phase), 1))
    swing = 0.45 * np.sin(phase) * (sign if leg else -sign)
    bend = -0.25 + 0.25 * np.sin(phase + sign) if leg else np.full_like(phase, 0.4)
    angles = (swing, swing + bend)
    for (name, length), angle in zip(chain, angles, strict=True):
        if part in ("hip", "shoulder"):
            break
        at = at + length * np.stack([np.zeros_like(angle), np.sin(angle), -np.cos(angle)], -1)
        if part == name:
            break
    return at


def walk(frames: int = 120, persons: int = 1, fps: float = 60.0) -> Pose3D:
    """People of 1.75 m who walk along y and swing arms and legs; gaps, a filled gap, and a bad last camera."""
    random = np.random.default_rng(0)
    time = np.arange(frames) / fps
    position = np.empty((frames, persons, 17, 3))
    for p in range(persons):
        place = np.array([900 * (p - (persons - 1) / 2), 0, 0]) + np.outer(time - time.mean(), [0, 1100, 0])
        for j, name in enumerate(COCO17.joints):
            position[:, p, j] = place + body_part(name, 2 * np.pi * 0.9 * time + p)
    position += random.normal(0, 3, position.shape)
    n_views = random.choice([2, 3, 4], (frames, persons, 17), p=[0.1, 0.3, 0.6])
    error = np.abs(random.normal(0, 1, (frames, 4, persons, 17))) * np.array([5, 6, 5.5, 21])[:, None, None]
    wrist, ankle = COCO17.index("left_wrist"), COCO17.index("right_ankle")
    position[30:48, :, wrist] = np.nan
    position[80:84, :, ankle] = np.nan
    n_views[60:66, :, ankle] = 0  # filled by interpolation
    missing = np.isnan(position).any(-1)
    error[np.broadcast_to(missing[:, None], error.shape) | (random.random(error.shape) < 0.1)] = np.nan
    return Pose3D(
        position_mm=position,
        confidence=np.where(missing, np.nan, 0.8),
        skeleton=COCO17,
        fps=fps,
        persons=tuple(f"person_{p}" for p in range(persons)),
        views=("front", "left", "back", BAD),
        n_views=np.where(missing, 0, n_views),
        reprojection_px=error,
        covariance_mm2=np.broadcast_to(np.eye(3) * 16.0, (frames, persons, 17, 3, 3)),
        up="z",
        notes={"method": "ransac, 30 px", "tripose": "0.1.0", "warning": "camera 4 looks out of sync"},
    )
