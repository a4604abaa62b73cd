"""Skeletons: joint names in COCO style, the bones between them, and maps from one to another."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from tripose.errors import TriposeError

LIMB_JOINTS = tuple(
    f"{side}_{joint}" for joint in ("shoulder", "elbow", "wrist", "hip", "knee", "ankle") for side in ("left", "right")
)
"""The twelve joints that nearly every skeleton shares; error figures are given over these."""

_LIMB_BONES = (
    ("left_shoulder", "left_elbow"),
    ("left_elbow", "left_wrist"),
    ("right_shoulder", "right_elbow"),
    ("right_elbow", "right_wrist"),
    ("left_hip", "left_knee"),
    ("left_knee", "left_ankle"),
    ("right_hip", "right_knee"),
    ("right_knee", "right_ankle"),
)
_TRUNK_BONES = (
    ("left_shoulder", "right_shoulder"),
    ("left_hip", "right_hip"),
    ("left_shoulder", "left_hip"),
    ("right_shoulder", "right_hip"),
)
_FACE_BONES = (("nose", "left_eye"), ("nose", "right_eye"), ("left_eye", "left_ear"), ("right_eye", "right_ear"))
_FOOT_BONES = tuple(
    (f"{side}_ankle", f"{side}_{part}") for side in ("left", "right") for part in ("heel", "big_toe", "small_toe")
)


@dataclass(frozen=True)
class Skeleton:
    """An ordered set of joints and the bones that connect them.

    Attributes:
        name: how files and the command line call it.
        joints: joint names, snake_case, sides first (``left_knee``).
        bones: pairs of joint names.
        root: the joint that root-relative errors subtract, or None.
    """

    name: str
    joints: tuple[str, ...]
    bones: tuple[tuple[str, str], ...]
    root: str | None = None

    def __len__(self) -> int:
        return len(self.joints)

    def index(self, joint: str) -> int:
        """The position of a joint.

        Raises:
            TriposeError: the skeleton has no such joint.
        """
        if joint not in self.joints:
            raise TriposeError(f"skeleton {self.name!r} has no joint {joint!r}; it has {', '.join(self.joints)}")
        return self.joints.index(joint)

    def indices(self, joints: Sequence[str]) -> list[int]:
        """Positions of several joints, leaving out those that the skeleton does not have."""
        return [self.joints.index(j) for j in joints if j in self.joints]

    @property
    def bone_indices(self) -> list[tuple[int, int]]:
        """Bones as pairs of joint positions."""
        return [(self.joints.index(a), self.joints.index(b)) for a, b in self.bones]

    @property
    def mirror(self) -> list[int]:
        """For every joint the position of its partner on the other side (itself for a middle joint)."""
        return [self.joints.index(partner(j)) if partner(j) in self.joints else i for i, j in enumerate(self.joints)]


def partner(joint: str) -> str:
    """The same joint on the other side of the body: ``left_knee`` -> ``right_knee``."""
    if joint.startswith("left_"):
        return "right_" + joint[5:]
    if joint.startswith("right_"):
        return "left_" + joint[6:]
    return joint


def custom(name: str, joints: Sequence[str], bones: Sequence[tuple[str, str]] = ()) -> Skeleton:
    """A skeleton for joints that no standard set describes, with the usual limb bones where their joints exist."""
    known = [b for b in (*_LIMB_BONES, *_TRUNK_BONES, *_FACE_BONES, *_FOOT_BONES) if set(b) <= set(joints)]
    return Skeleton(name, tuple(joints), tuple(bones) or tuple(known))


_COCO17 = (
    "nose left_eye right_eye left_ear right_ear left_shoulder right_shoulder left_elbow right_elbow "
    "left_wrist right_wrist left_hip right_hip left_knee right_knee left_ankle right_ankle"
).split()
_HALPE26 = (
    _COCO17
    + ("head_top neck pelvis left_big_toe right_big_toe left_small_toe right_small_toe left_heel right_heel").split()
)
# The order of the published Human3.6M labels of the ICCV 2019 code; its first 16 joints are MPII's.
_H36M17 = (
    "right_ankle right_knee right_hip left_hip left_knee left_ankle pelvis spine neck head_top "
    "right_wrist right_elbow right_shoulder left_shoulder left_elbow left_wrist nose"
).split()
_MPII16 = (
    "right_ankle right_knee right_hip left_hip left_knee left_ankle pelvis thorax neck head_top "
    "right_wrist right_elbow right_shoulder left_shoulder left_elbow left_wrist"
).split()
_PANOPTIC19 = (
    "neck nose pelvis left_shoulder left_elbow left_wrist left_hip left_knee left_ankle right_shoulder right_elbow "
    "right_wrist right_hip right_knee right_ankle left_eye left_ear right_eye right_ear"
).split()
_BODY25 = (
    "nose neck right_shoulder right_elbow right_wrist left_shoulder left_elbow left_wrist pelvis right_hip right_knee "
    "right_ankle left_hip left_knee left_ankle right_eye left_eye right_ear left_ear left_big_toe left_small_toe "
    "left_heel right_big_toe right_small_toe right_heel"
).split()
_BODY25B = (
    "nose left_eye right_eye left_ear right_ear left_shoulder right_shoulder left_elbow right_elbow left_wrist "
    "right_wrist left_hip right_hip left_knee right_knee left_ankle right_ankle neck head_top left_big_toe "
    "left_small_toe left_heel right_big_toe right_small_toe right_heel"
).split()


def _bones(joints: Sequence[str], *more: tuple[str, str]) -> tuple[tuple[str, str], ...]:
    candidates = (*_LIMB_BONES, *_TRUNK_BONES, *_FACE_BONES, *_FOOT_BONES, *more)
    return tuple(b for b in candidates if set(b) <= set(joints))


COCO17 = Skeleton("coco17", tuple(_COCO17), _bones(_COCO17))
HALPE26 = Skeleton(
    "halpe26",
    tuple(_HALPE26),
    _bones(_HALPE26, ("pelvis", "neck"), ("neck", "head_top")),
    root="pelvis",
)
H36M17 = Skeleton(
    "h36m17",
    tuple(_H36M17),
    _bones(_H36M17, ("pelvis", "spine"), ("spine", "neck"), ("neck", "nose"), ("nose", "head_top")),
    root="pelvis",
)
MPII16 = Skeleton(
    "mpii16",
    tuple(_MPII16),
    _bones(_MPII16, ("pelvis", "thorax"), ("thorax", "neck"), ("neck", "head_top")),
    root="pelvis",
)
PANOPTIC19 = Skeleton(
    "panoptic19", tuple(_PANOPTIC19), _bones(_PANOPTIC19, ("pelvis", "neck"), ("neck", "nose")), root="pelvis"
)
BODY25 = Skeleton("body25", tuple(_BODY25), _bones(_BODY25, ("pelvis", "neck"), ("neck", "nose")), root="pelvis")
BODY25B = Skeleton("body25b", tuple(_BODY25B), _bones(_BODY25B, ("neck", "head_top")))

SKELETONS = {s.name: s for s in (COCO17, HALPE26, H36M17, MPII16, PANOPTIC19, BODY25, BODY25B)}
"""The skeletons that files may name."""


def skeleton_named(name: str) -> Skeleton:
    """Look a standard skeleton up.

    Raises:
        TriposeError: an unknown name; the known ones are listed.
    """
    if name.lower() not in SKELETONS:
        raise TriposeError(f"no skeleton is called {name!r}; known are {', '.join(SKELETONS)}")
    return SKELETONS[name.lower()]
