"""Real motion, real cameras, simulated detector: the error of triangulation by the number of cameras, as Markdown.

    python benchmarks/panoptic_geometry.py Panoptic_GT_171026_pose3.npz calibration_171026_pose3.json [--every 20]

Poses of CMU Panoptic are projected through the lenses of its HD cameras. Where a joint is inside the image it is seen,
with Gaussian noise of 5 px in x and y; one observation in ten is an outlier, 40 to 300 px off besides. Each of ten
parts of the sequence is seen by another random choice of cameras. Missing: seen by fewer than two of them, or, but for
``dlt``, no two agree; so with two or three cameras the robust methods are measured on easier joints.
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
from tripose.formats.calibration import read_calibration
from tripose.geometry.triangulate import METHODS, Method, triangulate

COUNTS = (2, 3, 4, 5, 6, 8, 12, 16, 24, 31)
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


def errors_mm(
    cameras: Cameras,
    points_px: Float[np.ndarray, "time view joint 2"],
    truth_mm: Float[np.ndarray, "time joint 3"],
    count: int,
    method: Method,
) -> Float[np.ndarray, "time joint"]:
    """Distance from the truth with random choices of so many cameras; NaN where it was not found."""
    random, errors = np.random.default_rng(count), []  # the same choices for every method
    for part in np.array_split(np.arange(len(truth_mm)), PARTS):
        views = np.sort(random.choice(len(cameras), count, replace=False))
        rig = cameras.select([cameras.names[v] for v in views])
        found = triangulate(rig, points_px[part][:, views], method=method, covariance=False).position_mm.numpy()
        errors.append(np.linalg.norm(found - truth_mm[part], axis=-1))
    return np.concatenate(errors)


def main(
    poses: Path,
    calibration: Path,
    every: Annotated[int, typer.Option(min=1, help="Take every n-th frame.")] = 20,
) -> None:
    torch.set_num_threads(1)
    cameras = read_calibration(calibration)
    with np.load(poses) as file:
        truth_mm = 10.0 * file["poses"][::every]
    truth_mm[(truth_mm == 0).all(-1)] = np.nan
    points_px = detected(cameras, truth_mm, np.random.default_rng(0))
    known = np.isfinite(truth_mm).all(-1)
    typer.echo(f"{len(truth_mm)} poses; {NOISE_PX:g} px noise, {OUTLIERS:.0%} outliers; mm\n")
    figures = ("mean", "median", "missing %")
    typer.echo(f"| cameras | {' | '.join(f'{method} {figure}' for method in METHODS for figure in figures)} |")
    typer.echo("|" + " --: |" * (1 + len(METHODS) * len(figures)))
    for count in (c for c in COUNTS if c <= len(cameras)):
        row = []
        for method in METHODS:
            errors = errors_mm(cameras, points_px, truth_mm, count, method)[known]
            row += [np.nanmean(errors), np.nanmedian(errors), 100 * np.isnan(errors).mean()]
        typer.echo(f"| {count} | {' | '.join(f'{value:.1f}' for value in row)} |")


if __name__ == "__main__":
    typer.run(main)
