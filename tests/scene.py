"""Synthetic recordings on disk: people who walk in a circle, seen by a ring of cameras; truth known.

The base of the tests that re-create what went wrong for users of other tools.
"""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import torch

from tripose.cameras import Cameras
from tripose.formats.calibration import write_calibration_toml
from tripose.skeleton import COCO17
from walkers import body_part, look_at

FPS = 30.0


def ring(views: int = 4, distortion: list[float] | None = None, focal_px: float = 1145.0) -> Cameras:
    """Cameras on a circle of 4 m at 1.5 m height, looking at 1 m above the middle; 1000 x 1000 px, z up."""
    angles = 2 * np.pi * np.arange(views) / views + 0.2
    R, t = look_at(angles, radius_mm=4000, height_mm=1500, target_mm=1000)
    K = [[[focal_px, 0, 499.5], [0, focal_px, 499.5], [0, 0, 1]]] * views
    names = [f"cam{i + 1}" for i in range(views)]
    lens = None if distortion is None else [distortion] * views
    return Cameras.build(names, K, R, t, [[1000, 1000]] * views, distortion=lens, up="z")


def walk_mm(frames: int = 60, radius_mm: float = 500.0, angle: float = 0.0) -> np.ndarray:
    """[time, 17, 3] mm: one COCO-17 person on a circle."""
    time = np.arange(frames) / FPS
    turn = 0.8 * time + angle
    body = np.stack([body_part(name, 2 * np.pi * 0.9 * time) for name in COCO17.joints], 1)
    cos, sin = np.cos(turn), np.sin(turn)
    rotation = np.stack([np.stack([cos, -sin], -1), np.stack([sin, cos], -1)], -2)
    body[..., :2] = np.einsum("tij,tnj->tni", rotation, body[..., :2])
    body[..., :2] += radius_mm * np.stack([cos, sin], -1)[:, None]
    return body


def observe(cameras: Cameras, people_mm: list[np.ndarray], noise_px: float = 2.0) -> np.ndarray:
    """[time, view, person, 17, 3]: what a detector would see; x px, y px, score."""
    random = np.random.default_rng(0)
    seen = []
    for body in people_mm:
        flat = torch.as_tensor(body.reshape(-1, 3))
        points = cameras.project(flat)[0].numpy().reshape(len(cameras), *body.shape[:2], 2).swapaxes(0, 1)
        points = points + random.normal(0, noise_px, points.shape)
        seen.append(np.concatenate([points, np.full((*points.shape[:-1], 1), 0.9)], -1))
    return np.stack(seen, 2)


def write_recording(folder: Path, cameras: Cameras, observed: np.ndarray) -> Path:
    """A recording of OpenPose-like JSON folders and a TOML; NaN joints are written as zeros, absent people left out."""
    folder.mkdir(parents=True, exist_ok=True)
    write_calibration_toml(cameras, folder / "Calib.toml")
    for view, name in enumerate(cameras.names[: observed.shape[1]]):
        place = folder / "pose" / f"{name}_json"
        place.mkdir(parents=True)
        for i, people in enumerate(observed[:, view]):
            found = [np.nan_to_num(p).ravel().tolist() for p in people if np.isfinite(p).any()]
            content = {"people": [{"pose_keypoints_2d": p} for p in found]}
            (place / f"{name}_{i:012d}_keypoints.json").write_text(json.dumps(content))
    return folder
