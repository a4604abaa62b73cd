"""Poses drawn within the limits of the joints: what mocap clips seldom show, from arms overhead to lying down.

Angles are drawn from beta(2, 2) between bounds in degrees (the common ranges of a healthy adult), arms and legs first
for the left side; the right side is the mirror image of another draw.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
from jaxtyping import Float

from tripose.data.synthetic.motion import clavicle_turn
from tripose.data.synthetic.motion_body import BONE, MIRRORED, POSED_BONES, REST_MM, matrices, vectors

# What no pose goes beyond, rotation vectors by component (x, y, z) for middle and left; an elbow's first component is
# about its hinge, from the 42 degrees that it is bent at rest. Wide: recorded people go there too.
_SPINE = ((-18, 30), (-16, 16), (-22, 22))
_NECK = ((-25, 28), (-18, 18), (-42, 42))
LIMITS_DEG = {
    "root": ((-110, 110), (-110, 110), (0, 0)),
    "spine05": _SPINE, "spine03": _SPINE, "spine01": _SPINE, "neck01": _NECK, "head": _NECK,
    "clavicle.L": ((-8, 8), (-32, 10), (-22, 12)),
    "upperarm01.L": ((-150, 110), (-150, 75), (-130, 110)),
    "lowerarm01.L": ((-38, 105), (-12, 12), (-12, 12)),
    "wrist.L": ((-50, 50), (-50, 50), (-50, 50)),
    "upperleg01.L": ((-150, 45), (-65, 45), (-60, 60)),
    "lowerleg01.L": ((-8, 142), (-14, 14), (-14, 14)),
    "foot.L": ((-45, 60), (-20, 20), (-45, 45)),
}  # fmt: skip

Range = tuple[float, float]

# Chance, then how far an arm is raised from hanging (0) to overhead (180), towards where (0 the side, 90 the front),
# its twist inwards against what is usual at that height, and the bend of the elbow beyond that at rest.
_ARMS: dict[str, tuple[float, Range, Range, Range, Range]] = {
    "free": (0.44, (5, 150), (-25, 115), (-45, 45), (-36, 85)),
    "hanging": (0.16, (4, 25), (-30, 60), (-25, 25), (-34, 30)),
    "overhead": (0.12, (130, 178), (0, 70), (-35, 35), (-36, 70)),
    "sideways": (0.06, (75, 100), (-10, 15), (-40, 40), (-36, -10)),
    "forwards": (0.08, (60, 105), (70, 100), (-30, 30), (-36, 50)),
    "folded": (0.07, (24, 50), (45, 72), (30, 60), (45, 80)),
    "on hips": (0.07, (38, 52), (-25, -5), (35, 55), (35, 60)),
}
# Leg: flexion of the hip, its abduction, its turn outwards, the bend of the knee, and of the foot (down is positive).
_Leg = tuple[Range, Range, Range, Range, Range]
_LEGS: dict[str, _Leg] = {
    "stand": ((-8, 14), (-6, 14), (-10, 20), (-4, 18), (-8, 8)),
    "free": ((-25, 95), (-10, 38), (-20, 35), (0, 110), (-20, 35)),
    "forward": ((15, 60), (-6, 12), (-12, 18), (0, 60), (-15, 20)),
    "back": ((-28, 0), (-6, 12), (-12, 22), (0, 50), (-15, 40)),
    "sit": ((72, 100), (-6, 28), (-15, 25), (50, 115), (-10, 15)),
    "squat": ((80, 125), (5, 32), (0, 30), (85, 138), (-30, -5)),
    "kneel": ((-6, 22), (-5, 14), (-12, 12), (80, 128), (25, 55)),
    "half kneel": ((75, 100), (-4, 15), (-10, 15), (78, 105), (-10, 12)),
    "all fours": ((75, 105), (-4, 14), (-10, 10), (75, 105), (20, 50)),
}
_STANCES: dict[str, tuple[float, str, str]] = {
    "stand": (0.28, "stand", "stand"),
    "free": (0.3, "free", "free"),
    "step": (0.13, "forward", "back"),
    "sit": (0.12, "sit", "sit"),
    "squat": (0.05, "squat", "squat"),
    "kneel": (0.035, "kneel", "kneel"),
    "half kneel": (0.035, "kneel", "half kneel"),
    "all fours": (0.02, "all fours", "all fours"),
    "lying": (0.03, "stand", "free"),
}
_MAX_HIP_DEG = 128.0


def limit_pose(rng: np.random.Generator) -> Float[np.ndarray, "bone 3"]:
    """A random pose within the limits of the joints: standing mostly, also sitting, kneeling, bending, lying ..."""
    pose = np.zeros((len(POSED_BONES), 3))
    stance = _choose(rng, _STANCES)
    lean = _turn_trunk(rng, stance, pose)
    first, second = _choose(rng, _ARMS), _choose(rng, _ARMS)
    if rng.random() < 0.6:  # mostly both arms do something alike
        second = first
    if stance == "all fours":
        first = second = "forwards"
    turns = _turn_arms(rng, (first, second)) | _turn_legs(rng, _STANCES[stance][1:], lean)
    for bone, (left, right) in turns.items():
        pose[BONE[f"{bone}.L"]], pose[BONE[f"{bone}.R"]] = left, right * MIRRORED
    return pose


def keep_limits(pose: Float[np.ndarray, "*any bone 3"]) -> Float[np.ndarray, "*any bone 3"]:
    """The pose with every component of its rotation vectors within `LIMITS_DEG`."""
    turned = _AXES @ pose[..., None]
    return np.asarray((_AXES.swapaxes(1, 2) @ np.clip(turned, _LOW, _HIGH))[..., 0])


def _choose(rng: np.random.Generator, styles: Mapping[str, tuple[float, *tuple[object, ...]]]) -> str:
    chance = rng.random() * sum(style[0] for style in styles.values())
    for name, (weight, *_) in styles.items():
        chance -= weight
        if chance <= 0:
            return name
    return name


def _draw(rng: np.random.Generator, bounds_deg: Sequence[Any] | np.ndarray) -> np.ndarray:
    """Angles (rad) between bounds, which are the last axis."""
    bounds = np.asarray(bounds_deg) * (np.pi / 180)
    low, high = bounds[..., 0], bounds[..., 1]
    return np.asarray(low + (high - low) * rng.beta(2, 2, low.shape))


def _turn_trunk(rng: np.random.Generator, stance: str, pose: np.ndarray) -> float:
    """Root, spine, neck; returns how far (rad) the pelvis leans forwards over the legs, which the hips make up for."""
    pose[[BONE[b] for b in ("spine05", "spine03", "spine01")]] = _draw(rng, [((-9, 17), (-9, 9), (-14, 14))] * 3)
    pose[[BONE[b] for b in ("neck01", "head")]] = _draw(rng, [((-16, 18), (-11, 11), (-32, 32))] * 2)
    root = pose[BONE["root"]]
    root[:2] = np.radians(rng.normal(0, 4, 2))
    lean = 0.0
    if stance == "lying":
        towards = rng.uniform(0, 2 * np.pi)  # any side: on the back, face down, on a flank
        root[:2] = np.radians(rng.uniform(70, 95)) * np.array([np.cos(towards), np.sin(towards)])
    elif stance == "all fours":
        root[0] += float(_draw(rng, (65, 95)))
    elif stance == "squat":
        root[0] += float(_draw(rng, (5, 40)))
    elif stance == "sit":
        root[0] += float(_draw(rng, (-20, 30)))
    elif rng.random() < 0.25:
        lean = float(_draw(rng, (10, 85)))
        root[0] += lean
        pose[BONE["spine03"], 0] += 0.15 * lean
    return lean


def _turn_arms(rng: np.random.Generator, styles: tuple[str, str]) -> dict[str, Float[np.ndarray, "2 3"]]:
    """Two arms by bone, each as a left one."""
    raised, aside, inwards, elbow = _draw(rng, [_ARMS[s][1:] for s in styles]).T
    along = np.stack([np.sin(raised) * np.cos(aside), -np.sin(raised) * np.sin(aside), -np.cos(raised)], axis=-1)
    shrug = clavicle_turn(along, "L")
    clavicle = matrices(shrug)
    at_rest = clavicle @ _ARM_REST
    axis = np.cross(at_rest, along)
    sine = np.linalg.norm(axis, axis=-1, keepdims=True)
    swing = axis / sine * np.arctan2(sine, (at_rest * along).sum(-1, keepdims=True))
    # Hanging arms turn inwards, raised ones outwards: the middle of the range goes from +15 to -65 degrees.
    twist = (inwards + np.radians(15) - 0.44 * raised)[:, None] * along
    upper = clavicle.swapaxes(1, 2) @ matrices(twist) @ matrices(swing) @ clavicle
    return {
        "clavicle": shrug,
        "upperarm01": vectors(upper),
        "lowerarm01": elbow[:, None] * _ELBOW_HINGE,
        "wrist": _draw(rng, [[(-35, 35)] * 3] * 2),
    }


def _turn_legs(rng: np.random.Generator, styles: tuple[str, str], lean: float) -> dict[str, Float[np.ndarray, "2 3"]]:
    """Two legs by bone, each as a left one."""
    from scipy.spatial.transform import Rotation

    flexion, abduction, outwards, knee, foot = _draw(rng, [_LEGS[s] for s in styles]).T
    flexion = np.minimum(flexion + lean, np.radians(_MAX_HIP_DEG))
    # Legs rest abducted by 5 degrees.
    hip = Rotation.from_euler("XYZ", np.stack([-flexion, np.radians(5) - abduction, outwards], axis=-1))
    return {
        "upperleg01": hip.as_rotvec(),
        "lowerleg01": knee[:, None] * (1.0, 0.0, 0.0),
        "foot": np.column_stack([foot, _draw(rng, [[(-8, 8), (-15, 15)]] * 2)]),
    }


def _elbow_axes() -> Float[np.ndarray, "3 3"]:
    """Rows: the hinge of the left elbow, along the forearm, across both."""
    forearm = REST_MM["wrist.L"] - REST_MM["lowerarm01.L"]
    hinge = np.cross(_ARM_REST, forearm)
    axes = np.stack([hinge, forearm, np.cross(hinge, forearm)])
    return np.asarray(axes / np.linalg.norm(axes, axis=1, keepdims=True))


_ARM_REST = REST_MM["lowerarm01.L"] - REST_MM["upperarm01.L"]
_ARM_REST /= np.linalg.norm(_ARM_REST)
_ELBOW_HINGE = _elbow_axes()[0]


def _limit_arrays() -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Per bone: the axes that limits are along (rows), lower and upper limits [bone 3 1], rad."""
    axes, low, high = np.tile(np.eye(3), (len(POSED_BONES), 1, 1)), [], []
    axes[BONE["lowerarm01.L"]] = _elbow_axes()
    axes[BONE["lowerarm01.R"]] = _elbow_axes() * MIRRORED
    for bone in POSED_BONES:
        bounds = np.radians(np.array(LIMITS_DEG[bone.replace(".R", ".L")], dtype=float))
        if bone.endswith(".R") and not bone.startswith("lowerarm01"):  # the elbow's axes are mirrored already
            bounds[1:] = -bounds[1:, ::-1]
        low.append(bounds[:, :1])
        high.append(bounds[:, 1:])
    return axes, np.stack(low), np.stack(high)


_AXES, _LOW, _HIGH = _limit_arrays()
