"""The joints that the fusion network knows: kinds, each with a left and a right one.

A person has two sides, and each is looked at in its own mirror: x points outwards on both. A kind of joint has a place
on either side; those in the middle have both. So a mirrored person with swapped labels is the same input with its sides
exchanged.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import torch
from torch import Tensor

from tripose.errors import TriposeError

PAIRED = "eye ear shoulder elbow wrist hip knee ankle big_toe small_toe heel".split()
MIDDLE = "nose head_top neck pelvis spine thorax".split()
KINDS = (*PAIRED, *MIDDLE)
_SIDES = ("left", "right")
_NEEDED = ("shoulder", "hip")
BONES = (
    *(
        ("shoulder", "elbow", 0),
        ("elbow", "wrist", 0),
        ("hip", "knee", 0),
        ("knee", "ankle", 0),
        ("shoulder", "hip", 0),
    ),
    *(("shoulder", "shoulder", 1), ("hip", "hip", 1), ("shoulder", "hip", 1)),
)
"""Two kinds of joints, and whether the second one is on the other side."""
_FIRM = {"shoulder": 1.0, "hip": 1.0, "neck": 0.5, "pelvis": 0.5, "spine": 0.5, "thorax": 0.5, "nose": 0.1, "ear": 0.1}
FIRMNESS = tuple(_FIRM.get(kind, 0.1 if kind == "knee" else 0.02) for kind in KINDS)
"""How firmly a kind of joint is tied to the trunk: its weight when the body's frame is sought."""


@dataclass(frozen=True)
class Layout:
    """Where the joints of a skeleton are among the kinds.

    Attributes:
        kinds: those that the skeleton has, as indices of `KINDS`.
        joint_of: for either side and each of these kinds the joint; the number of joints where there is none.
        place_of: for every joint one place, and for those in the middle the other one too (else the same again), in
            the flattened [side kind].
        bones: pairs of places, and the index of `BONES` of each.
    """

    kinds: Tensor
    joint_of: Tensor
    place_of: Tensor
    bones: Tensor


def layout_of(joints: Sequence[str]) -> Layout:
    """The layout of a skeleton.

    Raises:
        TriposeError: not a human body, or a joint that is not known.
    """
    named = [_kind_and_sides(joint) for joint in joints]
    kinds = [kind for kind in KINDS if any(kind == k for k, _ in named)]
    if not is_body(joints):
        raise TriposeError(f"fusion needs shoulders and hips; these joints are {', '.join(joints)}")
    joint_of = [[len(joints)] * len(kinds) for _ in range(2)]
    for number, (kind, sides) in enumerate(named):
        for side in sides:
            joint_of[side][kinds.index(kind)] = number
    place_of = [[side * len(kinds) + kinds.index(kind) for side in (sides[0], sides[-1])] for kind, sides in named]
    bones = [
        (side * len(kinds) + kinds.index(a), (side ^ other) * len(kinds) + kinds.index(b), number)
        for number, (a, b, other) in enumerate(BONES)
        for side in (0, 1)
        if a in kinds and b in kinds
    ]
    return Layout(
        torch.tensor([KINDS.index(kind) for kind in kinds]),
        torch.tensor(joint_of),
        torch.tensor(place_of),
        torch.tensor(bones),
    )


def is_body(joints: Sequence[str]) -> bool:
    """Whether there are both shoulders and both hips, which fusion needs."""
    return {f"{side}_{kind}" for side in _SIDES for kind in _NEEDED} <= set(joints)


def known(joint: str) -> bool:
    """Whether the network has a place for a joint of this name."""
    side, _, kind = joint.partition("_")
    return joint in MIDDLE or (side in _SIDES and kind in PAIRED)


def _kind_and_sides(joint: str) -> tuple[str, tuple[int, ...]]:
    if joint in MIDDLE:
        return joint, (0, 1)
    if not known(joint):
        raise TriposeError(f"fusion does not know the joint {joint!r}; it knows left and right {', '.join(KINDS)}")
    side, _, kind = joint.partition("_")
    return kind, (_SIDES.index(side),)
