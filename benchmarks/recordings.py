"""Real recordings without 3D truth: how steady, how consistent, and how good with fewer cameras?

For classical triangulation of MoveNet's keypoints and for learned models, which also get these keypoints as evidence:

- standard deviation of the length of thighs, shanks and forearms, which in truth do not change;
- each camera left out in turn: distance between the position found without it, projected into it, and MoveNet's
  keypoints there, which no method was given;
- two of the cameras, every pair: distance to the method's own result with all cameras.

    python benchmarks/recordings.py RECORDING [--model algebraic-synthetic --model volumetric-synthetic] [--every 4]
"""

from __future__ import annotations

from dataclasses import dataclass, replace
from itertools import combinations
from pathlib import Path
from typing import Annotated

import numpy as np
import typer
from jaxtyping import Float
from rich.console import Console
from rich.table import Table

from tripose.cameras import Cameras
from tripose.geometry.triangulate import Method
from tripose.learned import Person, as_poses, boxes_around, estimate
from tripose.lifting import lift
from tripose.models.weights import Model, load_model
from tripose.pose import Pose2D, Pose3D, bone_lengths_mm
from tripose.recording import FrameSet, Recording
from tripose.skeleton import LIMB_JOINTS
from tripose.verbs.keypoints import ahead, keypoints_of
from tripose.verbs.predict_learned import where

BONES = {"thigh": ("hip", "knee"), "shank": ("knee", "ankle"), "forearm": ("elbow", "wrist")}


@dataclass(frozen=True)
class Setting:
    """A recording, and which of its frames are looked at."""

    recording: Recording
    cameras: Cameras
    frames: list[FrameSet]
    followed: Pose2D
    boxes_px: Float[np.ndarray, "time view 4"]
    every: int


def classical(setting: Setting, method: Method, views: tuple[int, ...]) -> Pose3D:
    """MoveNet's keypoints in some views, triangulated."""
    rows, seen = slice(None, None, setting.every), setting.followed
    some = replace(
        seen,
        points_px=seen.points_px[rows][:, list(views)],
        confidence=seen.confidence[rows][:, list(views)],
        views=tuple(seen.views[v] for v in views),
    )
    return lift(some, setting.cameras, method=method)


def learned(setting: Setting, model: Model, views: tuple[int, ...]) -> Pose3D:
    """A model on some views."""
    boxes = np.full_like(setting.boxes_px, np.nan)
    boxes[:, list(views)] = setting.boxes_px[:, list(views)]
    made = list(estimate(iter(setting.frames), setting.cameras, Person(boxes, setting.followed), model))
    return as_poses(made, setting.cameras, model, setting.recording.frame_rate / setting.every)


def bone_spread_mm(poses: Pose3D, bone: tuple[str, str]) -> float:
    """Standard deviation of a bone's length, mean of the two sides."""
    lengths = bone_lengths_mm(poses)
    sides = [lengths[f"{side}_{bone[0]}", f"{side}_{bone[1]}"][:, 0] for side in ("left", "right")]
    return float(np.mean([np.nanstd(length) for length in sides]))


def limbs_mm(poses: Pose3D) -> Float[np.ndarray, "time 12 3"]:
    return poses.position_mm[:, 0, poses.skeleton.indices(LIMB_JOINTS)]


def left_out_px(setting: Setting, poses: Pose3D, view: int, seen: Float[np.ndarray, "time 12 2"]) -> np.ndarray:
    """Distances in a camera that had no part in the poses, ideal pixels."""
    import torch

    camera = setting.cameras.select([setting.cameras.names[view]])
    at, _ = camera.undistorted().project(torch.from_numpy(limbs_mm(poses).reshape(-1, 3)))
    raw = torch.from_numpy(seen.reshape(1, -1, 2))
    return (at[0] - camera.undistort(raw)[0]).norm(dim=-1).numpy()


def main(
    folder: Path,
    model: Annotated[list[str] | None, typer.Option()] = None,
    every: Annotated[int, typer.Option(min=1)] = 4,
    out: Annotated[Path, typer.Option(help="Keeps the keypoints.")] = Path("out/recordings"),
) -> None:
    recording = Recording.open(folder)
    followed = keypoints_of(recording, out=out)
    frames = [f for f in ahead(recording.frames(0)) if f.index % every == 0]  # once, for the many runs
    body = where(followed, recording)
    cameras = replace(recording.cameras, up=body.up)  # as predict takes it
    boxes = boxes_around(body.position_mm[:, 0], cameras)
    setting = Setting(recording, cameras, frames, followed, boxes, every)
    views = tuple(range(len(recording.cameras)))
    if len(views) < 3:
        raise SystemExit(f"{folder} has {len(views)} cameras; to leave one out takes three")
    methods = {"ransac": None, "irls": None, **{name: load_model(name) for name in model or []}}
    limbs = followed.skeleton.indices(LIMB_JOINTS)
    movenet = followed.points_px[::every, :, 0][:, :, limbs]
    table = Table(
        *(
            "method",
            *(f"{b} std mm" for b in BONES),
            "left out px: mean",
            "median",
            "2 of all, mm: mean",
            "median",
            "missing",
        )
    )
    for name, network in methods.items():

        def run(some: tuple[int, ...], name: str = name, network: Model | None = network) -> Pose3D:
            return classical(setting, name, some) if network is None else learned(setting, network, some)

        everything = run(views)
        bones = [bone_spread_mm(everything, bone) for bone in BONES.values()]
        without = [run(tuple(v for v in views if v != out_view)) for out_view in views]
        left_out = np.concatenate([left_out_px(setting, p, v, movenet[:, v]) for v, p in enumerate(without)])
        pairs = [
            np.linalg.norm(limbs_mm(run(p)) - limbs_mm(everything), axis=-1).ravel() for p in combinations(views, 2)
        ]
        apart = np.concatenate(pairs)
        figures = (np.nanmean(left_out), np.nanmedian(left_out), np.nanmean(apart), np.nanmedian(apart))
        missing = float(np.isnan(apart).mean())
        table.add_row(name, *(f"{f:.1f}" for f in (*bones, *figures)), f"{100 * missing:.1f} %")
    Console(width=150).print(table)


if __name__ == "__main__":
    typer.run(main)
