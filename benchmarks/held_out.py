"""Each camera held out in turn: how far positions from the others, projected into it, are from its own keypoints.

    python benchmarks/held_out.py CALIBRATION KEYPOINTS [--cameras 1,5,13,21] [--skeleton body25b] [--of 2] [--smooth 7]

Errors of the detector in the held-out camera are part of all figures, so small differences mean more than they seem to.
KEYPOINTS: a folder for each camera, or MediaPipe's landmarks as npz (``keypoints`` [view, time, 33, 3]: x px, y px,
visibility). Every second frame at most.
"""

from __future__ import annotations

from itertools import combinations
from pathlib import Path
from typing import Annotated

import numpy as np
import torch
import typer
from jaxtyping import Float
from rich.console import Console
from rich.table import Table

from tripose.cameras import Cameras
from tripose.formats.calibration import read_calibration
from tripose.pose import Pose3D
from tripose.recording import Recording
from tripose.skeleton import LIMB_JOINTS, Skeleton, custom, skeleton_named
from tripose.triangulation import METHODS, Method, triangulate
from tripose.verbs.keypoints import keypoints_of

# MediaPipe's landmarks that have names in COCO and HALPE-26; feet and face as far as they are the same places.
LANDMARKS = {
    0: "nose", 2: "left_eye", 5: "right_eye", 7: "left_ear", 8: "right_ear", 11: "left_shoulder", 12: "right_shoulder",
    13: "left_elbow", 14: "right_elbow", 15: "left_wrist", 16: "right_wrist", 23: "left_hip", 24: "right_hip",
    25: "left_knee", 26: "right_knee", 27: "left_ankle", 28: "right_ankle", 29: "left_heel", 30: "right_heel",
    31: "left_big_toe", 32: "right_big_toe",
}  # fmt: skip
LEAST_SCORE, FARTHEST_PX = 0.5, 300.0
Keypoints = tuple[Float[np.ndarray, "time view joint 2"], Float[np.ndarray, "time view joint"], Skeleton]


def landmarks(file: Path) -> Keypoints:
    with np.load(file) as npz:
        found = npz["keypoints"][:, :, list(LANDMARKS)].astype(np.float64).swapaxes(0, 1)
    visible = np.nan_to_num(found[..., 2])
    return found[..., :2], np.where(visible > LEAST_SCORE, visible, 0.0), custom("mediapipe", list(LANDMARKS.values()))


def errors_px(
    cameras: Cameras,
    keypoints: Keypoints,
    method: Method,
    held: int,
    used: tuple[int, ...],
    smooth: int | None,
    fps: float,
) -> Float[np.ndarray, "time joint"]:
    """Of limb joints; NaN where the held-out camera does not see them, or no position was found."""
    points, score, skeleton = keypoints
    rig = cameras.select([cameras.names[view] for view in used])
    some = list(used)
    found = triangulate(rig, points[:, some], score[:, some], method=method, skeleton=skeleton)
    flat = found.position_mm.flatten(0, 1)
    if smooth is not None:
        assert found.covariance_mm2 is not None
        position, covariance = found.position_mm[:, None].numpy(), found.covariance_mm2[:, None].numpy()
        poses = Pose3D(position, found.confidence[:, None].numpy(), skeleton, fps, covariance_mm2=covariance)
        flat = torch.from_numpy(poses.smooth(smooth).position_mm).flatten(0, 2)
    there = cameras.select([cameras.names[held]]).project(flat)[0][0].numpy().reshape(points[:, held].shape)
    off = np.linalg.norm(there - points[:, held], axis=-1)
    return np.where(score[:, held] > LEAST_SCORE, off, np.nan)[:, skeleton.indices(LIMB_JOINTS)]


def main(
    calibration: Path,
    keypoints: Path,
    cameras: Annotated[str | None, typer.Option(help="Names, in the order of the keypoints' views.")] = None,
    skeleton: str = "body25b",
    of: Annotated[int | None, typer.Option(help="Cameras that are used at a time; default: all others.")] = None,
    smooth: Annotated[int | None, typer.Option(help="Frames of a window along time: 5, 7 or 9.")] = None,
    fps: Annotated[float, typer.Option(help="For it.")] = 60.0,
) -> None:
    torch.set_num_threads(1)
    rig = read_calibration(calibration)
    if keypoints.suffix == ".npz":
        rig = rig.select(cameras.split(",")) if cameras else rig
        seen = landmarks(keypoints)
    else:
        recording = Recording.open(calibration.parent, calibration=calibration, keypoints=keypoints, skeleton=skeleton)
        pose2d = keypoints_of(recording)
        rig = recording.cameras.select(pose2d.views)
        seen = (pose2d.points_px[:, :, 0], pose2d.confidence[:, :, 0], skeleton_named(pose2d.skeleton.name))
    if len(seen[0]) > 200 and smooth is None:
        seen = (seen[0][::2], seen[1][::2], seen[2])
    number = of or len(rig) - 1
    off: dict[Method, list[np.ndarray]] = {method: [] for method in METHODS}
    for held in range(len(rig)):
        for used in combinations([view for view in range(len(rig)) if view != held], number):
            for method, parts in off.items():
                parts.append(errors_px(rig, seen, method, held, used, smooth, fps).ravel())
    joined = {method: np.concatenate(parts) for method, parts in off.items()}
    shared = np.isfinite(joined["dlt"]) & np.isfinite(joined["fusion"])
    table = Table(f"{number} of {len(rig)} cameras", "mean px", "median px", "joints")
    for method, values in joined.items():
        known = np.where(np.isfinite(values), values, joined["dlt"])[shared]  # where robust methods leave a joint out
        mean = np.minimum(known, FARTHEST_PX).mean()
        table.add_row(method, f"{mean:.2f}", f"{np.median(known):.2f}", str(len(known)))
    Console().print(table)


if __name__ == "__main__":
    typer.run(main)
