"""From matched 2D keypoints to 3D poses: triangulate in pieces, and refuse what cannot be a person."""

from __future__ import annotations

from functools import partial

import numpy as np
import torch
from jaxtyping import Float
from torch import Tensor

from tripose.cameras import Cameras, Up
from tripose.errors import TriposeError
from tripose.geometry.triangulate import Triangulation
from tripose.models.fusion import FusionTriangulation
from tripose.pose import Pose2D, Pose3D
from tripose.skeleton import Skeleton
from tripose.triangulation import Method, triangulate

# Frames triangulated at a time: bounds the working memory; the results themselves grow with the recording.
_CHUNK = 2000
LEG_BONE_MM = (150.0, 700.0)
"""Length of a child's or an adult's thigh and shank, with room for loose keypoints."""
# Factor that would repair the length -> (unit that was assumed, unit that was meant).
_WRONG_UNIT = {
    1e-3: ("m", "mm"),
    1e-2: ("m", "cm"),
    1e-1: ("cm", "mm"),
    1e1: ("mm", "cm"),
    1e2: ("cm", "m"),
    1e3: ("mm", "m"),
}


def lift(
    pose2d: Pose2D,
    cameras: Cameras,
    *,
    method: Method = "ransac",
    min_views: int = 2,
    model: FusionTriangulation | None = None,
) -> Pose3D:
    """Triangulate the keypoints of people that are already matched across views.

    Args:
        pose2d: person ``i`` is the same human in every view.
        cameras: the rig; views are matched by name, and cameras without keypoints are left out.
        method: see `tripose.triangulation`.
        min_views: smallest number of agreeing views that makes a joint; not of fusion.
        model: of fusion; None: the one that ships with the package.

    Raises:
        TriposeError: a view without a camera, fewer than two views, or nothing that `min_views` views agree on.
    """
    rig = cameras.select(pose2d.views)
    if len(rig) < 2:
        raise TriposeError(f"{len(rig)} usable view ({', '.join(rig.names)}); triangulation needs at least 2")
    parts = []
    ask = partial(triangulate, method=method, min_views=min_views, skeleton=pose2d.skeleton, model=model)
    for start in range(0, len(pose2d.points_px), _CHUNK):
        points = torch.as_tensor(pose2d.points_px[start : start + _CHUNK]).movedim(2, 1)
        score = torch.as_tensor(pose2d.confidence[start : start + _CHUNK]).movedim(2, 1)
        with torch.no_grad():
            parts.append(ask(rig, points, score))
    if not any(bool(torch.isfinite(p.position_mm).any()) for p in parts):
        raise TriposeError(_nothing_found(pose2d, min_views))
    return _as_poses(parts, pose2d, rig, method, min_views)


def _as_poses(parts: list[Triangulation], pose2d: Pose2D, rig: Cameras, method: Method, min_views: int) -> Pose3D:
    position = torch.cat([p.position_mm for p in parts]).numpy()
    confidence = torch.cat([p.confidence for p in parts]).numpy()
    persons = position.shape[1]
    poses = Pose3D(
        position_mm=position,
        confidence=np.where(np.isfinite(position[..., 0]), confidence, np.nan),
        skeleton=pose2d.skeleton,
        fps=pose2d.fps,
        persons=tuple(f"person_{i}" for i in range(persons)),
        views=rig.names,
        n_views=torch.cat([p.n_views for p in parts]).numpy(),
        reprojection_px=torch.cat([p.reprojection_px for p in parts]).movedim(1, 2).numpy(),
        covariance_mm2=_joined([p.covariance_mm2 for p in parts]),
        prior_share=_joined([p.prior_share for p in parts]),
        view_share=_joined([None if p.view_share is None else p.view_share.movedim(1, 2) for p in parts]),
        up=rig.up,
        notes={"method": method} | ({} if method == "fusion" else {"min_views": str(min_views)}),
    )
    up = rig.up or up_from_body(poses)
    if up and not rig.up:
        poses.notes["up"] = f"{up}: not in the calibration, taken from the standing body"
    return Pose3D(**{**poses.__dict__, "up": up})


def _joined(parts: list[Tensor | None]) -> Float[np.ndarray, "time ..."] | None:
    known = [part for part in parts if part is not None]
    joined: Float[np.ndarray, "time ..."] | None = torch.cat(known).numpy() if known else None
    return joined


def check_size(poses: Pose3D, where: str) -> None:
    """Refuse poses whose legs have the length of no human: the calibration's unit is probably another.

    Skeletons without legs (animals, hands) pass.

    Args:
        poses: what was triangulated.
        where: the calibration file, for the message.

    Raises:
        TriposeError: naming the median length and the unit that would fit.
    """
    length_mm = leg_bone_mm(poses.position_mm, poses.skeleton)
    if not np.isfinite(length_mm) or LEG_BONE_MM[0] <= length_mm <= LEG_BONE_MM[1]:
        return
    unit = next((u for f, u in _WRONG_UNIT.items() if LEG_BONE_MM[0] <= length_mm * f <= LEG_BONE_MM[1]), None)
    advice = (
        f"it looks as if the calibration is in {unit[1]} and was read as {unit[0]}: say --unit {unit[1]}"
        if unit
        else "no length unit makes it fit, so the calibration does not belong to these views"
    )
    raise TriposeError(f"{where}: thighs and shanks come out {length_mm:.4g} mm long, which no human's are; {advice}")


def leg_bone_mm(position_mm: Float[np.ndarray, "time person joint 3"], skeleton: Skeleton) -> float:
    """Median length of thighs and shanks, mm; NaN for skeletons without legs."""
    lengths = []
    for side in ("left", "right"):
        for a, b in ((f"{side}_hip", f"{side}_knee"), (f"{side}_knee", f"{side}_ankle")):
            if a in skeleton.joints and b in skeleton.joints:
                ends = position_mm[:, :, skeleton.indices([a, b])]
                lengths.append(np.linalg.norm(ends[..., 0, :] - ends[..., 1, :], axis=-1).ravel())
    every = np.concatenate(lengths) if lengths else np.empty(0)
    return float(np.median(every[np.isfinite(every)])) if np.isfinite(every).any() else float("nan")


def up_from_body(poses: Pose3D) -> Up | None:
    """The world axis along which people stand: from ankles to shoulders, within 30 degrees; None if unclear."""
    wanted = [["left_shoulder", "right_shoulder"], ["left_ankle", "right_ankle"]]
    top, bottom = (poses.skeleton.indices(joints) for joints in wanted)
    if len(top) < 2 or len(bottom) < 2:
        return None
    spine = (poses.position_mm[:, :, top].mean(2) - poses.position_mm[:, :, bottom].mean(2)).reshape(-1, 3)
    spine = spine[np.isfinite(spine).all(-1)]
    if not len(spine):
        return None
    direction: Float[np.ndarray, 3] = np.median(spine, axis=0)
    axis = int(np.abs(direction).argmax())
    if abs(direction[axis]) < np.cos(np.radians(30)) * np.linalg.norm(direction):
        return None
    names: tuple[tuple[Up, Up], ...] = (("-x", "x"), ("-y", "y"), ("-z", "z"))
    return names[axis][int(direction[axis] > 0)]


def _nothing_found(pose2d: Pose2D, min_views: int) -> str:
    seen = np.isfinite(pose2d.points_px).all(-1) & (pose2d.confidence > 0)
    most = int(seen.sum(1).max()) if seen.size else 0
    frames = len(pose2d.points_px)
    if most < min_views:
        return f"0 of {frames} frames have a joint in {min_views} views (the most is {most}): nothing to triangulate"
    return (
        f"joints are seen in up to {most} views, but no {min_views} views agree on any position: the calibration does "
        "not belong to these videos, or views are swapped (tripose check tells more)"
    )
