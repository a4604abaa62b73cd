"""Joints that CMU Panoptic, COCO and Human3.6M have in common, by name and by meaning."""

from __future__ import annotations

import numpy as np
from jaxtyping import Float

from tripose.skeleton import H36M17, MPII16, PANOPTIC19, Skeleton

TRANSFER_JOINTS = ("right_wrist", "right_elbow", "left_wrist", "left_elbow", "right_knee", "left_knee")
"""What a model of one data set is measured on in the other: the choice of the ICCV 2019 paper for its transfer from CMU
Panoptic to Human3.6M, as other joints are elsewhere on the body. The first is the root of relative errors."""

# The same name, another place (medians over 171026_pose3 and four frames of Human3.6M). Neck: CMU Panoptic's is the
# middle of the shoulders, to 6 mm, Human3.6M's 42 to 79 mm away from it. Nose: 239 mm from the neck in the one, 119 mm
# in the other. Hips are 184 and 269 mm apart, shoulders 311 and 265 mm: they are taken for the same, as is usual, but
# are no TRANSFER_JOINTS.
_NOT_HUMAN36M = ("neck", "nose")
_MIDDLE = {"pelvis": ("left_hip", "right_hip"), "neck": ("left_shoulder", "right_shoulder")}


def to_joints(
    keypoints_mm: Float[np.ndarray, "*row source_joint 3"], source: Skeleton, target: Skeleton
) -> Float[np.ndarray, "*row target_joint 3"]:
    """Positions in the joints of another skeleton; NaN where the first has no such joint.

    Human3.6M's labels are also read as MPII's, whose names are others: its first 16 joints, as the published code does.
    The pelvis is the middle of the hips in CMU Panoptic and in Human3.6M (to 0.001 mm), and CMU Panoptic's neck that of
    the shoulders: from COCO they are made so.

    Args:
        keypoints_mm: in the order of `source`.
        source: COCO17, PANOPTIC19 or H36M17.
        target: one of them, or MPII16 for H36M17.
    """
    if source == H36M17 and target == MPII16:
        return np.array(keypoints_mm[..., : len(MPII16), :])
    made = np.full((*keypoints_mm.shape[:-2], len(target), 3), np.nan)
    unlike = _NOT_HUMAN36M if (source == H36M17) != (target == H36M17) else ()
    for i, joint in enumerate(target.joints):
        if joint in unlike:
            continue
        if joint in source.joints:
            made[..., i, :] = keypoints_mm[..., source.index(joint), :]
        elif joint == "pelvis" or (joint == "neck" and target == PANOPTIC19):
            made[..., i, :] = keypoints_mm[..., [source.index(side) for side in _MIDDLE[joint]], :].mean(-2)
    return made
