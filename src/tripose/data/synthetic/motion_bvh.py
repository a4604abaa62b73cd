"""BVH files: the skeleton, its rotations frame by frame, and where that puts the joints."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

import numpy as np
from jaxtyping import Float

from tripose.errors import TriposeError

_CHANNELS = {f"{axis}{kind}" for axis in "Xx" + "Yy" + "Zz" for kind in ("position", "rotation")}


@dataclass
class _Joint:
    name: str
    parent: int
    offset: np.ndarray
    channels: tuple[str, ...] = ()


def read_bvh(path: Path) -> dict[str, Float[np.ndarray, "frame 3"]]:
    """Joint name -> positions, z up, in the unit of the file; the up axis (y or z) is seen from the skeleton.

    Format: Meredith and Maddock, Motion Capture File Formats Explained, 2001. An end site is called after its parent,
    ``Head end``; names lose a prefix that ends with a colon. A joint's position channels replace its offset.

    Raises:
        TriposeError: the file is not a BVH file, is cut off, or has values that are no numbers.
    """
    try:
        words = iter(path.read_text(encoding="utf-8").split())
        if next(words) != "HIERARCHY":
            raise ValueError("it does not begin with HIERARCHY")
        joints = _read_joints(words)
        position = _positions(joints, _read_frames(words, sum(len(j.channels) for j in joints)))
    except StopIteration:
        raise TriposeError(f"{path} cannot be read as BVH: it ends too early, perhaps a copy was cut off") from None
    except (OSError, ValueError) as error:
        raise TriposeError(f"{path} cannot be read as BVH, it is damaged or another format: {error}") from None
    if _up_axis(joints) == "y":
        position = np.stack([position[..., 0], -position[..., 2], position[..., 1]], axis=-1)
    return {joint.name: position[:, i] for i, joint in enumerate(joints)}


def _expect(words, *wanted: str) -> str:  # type: ignore[no-untyped-def]
    word = next(words)
    if word not in wanted:
        raise ValueError(f"{word!r} stands where {' or '.join(wanted)} should")
    return str(word)


def _numbers(words, count: int) -> np.ndarray:  # type: ignore[no-untyped-def]
    return np.array([float(next(words)) for _ in range(count)])


def _read_joints(words) -> list[_Joint]:  # type: ignore[no-untyped-def]
    """The joints, parents first, up to the word MOTION."""
    joints: list[_Joint] = []
    open_joints: list[int] = []
    while (word := _expect(words, "ROOT", "JOINT", "End", "}", "MOTION")) != "MOTION":
        if word == "}":
            if not open_joints:
                raise ValueError("it closes a bracket that it did not open")
            open_joints.pop()
            continue
        name = next(words).rpartition(":")[2]
        parent = open_joints[-1] if open_joints else -1
        if word == "End":
            if not open_joints:
                raise ValueError("it has an end site that belongs to no joint")
            name = f"{joints[parent].name} end"
        _expect(words, "{")
        _expect(words, "OFFSET")
        joint = _Joint(name, parent, _numbers(words, 3))
        if word != "End":
            _expect(words, "CHANNELS")
            joint.channels = tuple(_expect(words, *sorted(_CHANNELS)).lower() for _ in range(int(next(words))))
        open_joints.append(len(joints))
        joints.append(joint)
    if open_joints or not joints:
        raise ValueError("its skeleton is incomplete")
    return joints


def _read_frames(words, width: int) -> Float[np.ndarray, "frame channel"]:  # type: ignore[no-untyped-def]
    _expect(words, "Frames:")
    count = int(next(words))
    _expect(words, "Frame")
    _expect(words, "Time:")
    next(words)
    return _numbers(words, count * width).reshape(count, width)


def _positions(joints: list[_Joint], frames: Float[np.ndarray, "frame channel"]) -> Float[np.ndarray, "frame joint 3"]:
    from scipy.spatial.transform import Rotation

    position = np.empty((len(frames), len(joints), 3))
    world: list[Rotation] = []
    first = 0
    for i, joint in enumerate(joints):
        values = frames[:, first : first + len(joint.channels)]
        first += len(joint.channels)
        offset = np.repeat(joint.offset[None], len(frames), axis=0)
        turns = []
        for channel, value in zip(joint.channels, values.T, strict=True):
            if channel.endswith("position"):
                offset[:, "xyz".index(channel[0])] = value
            else:
                turns.append((channel[0].upper(), value))
        turn = Rotation.identity(len(frames))
        if turns:
            turn = Rotation.from_euler("".join(a for a, _ in turns), np.stack([v for _, v in turns], 1), degrees=True)
        if joint.parent < 0:
            position[:, i] = offset
            world.append(turn)
        else:
            position[:, i] = position[:, joint.parent] + world[joint.parent].apply(offset)
            world.append(world[joint.parent] * turn)
    return position


def _up_axis(joints: list[_Joint]) -> str:
    """The axis that the unposed skeleton is longest along: y (usual) or z; arms that lie along x do not count."""
    rest = np.zeros((len(joints), 3))
    for i, joint in enumerate(joints):
        rest[i] = joint.offset + (rest[joint.parent] if joint.parent >= 0 else 0)
    return "z" if np.ptp(rest[:, 2]) > np.ptp(rest[:, 1]) else "y"
