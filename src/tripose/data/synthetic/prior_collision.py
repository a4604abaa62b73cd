"""Whether a pose puts one part of the body into another."""

from __future__ import annotations

from itertools import pairwise

import numpy as np
from jaxtyping import Float

from tripose.data.synthetic.motion_body import JOINTS

# Part -> joints at its ends and the radius (mm) of the balls along it: slim, so that touching is allowed.
_LIMBS = {
    "upper arm": ("upperarm01", "lowerarm01", 40),
    "forearm": ("lowerarm01", "wrist", 32),
    "hand": ("wrist", "hand", 30),
    "thigh": ("upperleg01", "lowerleg01", 58),
    "shin": ("lowerleg01", "foot", 42),
    "foot": ("foot", "toe", 35),
}
# The trunk is two columns of balls beside the spine.
_TRUNK_MM, _TRUNK_APART_MM, _HEAD_MM = 95, 60, 85
# Folded arms and joined hands press on each other.
_FOLDED = 0.6
_ALONG = np.linspace(0.0, 1.0, 5)


def _parts() -> list[tuple[str, str, str, float]]:
    """(part, joint, joint, radius) of all parts."""
    limbs = [
        (f"{name}.{s}", f"{a}.{s}", f"{b}.{s}", float(r)) for name, (a, b, r) in _LIMBS.items() for s in ("L", "R")
    ]
    trunk = ("trunk", "root", "spine01", float(_TRUNK_MM))
    return [trunk, trunk, ("head", "head", "head_top", float(_HEAD_MM)), *limbs]


_PARTS = _parts()
_FROM = np.array([JOINTS.index(a) for _, a, _, _ in _PARTS])
_TO = np.array([JOINTS.index(b) for _, _, b, _ in _PARTS])
_HIPS = [JOINTS.index(f"upperleg01.{s}") for s in "LR"]


def _may_not_meet() -> Float[np.ndarray, "part part"]:
    """How near (mm) the middles of two parts may come; -1 for parts that hang together or are the same."""
    chains = ("trunk", "upper arm", "forearm", "hand"), ("trunk", "thigh", "shin", "foot"), ("trunk", "head")
    joined = {frozenset(pair) for parts in chains for pair in pairwise(parts)}
    near = np.full((len(_PARTS), len(_PARTS)), -1.0)
    for i, (first, *_, r) in enumerate(_PARTS):
        for j, (second, *_, s) in enumerate(_PARTS[:i]):
            other_side = {first[-1], second[-1]} == {"L", "R"}
            kinds = frozenset(p.partition(".")[0] for p in (first, second))
            if first != second and (other_side or kinds not in joined):
                near[i, j] = (r + s) * (_FOLDED if kinds <= {"forearm", "hand"} else 1)
    return near


# Ball by ball; squares, because roots are dear.
_NEAR_MM2 = np.kron(np.sign(_may_not_meet()) * _may_not_meet() ** 2, np.ones((len(_ALONG), len(_ALONG))))


def collides(position_mm: Float[np.ndarray, "joint 3"]) -> bool:
    """Whether limbs, trunk and head of a medium body at these joints (`joint_positions`) are inside one another."""
    start, end = position_mm[_FROM], position_mm[_TO]
    aside = position_mm[_HIPS[0]] - position_mm[_HIPS[1]]
    aside = aside / np.linalg.norm(aside) * _TRUNK_APART_MM
    start[0], end[0] = start[0] + aside, end[0] + aside
    start[1], end[1] = start[1] - aside, end[1] - aside
    balls = start[:, None] + _ALONG[:, None] * (end - start)[:, None]
    flat = balls.reshape(-1, 3)
    square = (flat**2).sum(-1)
    distance = square[:, None] + square - 2 * flat @ flat.T
    return bool((distance < _NEAR_MM2).any())
