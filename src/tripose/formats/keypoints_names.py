"""Joint names of other programs in our spelling."""

from __future__ import annotations

import re
from collections.abc import Sequence

from tripose.skeleton import SKELETONS, Skeleton, custom

_SIDED = {
    part.replace("_", ""): part
    for part in "eye ear shoulder elbow wrist hand hip knee ankle foot heel big_toe small_toe".split()
}
_MIDDLE = {
    "nose": "nose",
    "neck": "neck",
    "headtop": "head_top",
    "pelvis": "pelvis",
    "midhip": "pelvis",
    "spine": "spine",
    "thorax": "thorax",
}
_PARTS = "|".join(_SIDED)
_SIDE_FIRST = re.compile(rf"(left|right|l|r)({_PARTS})")
_SIDE_LAST = re.compile(rf"({_PARTS})(left|right|l|r)")


def joint_name(name: str) -> str:
    """A joint name in our spelling where it is a body joint, otherwise unchanged.

    Case, spaces, dots, dashes and underscores do not matter; the side is left, right, l or r, first or last:
    ``LeftKnee``, ``left knee``, ``L_knee``, ``Lknee`` and ``knee-l`` are all ``left_knee``. ``rear`` is not an ear.
    """
    compact = re.sub(r"[\s._-]", "", name).lower()
    if compact in _MIDDLE:
        return _MIDDLE[compact]
    first, last = _SIDE_FIRST.fullmatch(compact), _SIDE_LAST.fullmatch(compact)
    if name.capitalize() == "Rear" and not name.startswith("RE"):
        return name
    if first:
        side, part = first.groups()
    elif last:
        part, side = last.groups()
    else:
        return name
    return f"{'left' if side[0] == 'l' else 'right'}_{_SIDED[part]}"


def skeleton_from_names(name: str, joints: Sequence[str]) -> Skeleton:
    """The standard skeleton that has exactly these joints in this order, else a new one called `name`.

    Names that our spelling would make equal are kept as the file has them.
    """
    ours = tuple(joint_name(j) for j in joints)
    if len(set(ours)) < len(ours):
        ours = tuple(joints)
    standard = [s for s in SKELETONS.values() if s.joints == ours]
    return standard[0] if standard else custom(name, ours)
