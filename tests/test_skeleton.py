from __future__ import annotations

import pytest

from tripose.errors import TriposeError
from tripose.skeleton import BODY25, COCO17, H36M17, LIMB_JOINTS, MPII16, SKELETONS, custom, partner, skeleton_named


@pytest.mark.parametrize("skeleton", SKELETONS.values(), ids=SKELETONS)
def test_every_skeleton_is_sound(skeleton):
    assert len(set(skeleton.joints)) == len(skeleton)
    assert skeleton.root is None or skeleton.root in skeleton.joints
    assert set(LIMB_JOINTS) <= set(skeleton.joints)
    for a, b in skeleton.bones:
        assert a != b
        assert {a, b} <= set(skeleton.joints)
        mirrored = {partner(a), partner(b)}
        assert any(mirrored == set(bone) for bone in skeleton.bones), (a, b)
    assert [(skeleton.joints[i], skeleton.joints[j]) for i, j in skeleton.bone_indices] == list(skeleton.bones)


@pytest.mark.parametrize("skeleton", SKELETONS.values(), ids=SKELETONS)
def test_limbs_hang_together(skeleton):
    """From the left wrist along the bones to every other limb joint."""
    reached, before = {"left_wrist"}, set()
    while reached != before:
        before = set(reached)
        reached |= {joint for bone in skeleton.bones if set(bone) & before for joint in bone}
    assert set(LIMB_JOINTS) <= reached


@pytest.mark.parametrize("skeleton", SKELETONS.values(), ids=SKELETONS)
def test_mirroring_twice_changes_nothing(skeleton):
    mirror = skeleton.mirror
    assert [mirror[i] for i in mirror] == list(range(len(skeleton)))
    for joint, other in zip(skeleton.joints, mirror, strict=True):
        assert (joint == skeleton.joints[other]) == (not joint.startswith(("left_", "right_")))


def test_published_orders():
    """The positions that files and weights of others rely on."""
    assert COCO17.joints[:5] == ("nose", "left_eye", "right_eye", "left_ear", "right_ear")
    assert COCO17.index("right_ankle") == 16
    assert [BODY25.index(j) for j in ("right_shoulder", "pelvis", "left_ankle", "right_heel")] == [2, 8, 14, 24]
    assert H36M17.joints[:6] == MPII16.joints[:6]
    assert H36M17.joints[10:16] == MPII16.joints[10:16]
    assert [len(s) for s in SKELETONS.values()] == [17, 26, 17, 16, 19, 25, 25]


def test_names_are_looked_up_and_wrong_ones_explained():
    assert skeleton_named("COCO17") is COCO17
    with pytest.raises(TriposeError, match="no skeleton is called 'coco18'; known are coco17, halpe26"):
        skeleton_named("coco18")
    with pytest.raises(TriposeError, match="'mpii16' has no joint 'tail'; it has right_ankle"):
        MPII16.index("tail")
    assert MPII16.indices(["head_top", "tail", "pelvis"]) == [9, 6]


def test_own_joints_get_the_usual_bones_they_have():
    own = custom("dog", ["tail", "left_knee", "left_ankle"])
    assert own.bones == (("left_knee", "left_ankle"),)
    assert custom("dog", ["tail", "nose"], [("tail", "nose")]).bones == (("tail", "nose"),)
    assert own.mirror == [0, 1, 2]
