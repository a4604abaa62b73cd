"""Scenes of Human3.6M from their original files."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from typing import Literal

import numpy as np
import torch
from jaxtyping import Float

from tripose.cameras import Cameras
from tripose.data.human36m.boxes import read_boxes
from tripose.data.human36m.originals import SceneFiles
from tripose.data.human36m.poses import read_poses_3d
from tripose.data.human36m.protocol import JOINTS_OF_32
from tripose.data.scenes import Scene
from tripose.errors import TriposeError
from tripose.lifting import LEG_BONE_MM, leg_bone_mm
from tripose.skeleton import H36M17
from tripose.video import probe

Boxes = Literal["truth", "joints"]
"""Where a person is cut out: the boxes that come with the data set, or the square around the projected joints."""


def read_scene(files: SceneFiles, cameras: Cameras, *, every: int, boxes: Boxes) -> tuple[Scene, Sequence[str]]:
    """The labels of a scene, and a sentence on everything of it that is missing.

    Args:
        files: of the scene.
        cameras: of its subject.
        every: every n-th frame counts, the first one included. Published results are those of every 5th.
        boxes: which.

    Raises:
        TriposeError: a file that is damaged, bodies of no human size, no image at all.
    """
    poses_mm = read_poses_3d(files.poses)
    frame = np.arange(0, len(poses_mm), every)
    keypoints_mm = poses_mm[frame][:, JOINTS_OF_32]
    _check_size(keypoints_mm, files)
    problems = [f"{files.name}: camera {name} has no video" for name in cameras.names if name not in files.videos]
    size_px = cameras.size_px.clone()
    known = np.zeros((len(frame), len(cameras)), dtype=bool)
    for name, video in files.videos.items():
        view = cameras.names.index(name)
        info = probe(video)
        size_px[view] = torch.tensor(info.size_px)
        length = len(poses_mm) if info.n_frames is None else info.n_frames
        known[:, view] = frame < length
        if length < len(poses_mm):
            problems.append(f"{video} has {length} frames and {files.poses.name} {len(poses_mm)}: the rest is left out")
    box_px = None
    if boxes == "truth":
        box_px = np.full((len(frame), len(cameras), 4), np.nan)
        for name in files.videos:
            view = cameras.names.index(name)
            box_px[:, view], said = _boxes(files, name, frame, len(poses_mm))
            problems += said
        box_px[~known] = np.nan
        seen = np.isfinite(box_px).all(-1)
    else:
        seen = known
    rows = seen.any(1)
    if not rows.any():
        raise TriposeError(f"{files.name}: no frame has an image with a box: {'; '.join(problems)}")
    scene = Scene(
        name=files.name,
        cameras=replace(cameras, size_px=size_px),
        sources=dict(files.videos),
        frame=frame[rows],
        keypoints_mm=keypoints_mm[rows],
        skeleton=H36M17,
        box_px=None if box_px is None else box_px[rows],
    )
    return scene, problems


def _boxes(
    files: SceneFiles, camera: str, frame: np.ndarray, length: int
) -> tuple[Float[np.ndarray, "row 4"], list[str]]:
    """Boxes of the frames, NaN where there is none."""
    result = np.full((len(frame), 4), np.nan)
    if camera not in files.boxes:
        return result, [
            f"{files.name}: camera {camera} has no boxes, so its images are left out; or take those of joints"
        ]
    boxes = read_boxes(files.boxes[camera])
    some = frame < len(boxes)
    result[some] = boxes[frame[some]]
    if len(boxes) < length:
        return result, [f"{files.boxes[camera]} has {len(boxes)} boxes, and there are {length} poses"]
    return result, []


def _check_size(keypoints_mm: Float[np.ndarray, "row joint 3"], files: SceneFiles) -> None:
    length_mm = leg_bone_mm(keypoints_mm[:, None], H36M17)
    if not LEG_BONE_MM[0] <= length_mm <= LEG_BONE_MM[1]:
        raise TriposeError(
            f"{files.poses}: thighs and shanks come out {length_mm:.4g} mm long, which no human's are: the file is "
            "damaged, or its numbers are in another order"
        )
