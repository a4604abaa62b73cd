"""The skeleton that poses turn: which bones of Anny's body they name, where its joints rest, and its kinematics.

A pose is a rotation vector (rad) for each of `POSED_BONES`. It turns a bone, and all that hangs on it, about the axes
of the world as they lie in the rest pose (x to the body's left, y backwards, z up), seen from the parent bone: what
Anny calls ``local-ref``. The root only tilts; where a body heads to is not part of its pose.
"""

from __future__ import annotations

import numpy as np
from jaxtyping import Float

# Bone -> parent and where its joint rests (mm from the root): Anny 0.6.2, all shape parameters 0.5 and the age 0.67,
# rounded. Sides are written once, for the left. Anny stands with open arms and elbows bent by 42 degrees.
_MIDDLE = {
    "root": ("", (0, 0, 0)),
    "spine05": ("root", (0, 0, 0)),
    "spine03": ("spine05", (0, 24, 161)),
    "spine01": ("spine03", (0, 36, 392)),
    "neck01": ("spine01", (0, 5, 586)),
    "head": ("neck01", (0, -33, 695)),
}
_LEFT = {
    "clavicle": ("spine01", (25, -13, 508)),
    "upperarm01": ("clavicle", (187, -9, 484)),
    "lowerarm01": ("upperarm01", (377, -16, 269)),
    "wrist": ("lowerarm01", (510, -192, 135)),
    "upperleg01": ("root", (115, 8, -9)),
    "lowerleg01": ("upperleg01", (152, -27, -454)),
    "foot": ("lowerleg01", (195, 4, -905)),
}
_LEFT_ENDS = {"hand": ("wrist", (558, -278, 77)), "toe": ("foot", (211, -151, -959))}


def _both_sides(left: dict[str, tuple[str, tuple[int, int, int]]]) -> dict[str, tuple[str, tuple[int, int, int]]]:
    table = {}
    for side, sign in (("L", 1), ("R", -1)):
        for name, (parent, (x, y, z)) in left.items():
            table[f"{name}.{side}"] = (parent if parent in _MIDDLE else f"{parent}.{side}", (sign * x, y, z))
    return table


_BONES = _MIDDLE | _both_sides(_LEFT)
_JOINTS = _BONES | {"head_top": ("head", (0, -44, 852))} | _both_sides(_LEFT_ENDS)

POSED_BONES = tuple(_BONES)
"""The bones that a pose turns, parents first, by Anny's names; all others follow their parents."""
JOINTS = tuple(_JOINTS)
"""The joints of `joint_positions`: heads of the posed bones, then the ends ``head_top``, ``hand.L``, ``toe.L`` ..."""
REST_MM: dict[str, Float[np.ndarray, " 3"]] = {name: np.array(at, dtype=float) for name, (_, at) in _JOINTS.items()}
"""Where the joints rest, from the root."""
BONE = {name: i for i, name in enumerate(POSED_BONES)}
"""The row of a bone in a pose."""

MIRRORED = np.array([1.0, -1.0, -1.0])
"""Times a rotation vector: its mirror image in the plane x = 0, where rotations about y and z turn the other way."""

_PARENT = tuple(POSED_BONES.index(parent) if parent else -1 for parent, _ in _JOINTS.values())
_OFFSET_MM = np.array([REST_MM[j] - (REST_MM[p] if p else 0) for j, (p, _) in _JOINTS.items()])
_OTHER_SIDE = np.array([BONE[b[:-1] + {"L": "R", "R": "L"}.get(b[-1], b[-1])] for b in POSED_BONES])


def matrices(rotation_vectors: Float[np.ndarray, "*any 3"]) -> Float[np.ndarray, "*any 3 3"]:
    """Rotation matrices of rotation vectors (rad)."""
    from scipy.spatial.transform import Rotation

    return np.asarray(Rotation.from_rotvec(rotation_vectors.reshape(-1, 3)).as_matrix()).reshape(
        *rotation_vectors.shape, 3
    )


def vectors(rotations: Float[np.ndarray, "*any 3 3"]) -> Float[np.ndarray, "*any 3"]:
    """Rotation vectors (rad, at most pi long) of rotation matrices."""
    from scipy.spatial.transform import Rotation

    return np.asarray(Rotation.from_matrix(rotations.reshape(-1, 3, 3)).as_rotvec()).reshape(rotations.shape[:-1])


def joint_positions(pose: Float[np.ndarray, "*any bone 3"]) -> Float[np.ndarray, "*any joint 3"]:
    """Where a pose puts the `JOINTS` of a medium body: mm from the root, heading along -y, z up."""
    turn = matrices(pose)
    world: list[Float[np.ndarray, "*any 3 3"]] = []
    position = np.zeros((*pose.shape[:-2], len(JOINTS), 3))
    for joint, (parent, offset) in enumerate(zip(_PARENT, _OFFSET_MM, strict=True)):
        if parent >= 0:
            position[..., joint, :] = position[..., parent, :] + world[parent] @ offset
        if joint < len(POSED_BONES):
            world.append(world[parent] @ turn[..., joint, :, :] if parent >= 0 else turn[..., joint, :, :])
    return position


def mirror_pose(pose: Float[np.ndarray, "*any bone 3"]) -> Float[np.ndarray, "*any bone 3"]:
    """The pose of the mirror image: left and right change places."""
    return np.asarray(pose[..., _OTHER_SIDE, :] * MIRRORED)


def without_heading(rotations: Float[np.ndarray, "*any 3 3"]) -> Float[np.ndarray, "*any 3 3"]:
    """The tilt of a body: its rotation with the turn about z taken off, so that its rotation vector has no z part."""
    from scipy.spatial.transform import Rotation

    flat = Rotation.from_matrix(rotations.reshape(-1, 3, 3))
    z, w = flat.as_quat().T[2:]
    heading = Rotation.from_rotvec(2 * np.arctan2(z, w)[:, None] * np.array([0.0, 0.0, 1.0]))
    return np.asarray((heading.inv() * flat).as_matrix()).reshape(rotations.shape)
