"""Real motion and real cameras with a simulated detector, as a data set for ``tripose evaluate``.

    python benchmarks/panoptic_geometry.py Panoptic_GT_171026_pose3.npz calibration_171026_pose3.json out/geometry.npz
    tripose evaluate out/geometry.npz --views 2,3,4,5,6,8,12,16,24,31 --out out/geometry

Poses of CMU Panoptic are projected through the lenses of its HD cameras. The detector, ``--detector``:

- gross: where a joint is inside the image it is seen, with Gaussian noise of 5 px in x and y; one observation in ten is
  an outlier, 40 to 300 px off besides;
- clean, occluded: the simulator that fusion learns from, `tripose.data.detections`, at two settings.

The sequence is cut into parts, each with the cameras in another random order, of which an evaluation takes the first.
"""

from __future__ import annotations

from pathlib import Path
from typing import Annotated, Literal

import numpy as np
import torch
import typer
from jaxtyping import Float

from tripose.cameras import Cameras
from tripose.data.detections.noise import SETTINGS, Noise
from tripose.data.detections.samples import seen_by
from tripose.data.labelled import inside_images
from tripose.data.scenes import Detections, Scene, write_index
from tripose.formats.calibration import read_calibration
from tripose.lens import to_pixels
from tripose.skeleton import PANOPTIC19, custom

PARTS = 40
JOINTS = 15
"""Without eyes and ears, as the multi-person protocol; of the simulated detector."""
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


def simulated(cameras: Cameras, keypoints_mm: Float[np.ndarray, "time joint 3"], noise: Noise, seed: int) -> Detections:
    """What the simulated detector says, in pixels of the real images."""
    n, g = len(keypoints_mm), torch.Generator().manual_seed(seed)
    truth = torch.from_numpy(keypoints_mm[:, :JOINTS] / 1000).float()
    skeleton = custom("known", PANOPTIC19.joints[:JOINTS])
    rotation = cameras.R.float().expand(n, -1, -1, -1)
    centre = (cameras.centers_mm / 1000).float().expand(n, -1, -1)
    seen = seen_by(truth, rotation, centre, skeleton, noise, g)
    ahead = torch.einsum("bvik,bvjk->bvji", rotation, seen.direction).double()
    ideal = to_pixels((ahead[..., :2] / ahead[..., 2:]).movedim(1, 0).flatten(1, 2), cameras.K)
    points, score = np.full((n, len(cameras), len(PANOPTIC19), 2), np.nan), np.zeros((n, len(cameras), len(PANOPTIC19)))
    points[:, :, :JOINTS] = cameras.distort(ideal).unflatten(1, (n, JOINTS)).movedim(0, 1).numpy()
    score[:, :, :JOINTS] = seen.score.double().numpy()
    return Detections(points, np.where(np.isfinite(points[..., 0]), score, 0.0))


def main(
    poses: Path,
    calibration: Path,
    out: Annotated[Path, typer.Argument(help="Index to write.")],
    every: Annotated[int, typer.Option(min=1, help="Take every n-th frame.")] = 20,
    detector: Annotated[Literal["gross", "clean", "occluded"], typer.Option(help="See above.")] = "gross",
) -> None:
    cameras = read_calibration(calibration)
    with np.load(poses) as file:
        frame, truth_mm = file["frames"][::every].astype(np.int64), 10.0 * file["poses"][::every]
    truth_mm[(truth_mm == 0).all(-1)] = np.nan
    if detector != "gross":
        known = np.isfinite(truth_mm).all((1, 2))
        frame, truth_mm = frame[known], truth_mm[known]
        truth_mm[:, JOINTS:] = np.nan
    random, scenes = np.random.default_rng(0), []
    for number, part in enumerate(np.array_split(np.arange(len(frame)), 10 if detector == "gross" else PARTS)):
        rig = cameras.select([cameras.names[v] for v in random.permutation(len(cameras))])
        if detector == "gross":
            points_px = detected(rig, truth_mm[part], random)
            seen = Detections(points_px, np.isfinite(points_px[..., 0]).astype(np.float64))
        else:
            seen = simulated(rig, truth_mm[part], SETTINGS[detector], number)
        scenes.append(Scene(poses.stem, rig, {}, frame[part], truth_mm[part], PANOPTIC19, detections=seen))
    out.parent.mkdir(parents=True, exist_ok=True)
    write_index(scenes, out)
    typer.echo(f"{out}: {len(frame)} poses, {len(cameras)} cameras")


if __name__ == "__main__":
    typer.run(main)
