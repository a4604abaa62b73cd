"""Poses as a recording for the rerun viewer (`pip install 'tripose[view]'`, then ``rerun walk01.rrd``)."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np

from tripose.cameras import Cameras
from tripose.diagnosis import side_of_bone
from tripose.drawing.page_data import up_axis
from tripose.errors import missing_extra
from tripose.formats.writing import atomic
from tripose.pose import Pose3D

_COLORS = {"left": 0x2B6CD4FF, "right": 0xD9622BFF, "middle": 0x9AA0A7FF}


def write_rrd(poses: Pose3D, path: Path, *, cameras: Cameras | None = None) -> None:
    """Write an .rrd file: joints and bones of each person on the timelines ``frame`` and ``time``, and the cameras.

    Positions are in mm in the world frame. Missing joints are left out of their frame.

    Args:
        poses: the poses.
        path: the file; replaced at once when complete.
        cameras: the rig, logged as ideal pinholes (rerun knows no lens distortion).

    Raises:
        TriposeError: rerun is not installed, or the file cannot be written.
    """
    try:
        import rerun as rr
    except ImportError:
        raise missing_extra("rerun-sdk", "view") from None
    up = up_axis(poses, cameras) or "z"
    orientation = f"RIGHT_HAND_{up[-1].upper()}_{'DOWN' if up.startswith('-') else 'UP'}"
    with atomic(Path(path)) as part:
        recording = rr.RecordingStream("tripose")
        recording.save(part)
        recording.log("world", getattr(rr.ViewCoordinates, orientation), static=True)
        if cameras is not None:
            _log_cameras(recording, cameras)
        for index, person in enumerate(poses.persons):
            _log_person(recording, poses, index, f"world/{rr.escape_entity_path_part(person)}")
        recording.disconnect()


def _log_cameras(recording: Any, cameras: Cameras) -> None:
    import rerun as rr

    K, R, centers = (value.detach().cpu().numpy() for value in (cameras.K, cameras.R, cameras.centers_mm))
    for i, name in enumerate(cameras.names):
        entity = f"world/cameras/{rr.escape_entity_path_part(name)}"
        recording.log(entity, rr.Transform3D(translation=centers[i], mat3x3=R[i].T), static=True)
        pinhole = rr.Pinhole(
            image_from_camera=K[i],
            resolution=cameras.size_px[i].tolist(),
            camera_xyz=rr.ViewCoordinates.RDF,
            image_plane_distance=250.0,
        )
        recording.log(entity, pinhole, static=True)


def _log_person(recording: Any, poses: Pose3D, person: int, entity: str) -> None:
    """All frames at once: rerun takes flat columns and the number of rows of each frame."""
    import rerun as rr

    position = poses.position_mm[:, person].astype(np.float32)
    seen = np.all(np.isfinite(position), axis=-1)
    a, b = np.array(poses.skeleton.bone_indices, dtype=int).reshape(-1, 2).T
    drawn = seen[:, a] & seen[:, b]
    strips = np.stack([position[:, a], position[:, b]], 2)
    joints = poses.skeleton.joints
    joint_colors = np.array([_COLORS[side_of_bone(j, j)] for j in joints], dtype=np.uint32)
    bone_colors = np.array([_COLORS[side_of_bone(*bone)] for bone in poses.skeleton.bones], dtype=np.uint32)
    labels = np.broadcast_to(joints, seen.shape)[seen].tolist()
    timelines = [
        rr.TimeColumn("frame", sequence=np.arange(len(position))),
        rr.TimeColumn("time", duration=poses.time_s),
    ]
    points = rr.Points3D.columns(
        positions=position[seen],
        colors=np.broadcast_to(joint_colors, seen.shape)[seen],
        labels=labels,
        radii=np.full(int(seen.sum()), 15.0, dtype=np.float32),
    )
    recording.send_columns(f"{entity}/joints", timelines, points.partition(seen.sum(1)))
    lines = rr.LineStrips3D.columns(
        strips=list(strips[drawn]),
        colors=np.broadcast_to(bone_colors, drawn.shape)[drawn],
        radii=np.full(int(drawn.sum()), 8.0, dtype=np.float32),
    )
    recording.send_columns(f"{entity}/bones", timelines, lines.partition(drawn.sum(1)))
