"""What the numbers of a `Pose3D` say about the recording: statistics per camera, joint and bone, and a verdict.

Medians and percentiles, because a few swapped joints of 500 px would hide everything else in a mean.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Literal, NamedTuple

import numpy as np
from jaxtyping import Bool, Float

from tripose.pose import Pose3D, bone_lengths_mm
from tripose.skeleton import LIMB_JOINTS, partner


class Error(NamedTuple):
    """Summary of reprojection errors, px: median and 90th percentile (NaN without a value), number of values."""

    median: float
    p90: float
    n: int


class Length(NamedTuple):
    """Summary of a bone's length, mm: mean and standard deviation (NaN without a value), number of frames."""

    mean: float
    std: float
    n: int


class Finding(NamedTuple):
    """One sentence of the verdict and how serious it is."""

    level: Literal["ok", "warn", "bad"]
    text: str


LIMBS = {
    ("hip", "knee"): "thigh",
    ("knee", "ankle"): "shank",
    ("shoulder", "elbow"): "upper arm",
    ("elbow", "wrist"): "forearm",
}
"""What people call the bone between two joints of one side."""

# Limits of the verdict. A camera with 1.5 times the error of its neighbours is worth a look, with 3 times it is wrong
# (calibration, synchronisation). Bone lengths of good recordings spread by 2-4 %.
_CAMERA_RATIO = (1.5, 3.0)
# Medians of good recordings at 1-2 megapixels are 3-12 px; far more in every camera is a wrong rig, not a bad camera.
_MEDIAN_PX = (20.0, 60.0)
_MISSING_SHARE = (0.01, 0.10)
# Up to 0.1 s interpolation is harmless; in 0.5 s a limb swings there and back.
_GAP_S = (0.1, 0.5)
_BONE_SPREAD = (0.05, 0.12)
# Eyes and ears are a hand's width apart: their relative spread says little about the recording.
_SHORT_MM = 150.0
_BONE_ASYMMETRY = (0.05, 0.15)


def reprojection_by_camera(poses: Pose3D) -> dict[str, Error]:
    """Reprojection error of each view over all frames, persons and joints, raw image px; empty without errors."""
    if poses.reprojection_px is None:
        return {}
    return {name: _error(poses.reprojection_px[:, i]) for i, name in enumerate(poses.views)}


def reprojection_by_joint(poses: Pose3D) -> dict[str, Error]:
    """Reprojection error of each joint over all frames, views and persons, raw image px; empty without errors."""
    if poses.reprojection_px is None:
        return {}
    return {name: _error(poses.reprojection_px[..., i]) for i, name in enumerate(poses.skeleton.joints)}


def reprojection_table(poses: Pose3D) -> Float[np.ndarray, "view joint"]:
    """Median reprojection error of each joint in each view, raw image px; NaN where there is none."""
    table = np.full((len(poses.views), len(poses.skeleton)), np.nan)
    if poses.reprojection_px is not None:
        for view, joint in np.ndindex(*table.shape):
            table[view, joint] = _error(poses.reprojection_px[:, view, :, joint]).median
    return table


def missing_share(poses: Pose3D, joints: Sequence[str] | None = None) -> dict[str, float]:
    """Share (0..1) of frames and persons in which each joint has no position; NaN for poses without frames.

    Args:
        poses: the poses.
        joints: names of the joints asked for; all when None.

    Raises:
        TriposeError: the skeleton has no such joint.
    """
    names = poses.skeleton.joints if joints is None else joints
    missing = _missing(poses).reshape(-1, len(poses.skeleton))
    share = missing.mean(0) if len(missing) else np.full(len(poses.skeleton), np.nan)
    return {name: float(share[poses.skeleton.index(name)]) for name in names}


def bone_statistics(poses: Pose3D, person: int = 0) -> dict[tuple[str, str], Length]:
    """Length of each bone of one person over time, mm: a rigid bone should not spread.

    Args:
        poses: the poses.
        person: position on the person axis; lengths of different people are never pooled.
    """
    return {bone: _length(length[:, person]) for bone, length in bone_lengths_mm(poses).items()}


def side_of_bone(a: str, b: str) -> str:
    """``left`` or ``right`` when both ends are on that side, else ``middle``."""
    sides = {name.split("_", 1)[0] for name in (a, b)}
    return sides.pop() if len(sides) == 1 and sides <= {"left", "right"} else "middle"


def bone_label(a: str, b: str) -> str:
    """What people call a bone, without its side: ``left_hip, left_knee`` -> ``thigh``."""
    if side_of_bone(a, b) != "middle":
        a, b = a.split("_", 1)[1], b.split("_", 1)[1]
    elif a == partner(b) != b:
        return f"{a.split('_', 1)[1]} width"
    return LIMBS.get((a, b), f"{a} - {b}")


def is_unsteady(bone: Length) -> bool:
    """Whether a bone of 150 mm or more varies by more than 5 % of its length."""
    return bone.n > 1 and bone.mean >= _SHORT_MM and bone.std > _BONE_SPREAD[0] * bone.mean


def is_unequal(left: Length, right: Length) -> bool:
    """Whether left and right bones of 150 mm or more differ by more than 5 %."""
    mean = (left.mean + right.mean) / 2
    return mean >= _SHORT_MM and abs(left.mean - right.mean) > _BONE_ASYMMETRY[0] * mean


def longest_gap(poses: Pose3D) -> tuple[str, str, int, int] | None:
    """The longest run of frames in which one joint is missing: person, joint, first frame, number of frames."""
    longest = None
    missing = _missing(poses)
    for person, joint in np.ndindex(*missing.shape[1:]):
        edges = np.flatnonzero(np.diff(missing[:, person, joint].astype(np.int8), prepend=0, append=0))
        for first, end in edges.reshape(-1, 2).tolist():
            if longest is None or end - first > longest[3]:
                longest = (poses.persons[person], poses.skeleton.joints[joint], first, end - first)
    return longest


def verdict(poses: Pose3D) -> list[Finding]:
    """What stands out, in plain sentences: cameras, missing joints, gaps, bone lengths."""
    return [*_cameras(poses), *_joints(poses), *_gaps(poses), *_bones(poses)]


def _cameras(poses: Pose3D) -> list[Finding]:
    errors = {name: e for name, e in reprojection_by_camera(poses).items() if e.n}
    silent = [name for name in poses.views if poses.reprojection_px is not None and name not in errors]
    findings = [Finding("bad", f"Camera {name} contributes nothing: no joint was compared in it.") for name in silent]
    if len(errors) < 2:
        return findings
    worst = max(errors, key=lambda name: errors[name].median)
    best = min(errors, key=lambda name: errors[name].median)
    others = float(np.median([e.median for name, e in errors.items() if name != worst]))
    ratio = errors[worst].median / max(others, 1e-3)
    level = _level(ratio, _CAMERA_RATIO)
    if level == "ok":
        span = f"from {errors[best].median:.1f} px ({best}) to {errors[worst].median:.1f} px ({worst})"
        level = _level(others, _MEDIAN_PX)
        text = f"No camera stands out: median reprojection errors {span}."
        if level != "ok":
            text = (
                f"All cameras disagree: median reprojection errors {span}. Check that calibration, videos and keypoints"
                " belong together and that the cameras are synchronised."
            )
    else:
        text = (
            f"Camera {worst} is the worst: its median reprojection error of {errors[worst].median:.1f} px is"
            f" {ratio:.1f} times that of the others ({others:.1f} px). Check its calibration and synchronisation."
        )
    return [*findings, Finding(level, text)]


def _joints(poses: Pose3D) -> list[Finding]:
    share = missing_share(poses)
    total = float(np.mean(list(share.values())))
    if not np.isfinite(total):
        return [Finding("bad", "There are no poses: no frame or no person.")]
    if total == 0:
        return [Finding("ok", "Every joint has a position in every frame.")]
    often = sorted((j for j in share if share[j] > 0), key=lambda j: -share[j])[:3]
    named = ", ".join(f"{joint} ({_percent(share[joint])})" for joint in often)
    text = f"Missing joint positions: {_percent(total)}; most often {named}."
    return [Finding(_level(total, _MISSING_SHARE), text)]


def _gaps(poses: Pose3D) -> list[Finding]:
    gap = longest_gap(poses)
    if gap is None:
        return []
    person, joint, first, frames = gap
    incomplete = int(_missing(poses).any((1, 2)).sum())
    who = f"{joint} of {person}" if len(poses.persons) > 1 else joint
    text = (
        f"Frames with a missing joint: {incomplete} of {len(poses.position_mm)}; the longest gap is {who},"
        f" {frames} {'frame' if frames == 1 else 'frames'} ({frames / poses.fps:.2f} s) from frame {first}."
    )
    return [Finding(_level(frames / poses.fps, _GAP_S), text)]


def _bones(poses: Pose3D) -> list[Finding]:
    """The least steady and the most unequal bone of the limbs and the trunk; of all bones if there are no limbs."""
    limbs = any(joint in LIMB_JOINTS for joint in poses.skeleton.joints)
    spreads: dict[str, Length] = {}
    pairs: dict[str, dict[str, Length]] = {}
    for i, person in enumerate(poses.persons):
        owner = f" of {person}" if len(poses.persons) > 1 else ""
        for (a, b), bone in bone_statistics(poses, i).items():
            if bone.n < 2 or bone.mean == 0 or (limbs and not {a, b} <= set(LIMB_JOINTS)):
                continue
            label, side = bone_label(a, b) + owner, side_of_bone(a, b)
            spreads[label if side == "middle" else f"{side} {label}"] = bone
            pairs.setdefault(label, {})[side] = bone
    findings = []
    if spreads:
        name = max(spreads, key=lambda n: spreads[n].std / spreads[n].mean)
        bone = spreads[name]
        level = _level(bone.std / bone.mean, _BONE_SPREAD)
        lead = "Bone lengths are steady; the least steady is" if level == "ok" else "Bone lengths vary, most of all"
        share = _percent(bone.std / bone.mean)
        findings.append(Finding(level, f"{lead} the {name}: {bone.mean:.0f} ± {bone.std:.0f} mm ({share})."))
    excess = {k: s["left"].mean / s["right"].mean - 1 for k, s in pairs.items() if {"left", "right"} <= set(s)}
    name = max(excess, key=lambda n: abs(np.log1p(excess[n])), default="")
    if name and abs(excess[name]) > _BONE_ASYMMETRY[0]:
        left, right = pairs[name]["left"].mean, pairs[name]["right"].mean
        level = _level(abs(excess[name]), _BONE_ASYMMETRY)
        findings.append(
            Finding(level, f"The {name} is {left:.0f} mm long on the left and {right:.0f} mm on the right.")
        )
    return findings


def _missing(poses: Pose3D) -> Bool[np.ndarray, "time person joint"]:
    missing: np.ndarray = ~np.isfinite(poses.position_mm).all(-1)
    return missing


def _error(values: Float[np.ndarray, "*any"]) -> Error:
    finite = values[np.isfinite(values)]
    if not len(finite):
        return Error(np.nan, np.nan, 0)
    median, p90 = np.percentile(finite, (50, 90))
    return Error(float(median), float(p90), len(finite))


def _length(values: Float[np.ndarray, " time"]) -> Length:
    finite = values[np.isfinite(values)]
    if not len(finite):
        return Length(np.nan, np.nan, 0)
    return Length(float(finite.mean()), float(finite.std()), len(finite))


def _level(value: float, limits: tuple[float, float]) -> Literal["ok", "warn", "bad"]:
    return "ok" if value < limits[0] else "warn" if value < limits[1] else "bad"


def _percent(share: float) -> str:
    if 0 < share < 0.001:
        return "less than 0.1 %"
    return f"{100 * share:.1f} %" if share < 0.1 else f"{100 * share:.0f} %"
