"""Real motion and real cameras with a simulated detector, as a data set for ``tripose evaluate``.

    python benchmarks/panoptic_geometry.py Panoptic_GT_171026_pose3.npz calibration_171026_pose3.json out/geometry.npz
    tripose evaluate out/geometry.npz --views 2,3,4,5,6,8,12,16,24,31 --out out/geometry

Poses of CMU Panoptic are projected through the lenses of its HD cameras. Where a joint is inside the image it is seen,
with Gaussian noise of 5 px in x and y; one observation in ten is an outlier, 40 to 300 px off besides. The sequence is
cut into ten parts, each with the cameras in another random order, of which an evaluation takes the first.
"""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import numpy as np
import torch
import typer
from jaxtyping import Float

from tripose.cameras import Cameras
from tripose.data.labelled import inside_images
from tripose.data.scenes import Detections, Scene, write_index
from tripose.formats.calibration import read_calibration
from tripose.skeleton import PANOPTIC19

PARTS = 10
NOISE_PX = 5.0
OUTLIERS, OFF_PX = 0.1, (40.0, 300.0)


def detected(
    cameras: Cameras, keypoints_mm: Float[np.ndarray, "time joint 3"], random: np.random.Generator
) -> Float[np.ndarray, "time view joint 2"]:
    """What a detector would find of joints that are inside the images; NaN of others."""
    flat = torch.from_numpy(keypoints_mm.reshape(-1, 3))
    points = cameras.project(flat)[0].numpy().reshape(len(cameras), *keypoints_mm.shape[:2], 2).swapaxes(0, 1)
    inside = inside_images(cameras, keypoints_mm)[..., None]
    angle = random.uniform(0, 2 * np.pi, points.shape[:-1])
    off = random.uniform(*OFF_PX, points.shape[:-1]) * (random.random(points.shape[:-1]) < OUTLIERS)
    shift = off[..., None] * np.stack([np.cos(angle), np.sin(angle)], -1)
    return np.where(inside, points + random.normal(0, NOISE_PX, points.shape) + shift, np.nan)


def main(
    poses: Path,
    calibration: Path,
    out: Annotated[Path, typer.Argument(help="Index to write.")],
    every: Annotated[int, typer.Option(min=1, help="Take every n-th frame.")] = 20,
) -> None:
    cameras = read_calibration(calibration)
    with np.load(poses) as file:
        frame, truth_mm = file["frames"][::every].astype(np.int64), 10.0 * file["poses"][::every]
    truth_mm[(truth_mm == 0).all(-1)] = np.nan
    random, scenes = np.random.default_rng(0), []
    for part in np.array_split(np.arange(len(frame)), PARTS):
        rig = cameras.select([cameras.names[v] for v in random.permutation(len(cameras))])
        points_px = detected(rig, truth_mm[part], random)
        seen = Detections(points_px, np.isfinite(points_px[..., 0]).astype(np.float64))
        scenes.append(Scene(poses.stem, rig, {}, frame[part], truth_mm[part], PANOPTIC19, detections=seen))
    out.parent.mkdir(parents=True, exist_ok=True)
    write_index(scenes, out)
    typer.echo(f"{out}: {len(frame)} poses, {len(cameras)} cameras")


if __name__ == "__main__":
    typer.run(main)
