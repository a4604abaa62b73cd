"""The numbers that the page of `tripose.drawing.page` plays: rounded, thinned out, and turned so that z points up."""

from __future__ import annotations

from typing import Any

import numpy as np
import torch
from jaxtyping import Float, Int

from tripose.cameras import TO_Z_UP, Cameras, Up
from tripose.diagnosis import LIMBS, bone_label, side_of_bone
from tripose.lens import to_normalised
from tripose.pose import Pose3D, bone_lengths_mm

# About 5.5 characters a coordinate: 6 MB of JSON, 23,000 frames of one person with 17 joints.
_MAX_COORDINATES = 1_200_000
# A time plot is at most this many columns wide; more frames are drawn as the range and median of each column.
_COLUMNS = 900
_FRUSTUM_MM = 250.0
# Joints drawn hollow: fewer than two views (a filled gap), or a standard deviation above this.
_UNCERTAIN_MM = 50.0
_SIDES = ("middle", "left", "right")


def payload(poses: Pose3D, cameras: Cameras | None) -> dict[str, Any]:
    """Everything that the page's script needs, ready for JSON (None where a value is missing)."""
    up = up_axis(poses, cameras)
    turn = np.array(TO_Z_UP[up or "z"], dtype=float)
    turned = poses.position_mm @ turn.T
    time, person, joint, _ = turned.shape
    step = max(1, -(-time * person * joint * 3 // _MAX_COORDINATES))
    size = max(1, -(-time // _COLUMNS))
    joints = poses.skeleton.joints
    return {
        "fps": poses.fps,
        "frames": time,
        "step": step,
        "size": size,
        "persons": list(poses.persons),
        "joints": list(joints),
        "side": [_SIDES.index(side_of_bone(name, name)) for name in joints],
        "bones": [[a, b, _SIDES.index(side_of_bone(joints[a], joints[b]))] for a, b in poses.skeleton.bone_indices],
        "xyz": [_plain(frame.ravel()) for frame in turned[::step]],
        "hollow": _hollow(poses)[::step],
        "start": int(np.isfinite(turned[::step, ..., 0]).sum((1, 2)).argmax()) if turned.size else 0,
        "scene": _scene(turned),
        "cameras": [] if cameras is None else _frustums(cameras, turn),
        "errors": _errors(poses, size),
        "views": _views(poses, size),
        "counted": poses.n_views is not None,
        "lengths": [_lengths(poses, i, size) for i in range(person)],
    }


def up_axis(poses: Pose3D, cameras: Cameras | None) -> Up | None:
    """The world axis that points up; None when neither the poses nor the calibration say."""
    return poses.up or (cameras.up if cameras is not None else None)


def thin(values: Float[np.ndarray, " time"], size: int) -> Float[np.ndarray, " sample"]:
    """Replace every `size` values by their minimum, median and maximum, so that no spike is lost; NaN if all are."""
    if size == 1:
        return values
    columns = _columns(values, size, np.nan)
    # fmin and fmax ignore NaN, and without the warning that nanmin gives for a column of nothing else.
    return np.stack([np.fmin.reduce(columns, 1), _median(columns), np.fmax.reduce(columns, 1)], 1).ravel()


def _median(values: Float[np.ndarray, "*rows value"]) -> Float[np.ndarray, "*rows"]:
    """Median of what is not NaN in each row, without nanmedian's warning for an empty row; NaN there."""
    ordered = np.sort(values, -1)  # NaN goes last
    count = np.isfinite(ordered).sum(-1)
    middle = np.stack([np.maximum(count - 1, 0) // 2, np.minimum(count // 2, values.shape[-1] - 1)], -1)
    median: np.ndarray = np.take_along_axis(ordered, middle, -1).mean(-1)
    return np.where(count > 0, median, np.nan)


def _columns(values: np.ndarray, size: int, padding: float) -> np.ndarray:
    return np.pad(values, (0, -len(values) % size), constant_values=padding).reshape(-1, size)


def _plain(values: Float[np.ndarray, " value"], decimals: int = 0) -> list[float | int | None]:
    """Rounded plain numbers, None for what is not finite; whole numbers as integers, which are shorter in JSON."""
    rounded = np.round(values, decimals).tolist()
    if decimals == 0:
        return [int(v) if np.isfinite(v) else None for v in rounded]
    return [v if np.isfinite(v) else None for v in rounded]


def _hollow(poses: Pose3D) -> list[str]:
    """One character per person and joint in every frame: 1 for an uncertain position."""
    uncertain = np.zeros(poses.position_mm.shape[:-1], dtype=bool)
    if poses.n_views is not None:
        uncertain |= poses.n_views < 2
    if poses.covariance_mm2 is not None:
        variance = np.trace(poses.covariance_mm2, axis1=-2, axis2=-1)
        uncertain |= variance > _UNCERTAIN_MM**2
    return ["".join("01"[flag] for flag in frame.ravel().tolist()) for frame in uncertain]


def _scene(turned: Float[np.ndarray, "time person joint 3"]) -> dict[str, Any]:
    """Where the people are and where the ground is, from percentiles: one wild joint must not shrink everybody."""
    points = turned[np.isfinite(turned).all(-1)]
    if not len(points):
        return {"low": [-1000, -1000, 0], "high": [1000, 1000, 2000], "ground": 0}
    low, high = np.percentile(points, (0.5, 99.5), axis=0)
    # A calibrated floor is drawn where it is, even if the feet float; a world without one gets it under the feet.
    ground = 0.0 if abs(low[2]) < 400 else low[2]
    return {"low": _plain(low), "high": _plain(high), "ground": round(float(ground))}


def _frustums(cameras: Cameras, turn: Float[np.ndarray, "3 3"]) -> list[dict[str, Any]]:
    """Per camera its name and five points: the centre, and the corners of the image 250 mm in front of it."""
    right, bottom = (cameras.size_px.to(cameras.K) - 0.5).unbind(-1)
    left = torch.full_like(right, -0.5)
    x, y = torch.stack([left, right, right, left], -1), torch.stack([left, left, bottom, bottom], -1)
    ideal = to_normalised(torch.stack([x, y], -1), cameras.K)
    corners = torch.cat([ideal, torch.ones_like(ideal[..., :1])], -1) * _FRUSTUM_MM
    centers = cameras.centers_mm[:, None]
    points = torch.cat([centers, centers + corners @ cameras.R], 1).detach().cpu().numpy() @ turn.T
    return [{"name": name, "xyz": _plain(p.ravel())} for name, p in zip(cameras.names, points, strict=True)]


def _errors(poses: Pose3D, size: int) -> list[dict[str, Any]]:
    """Median reprojection error of each view over time, px."""
    if poses.reprojection_px is None or not poses.reprojection_px.size:
        return []
    time, view, person, joint = poses.reprojection_px.shape
    median = _median(poses.reprojection_px.reshape(time, view, person * joint))
    return [{"name": name, "px": _plain(thin(median[:, i], size), 1)} for i, name in enumerate(poses.views)]


def _views(poses: Pose3D, size: int) -> list[list[str]]:
    """Per person and joint one digit per column, its worst frame: 0 missing, else the number of views (9: or more)."""
    finite = np.isfinite(poses.position_mm).all(-1)
    count = np.ones_like(finite, dtype=np.int64) if poses.n_views is None else poses.n_views.clip(1, 9)
    digits = np.where(finite, count, 0)
    return [[_digits(digits[:, i, j], size) for j in range(digits.shape[2])] for i in range(digits.shape[1])]


def _digits(values: Int[np.ndarray, " time"], size: int) -> str:
    worst = _columns(values, size, 9.0).min(1)
    return "".join(map(str, worst.tolist()))


def _lengths(poses: Pose3D, person: int, size: int) -> list[dict[str, Any]]:
    """The limbs of one person over time, mm, left and right together; the longest bones where there are no limbs."""
    groups: dict[str, dict[str, np.ndarray]] = {}
    for (a, b), length in bone_lengths_mm(poses).items():
        groups.setdefault(bone_label(a, b), {})[side_of_bone(a, b)] = length[:, person]
    finite = {label: np.concatenate(list(sides.values())) for label, sides in groups.items()}
    typical = {label: v[np.isfinite(v)] for label, v in finite.items() if np.isfinite(v).any()}
    limbs = [label for label in LIMBS.values() if label in typical]
    longest = sorted(typical, key=lambda label: -float(np.median(typical[label])))
    plots = []
    for label in limbs or longest[:4]:
        low, high = np.percentile(typical[label], (2, 98))
        # At least +-12 % of the length, so that the noise of a good recording looks as small as it is.
        center, half = (low + high) / 2, 0.6 * max(high - low, 0.2 * float(np.median(typical[label])))
        plot: dict[str, Any] = {"label": label, "low": round(center - half), "high": round(center + half)}
        plots.append(plot | {side: _plain(thin(values, size)) for side, values in groups[label].items()})
    return plots
