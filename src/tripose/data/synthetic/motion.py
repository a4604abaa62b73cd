"""Motion to poses: recorded joint positions as rotations of the bones of the body model."""

from __future__ import annotations

from collections.abc import Mapping

import numpy as np
from jaxtyping import Float

from tripose.data.synthetic.motion_body import BONE, POSED_BONES, REST_MM, matrices, vectors, without_heading
from tripose.errors import TriposeError
from tripose.skeleton import LIMB_JOINTS

MOTION_JOINTS = (
    *LIMB_JOINTS,
    *("neck", "head_top", "left_ear", "right_ear", "left_hand", "right_hand", "left_big_toe", "right_big_toe"),
)
"""What `retarget` understands: the twelve limb joints are needed, each of the others makes the poses truer."""

# Below the first angle a limb is straight and its plane is noise; above the second the plane is trusted.
_STRAIGHT_DEG, _BENT_DEG = 10.0, 25.0
# Raising an arm lifts the collarbone too, about 30 degrees at the top (Inman et al. 1944); reaching pulls it forwards.
# Two thirds of that here, because the joint of the shoulder itself turns too.
_LIFT, _LIFT_FROM_DEG, _REACH_DEG = 0.16, 50.0, 12.0
# What has a direction: limbs, hips and shoulders.
_APART = [("left_hip", "right_hip"), ("left_shoulder", "right_shoulder")] + [
    (f"{side}_{a}", f"{side}_{b}")
    for side in ("left", "right")
    for a, b in (("hip", "knee"), ("knee", "ankle"), ("shoulder", "elbow"), ("elbow", "wrist"))
]
_SPINE = ("spine05", "spine03", "spine01")
_LEFT = np.array([1.0, 0.0, 0.0])


def retarget(joints_mm: Mapping[str, Float[np.ndarray, "frame 3"]]) -> Float[np.ndarray, "kept bone 3"]:
    """Poses whose limbs point where the recorded ones do.

    Limbs are aligned by direction, so the size of the person does not matter; a bent elbow or knee fixes the twist of
    upper arm and thigh. Trunk bend and twist between hips and shoulders are spread evenly along the spine.

    Args:
        joints_mm: joint name (`MOTION_JOINTS`; others are ignored) -> positions, any frame with z up, any unit.

    Returns:
        Rotation vectors (rad) of `POSED_BONES`; frames in which a joint is not finite, or a limb has no length
        (some files write zeros for what is missing), are left out.

    Raises:
        TriposeError: a needed joint is missing.
    """
    missing = [j for j in LIMB_JOINTS if j not in joints_mm]
    if missing:
        raise TriposeError(
            f"a motion needs hips, knees, ankles, shoulders, elbows and wrists; {missing[0]!r} is missing"
        )
    known = {j: np.asarray(joints_mm[j], dtype=float) for j in MOTION_JOINTS if j in joints_mm}
    finite = np.all([np.isfinite(x).all(-1) for x in known.values()], axis=0)
    apart = np.all([(known[a] != known[b]).any(-1) for a, b in _APART], axis=0)
    at = {j: x[finite & apart] for j, x in known.items()}
    pose = np.zeros((int((finite & apart).sum()), len(POSED_BONES), 3))
    if not len(pose):
        return pose
    pelvis, chest = _turn_trunk(at, pose)
    _turn_head(at, chest, pose)
    for side, letter in (("left", "L"), ("right", "R")):
        _turn_arm(at, side, letter, chest, pose)
        _turn_leg(at, side, letter, pelvis, pose)
    return pose


Points = dict[str, np.ndarray]


def _turn_trunk(at: Points, pose: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Root and spine; returns the rotations [frame 3 3] of pelvis and chest."""
    hips, shoulders = [(at[f"left_{j}"], at[f"right_{j}"]) for j in ("hip", "shoulder")]
    top, rest_top = (shoulders[0] + shoulders[1]) / 2, "upperarm01.L"
    if "neck" in at:
        top, rest_top = at["neck"], "neck01"
    up, rest_up = top - (hips[0] + hips[1]) / 2, (REST_MM[rest_top] - REST_MM["upperleg01.L"]) * (0, 1, 1)
    rest = _frame(_LEFT, rest_up)
    pelvis, chest = [_frame(left - right, up) @ rest.T for left, right in (hips, shoulders)]
    pose[:, BONE["root"]] = vectors(without_heading(pelvis))
    bend = vectors(_transpose(pelvis) @ chest)
    for bone in _SPINE:
        pose[:, BONE[bone]] = bend / len(_SPINE)
    return pelvis, chest


def _turn_head(at: Points, chest: np.ndarray, pose: np.ndarray) -> None:
    """Neck and head, half of the way each: by the ears if they are known, else by the top of the head."""
    neck = at.get("neck", (at["left_shoulder"] + at["right_shoulder"]) / 2)
    if "left_ear" in at and "right_ear" in at:
        ears = (at["left_ear"] + at["right_ear"]) / 2
        rest = _frame(_LEFT, REST_MM["head"] + (0, 0, 25) - REST_MM["neck01"])
        head = _frame(at["left_ear"] - at["right_ear"], ears - neck) @ rest.T
    elif "head_top" in at:
        head = _swing(chest @ _unit(REST_MM["head_top"] - REST_MM["neck01"]), _unit(at["head_top"] - neck)) @ chest
    else:
        return
    turn = vectors(_transpose(chest) @ head)
    pose[:, BONE["neck01"]] = pose[:, BONE["head"]] = turn / 2


def _turn_arm(at: Points, side: str, letter: str, chest: np.ndarray, pose: np.ndarray) -> None:
    bones = [f"{b}.{letter}" for b in ("clavicle", "upperarm01", "lowerarm01", "wrist")]
    upper, lower = _limb(at, side, "shoulder", "elbow", "wrist")
    pose[:, BONE[bones[0]]] = clavicle_turn(_in(chest, upper), letter)
    clavicle = chest @ matrices(pose[:, BONE[bones[0]]])
    rest_upper, rest_lower = _rest_limb(bones[1:])
    straight = _swing(clavicle @ rest_upper, upper) @ clavicle @ np.cross(rest_upper, rest_lower)
    hinge = _hinge(upper, lower, straight)
    above = _frame(upper, hinge) @ _frame(rest_upper, np.cross(rest_upper, rest_lower)).T
    below = _swing(above @ rest_lower, lower) @ above
    pose[:, BONE[bones[1]]] = vectors(_transpose(clavicle) @ above)
    pose[:, BONE[bones[2]]] = vectors(_transpose(above) @ below)
    if f"{side}_hand" in at:
        hand = _unit(at[f"{side}_hand"] - at[f"{side}_wrist"])
        turned = _swing(below @ _unit(REST_MM[f"hand.{letter}"] - REST_MM[bones[3]]), hand) @ below
        pose[:, BONE[bones[3]]] = vectors(_transpose(below) @ turned)


def _turn_leg(at: Points, side: str, letter: str, pelvis: np.ndarray, pose: np.ndarray) -> None:
    bones = [f"{b}.{letter}" for b in ("upperleg01", "lowerleg01", "foot")]
    upper, lower = _limb(at, side, "hip", "knee", "ankle")
    rest_upper, rest_lower = _rest_limb(bones)
    straight = _swing(pelvis @ rest_upper, upper) @ pelvis @ np.cross(rest_upper, rest_lower)
    toe = _unit(at[f"{side}_big_toe"] - at[f"{side}_ankle"]) if f"{side}_big_toe" in at else None
    if toe is not None:
        # The foot hardly turns about the shin: a straight leg's knee looks where the toes do, unless they point down.
        across = np.cross(toe, lower)
        straight = np.where(np.linalg.norm(across, axis=-1, keepdims=True) > 0.5, _unit(across), _unit(straight))
    hinge = _hinge(upper, lower, straight, one_way=True)
    above = _frame(upper, hinge) @ _frame(rest_upper, np.cross(rest_upper, rest_lower)).T
    below = _swing(above @ rest_lower, lower) @ above
    pose[:, BONE[bones[0]]] = vectors(_transpose(pelvis) @ above)
    pose[:, BONE[bones[1]]] = vectors(_transpose(above) @ below)
    if toe is not None:
        turned = _swing(below @ _unit(REST_MM[f"toe.{letter}"] - REST_MM[bones[2]]), toe) @ below
        pose[:, BONE[bones[2]]] = vectors(_transpose(below) @ turned)


def clavicle_turn(arm: Float[np.ndarray, "*any 3"], letter: str) -> Float[np.ndarray, "*any 3"]:
    """How a collarbone (L or R) turns, rad, with an upper arm that points along a unit vector, seen from the chest."""
    raised = np.degrees(np.arccos(np.clip(-arm[..., 2], -1, 1)))
    lift = np.radians(_LIFT * np.maximum(raised - _LIFT_FROM_DEG, 0))
    reach = np.radians(_REACH_DEG) * np.maximum(-arm[..., 1], 0)
    sign = 1 if letter == "L" else -1
    return np.stack([np.zeros_like(lift), -sign * lift, -sign * reach], axis=-1)


def _limb(at: Points, side: str, *joints: str) -> tuple[np.ndarray, np.ndarray]:
    first, middle, last = (at[f"{side}_{j}"] for j in joints)
    return _unit(middle - first), _unit(last - middle)


def _rest_limb(bones: list[str]) -> tuple[np.ndarray, np.ndarray]:
    first, middle, last = (REST_MM[b] for b in bones)
    return _unit(middle - first), _unit(last - middle)


def _hinge(upper: np.ndarray, lower: np.ndarray, straight: np.ndarray, one_way: bool = False) -> np.ndarray:
    """[frame 3] the axis that a knee or elbow bends about; that of `straight` where the limb is (nearly) straight.

    A hinge that bends `one_way` is not turned over by a limb that is bent a little backwards.
    """
    bend = np.cross(upper, lower)
    straight = _unit(straight - (straight * upper).sum(-1, keepdims=True) * upper)
    angle = np.degrees(np.arctan2(np.linalg.norm(bend, axis=-1), (upper * lower).sum(-1)))[:, None]
    trust = np.clip((angle - _STRAIGHT_DEG) / (_BENT_DEG - _STRAIGHT_DEG), 0, 1)
    if one_way:
        trust = np.where((bend * straight).sum(-1, keepdims=True) > 0, trust, 0)
    return np.asarray(trust * _unit(bend) + (1 - trust) * straight)


def _swing(a: np.ndarray, b: np.ndarray) -> np.ndarray:
    """[frame 3 3] the smallest rotations that take unit vectors `a` to `b`."""
    axis = np.cross(a, b)
    sine = np.linalg.norm(axis, axis=-1, keepdims=True)
    angle = np.arctan2(sine, (a * b).sum(-1, keepdims=True))
    return matrices(angle * axis / np.maximum(sine, 1e-12))


def _frame(first: np.ndarray, second: np.ndarray) -> np.ndarray:
    """[*any 3 3] orthonormal columns: along `first`, then towards `second` (if they are parallel, anyhow)."""
    x = _unit(first)
    z, any_z = np.cross(x, second), np.cross(x, np.eye(3)[np.abs(x).argmin(-1)])
    z = _unit(np.where(np.linalg.norm(z, axis=-1, keepdims=True) > 1e-9, z, any_z))
    return np.stack([x, np.cross(z, x), z], axis=-1)


def _in(rotation: np.ndarray, vector: np.ndarray) -> np.ndarray:
    """[frame 3] vectors of the world, seen from a turned frame."""
    return np.asarray((_transpose(rotation) @ vector[..., None])[..., 0])


def _unit(vector: np.ndarray) -> np.ndarray:
    return np.asarray(vector / np.maximum(np.linalg.norm(vector, axis=-1, keepdims=True), 1e-12))


def _transpose(rotation: np.ndarray) -> np.ndarray:
    return np.swapaxes(rotation, -1, -2)
