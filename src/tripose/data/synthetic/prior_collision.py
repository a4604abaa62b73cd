"""Whether a pose puts one part of the body into another."""

from __future__ import annotations

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
_ALONG = np.linspace(0.0, 1.0, 5)


def _parts() -> list[tuple[str, str, str, float]]:
    """(part, joint, joint, radius) of all parts."""
    limbs = [
        (f"{name}.{s}", f"{a}.{s}", f"{b}.{s}", float(r)) for name, (a, b, r) in _LIMBS.items() for s in ("L", "R")
    ]
    return [("trunk", "root", "spine01", _TRUNK_MM), ("trunk", "root", "spine01", _TRUNK_MM)] + [
        ("head", "head", "head_top", _HEAD_MM),
        *limbs,
    ]


_PARTS = _parts()
_FROM = np.array([JOINTS.index(a) for _, a, _, _ in _PARTS])
_TO = np.array([JOINTS.index(b) for _, _, b, _ in _PARTS])
_HIPS = [JOINTS.index(f"upperleg01.{s}") for s in "LR"]


def _may_not_meet() -> Float[np.ndarray, "part part"]:
    """How near (mm) the middles of two parts may come; 0 for parts that hang together or are of no concern."""
    chain = ("trunk", "upper arm", "forearm", "hand"), ("trunk", "thigh", "shin", "foot")
    joined = {frozenset(pair) for parts in chain for pair in zip(parts, parts[1:], strict=False)}
    near = np.zeros((len(_PARTS), len(_PARTS)))
    for i, (first, *_, r) in enumerate(_PARTS):
        for j, (second, *_, s) in enumerate(_PARTS[:i]):
            names = [p.partition(".")[0] for p in (first, second)]
            other_side = {first[-1], second[-1]} == {"L", "R"}
            if frozenset(names) in joined and not other_side or set(names) <= {"trunk", "head"}:
                continue
            if first != second:
                near[i, j] = r + s
    return near


_NEAR_MM = _may_not_meet()


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
    n, k = len(_PARTS), len(_ALONG)
    nearest = distance.reshape(n, k, n, k).min(axis=(1, 3))
    return bool((nearest < _NEAR_MM**2).any())
