"""Recorded motion as poses: limbs keep their directions, and files of all kinds are read or refused in a sentence."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest

from tripose.data.synthetic.motion import MOTION_JOINTS, retarget
from tripose.data.synthetic.motion_body import (
    BONE,
    JOINTS,
    POSED_BONES,
    REST_MM,
    joint_positions,
    matrices,
    mirror_pose,
)
from tripose.data.synthetic.motion_bvh import read_bvh
from tripose.data.synthetic.motion_files import read_motions
from tripose.data.synthetic.prior import sample_pose
from tripose.errors import TriposeError

CMU = Path(__file__).resolve().parents[2].parent / "shared" / "data" / "cmu_motion" / "cmu_eval_joints_every4th_mm.npz"
CMU_JOINTS = {
    "left_hip": 2, "left_knee": 3, "left_ankle": 4, "left_big_toe": 5,
    "right_hip": 8, "right_knee": 9, "right_ankle": 10, "right_big_toe": 11,
    "left_shoulder": 21, "left_elbow": 22, "left_wrist": 23,
    "right_shoulder": 30, "right_elbow": 31, "right_wrist": 32, "neck": 16, "head_top": 19,
}  # fmt: skip
PARTS = {
    "hip": "upperleg01", "knee": "lowerleg01", "ankle": "foot", "big_toe": "toe",
    "shoulder": "upperarm01", "elbow": "lowerarm01", "wrist": "wrist", "hand": "hand",
}  # fmt: skip
OURS = {f"{side}_{ours}": f"{bone}.{side[0].upper()}" for ours, bone in PARTS.items() for side in ("left", "right")}
OURS |= {"neck": "neck01", "head_top": "head_top"}
LIMBS = [
    (f"{side}_{a}", f"{side}_{b}")
    for a, b in (("hip", "knee"), ("knee", "ankle"), ("ankle", "big_toe"), ("shoulder", "elbow"), ("elbow", "wrist"))
    for side in ("left", "right")
]


def joints_of(poses):
    position = joint_positions(poses)
    return {ours: position[:, JOINTS.index(theirs)] for ours, theirs in OURS.items()}


def turned(joints, angle):
    cos, sin = np.cos(angle), np.sin(angle)
    return {j: x @ np.array([[cos, sin, 0], [-sin, cos, 0], [0, 0, 1]]) for j, x in joints.items()}


def directions(joints):
    """[frame limb 3], seen along the line of the hips, so that headings do not matter."""
    across = joints["left_hip"] - joints["right_hip"]
    angle = np.arctan2(across[:, 1], across[:, 0])
    back = matrices(-angle[:, None] * np.array([0.0, 0.0, 1.0]))
    limbs = np.stack([joints[b] - joints[a] for a, b in LIMBS], axis=1)
    limbs = limbs / np.linalg.norm(limbs, axis=-1, keepdims=True)
    return np.einsum("fij,flj->fli", back, limbs)


def off_deg(found, truth):
    return np.degrees(np.arccos(np.clip((directions(found) * directions(truth)).sum(-1), -1, 1)))


def some_poses(count=40, seed=3):
    rng = np.random.default_rng(seed)
    return np.stack([sample_pose(rng) for _ in range(count)])


def test_rest_is_where_the_table_says():
    rest = joint_positions(np.zeros((len(POSED_BONES), 3)))
    np.testing.assert_allclose(rest, np.stack([REST_MM[j] for j in JOINTS]), atol=1e-9)


def test_the_mirror_is_an_involution_and_swaps_sides():
    poses = some_poses()
    np.testing.assert_array_equal(mirror_pose(mirror_pose(poses)), poses)
    ours, theirs = joints_of(poses), joints_of(mirror_pose(poses))
    np.testing.assert_allclose(theirs["left_wrist"], ours["right_wrist"] * (-1, 1, 1), atol=1e-9)
    np.testing.assert_allclose(theirs["right_big_toe"], ours["left_big_toe"] * (-1, 1, 1), atol=1e-9)
    np.testing.assert_allclose(theirs["head_top"], ours["head_top"] * (-1, 1, 1), atol=1e-9)


def test_retarget_gives_limb_directions_back():
    joints = joints_of(some_poses())
    off = off_deg(joints_of(retarget(joints)), joints)
    assert np.median(off) < 1.0
    assert off.max() < 15.0  # the bend of the trunk is only known from hips, shoulders and neck


def test_neither_heading_nor_size_nor_place_matters():
    joints = joints_of(some_poses(8))
    moved = {j: 1.3 * x + (500.0, -200.0, 90.0) for j, x in turned(joints, 2.1).items()}
    np.testing.assert_allclose(retarget(moved), retarget(joints), atol=1e-6)


def test_the_twelve_limb_joints_are_enough():
    joints = joints_of(some_poses())
    few = {j: x for j, x in joints.items() if j.rpartition("_")[2] not in ("toe", "hand", "top", "neck")}
    off = off_deg(joints_of(retarget(few)), joints)
    assert np.median(off[:, [0, 1, 2, 3, 6, 7, 8, 9]]) < 1.0


def test_a_raised_left_arm_and_a_bent_right_knee():
    pose = np.zeros((1, len(POSED_BONES), 3))
    pose[0, BONE["upperarm01.L"], 1] = -2.0
    pose[0, BONE["lowerleg01.R"], 0] = 1.5
    joints = joints_of(pose)
    assert joints["left_wrist"][0, 2] > joints["head_top"][0, 2] > joints["right_wrist"][0, 2]
    assert joints["right_ankle"][0, 1] > joints["left_ankle"][0, 1] + 300  # behind: the body looks along -y
    found = retarget(joints)[0]
    assert found[BONE["lowerleg01.R"], 0] == pytest.approx(1.5, abs=0.03)
    assert found[BONE["lowerleg01.L"], 0] == pytest.approx(0.0, abs=0.03)


def test_frames_with_gaps_are_left_out():
    joints = joints_of(some_poses(5))
    joints["left_elbow"][2] = np.nan
    assert len(retarget(joints)) == 4


def test_frames_of_zeros_are_left_out():
    joints = joints_of(some_poses(5))
    for x in joints.values():
        x[1] = 0
    assert len(retarget(joints)) == 4
    assert len(retarget({j: 0 * x for j, x in joints.items()})) == 0


def test_a_person_of_straight_lines_has_a_pose():
    """Everything in one plane, arms and legs straight: no bend tells a twist."""
    up, aside = np.array([0.0, 0, 1]), np.array([1.0, 0, 0])
    joints = {}
    for side, x in (("left", 1), ("right", -1)):
        for k, joint in enumerate(("hip", "knee", "ankle")):
            joints[f"{side}_{joint}"] = [100.0 * x * aside - 400 * k * up]
        for k, joint in enumerate(("shoulder", "elbow", "wrist")):
            joints[f"{side}_{joint}"] = [200.0 * x * aside + (500 + 300 * k) * up]
    joints = {j: np.array(x) for j, x in joints.items()}
    poses = retarget(joints)
    assert np.isfinite(poses).all()
    found = joints_of(poses)
    assert np.abs(found["left_wrist"] - found["left_shoulder"])[0, :2].max() < 20
    assert abs(found["left_ankle"][0, 1] - found["left_hip"][0, 1]) < 20


def test_a_missing_joint_is_named():
    joints = joints_of(some_poses(1))
    del joints["right_knee"]
    with pytest.raises(TriposeError, match="'right_knee' is missing"):
        retarget(joints)


@pytest.mark.skipif(not CMU.exists(), reason="cmu_motion is not here")
def test_recorded_motion_keeps_its_limbs():
    with np.load(CMU) as clips:
        for clip in ("train__jumping__jumping_2", "train__walking__walking_1", "test__washwindow__washwindow_1"):
            joints = {j: clips[clip][1:, i].astype(float) for j, i in CMU_JOINTS.items()}
            found = retarget(joints)
            assert np.median(off_deg(joints_of(found), joints)) < 1.0
            knees = found[:, [BONE["lowerleg01.L"], BONE["lowerleg01.R"]], 0]
            assert np.degrees(knees.min()) > -12  # straight is -8: knees rest a little bent


@pytest.mark.slow
def test_anny_moves_as_our_kinematics_say():
    pytest.importorskip("anny")
    import torch

    from tripose.data.synthetic.bodies import load_bodies

    anny, poses = load_bodies().anny, some_poses(16)
    bones = list(anny.bone_labels)
    transforms = torch.eye(4).repeat(len(poses), len(bones), 1, 1)
    for i, pose in enumerate(poses):
        for bone, turn in zip(POSED_BONES, pose, strict=True):
            transforms[i, bones.index(bone), :3, :3] = torch.from_numpy(matrices(turn)).float()
    shape = {k: torch.full((len(poses),), 0.67 if k == "age" else 0.5) for k in anny.phenotype_labels}
    with torch.no_grad():
        heads = 1000 * anny(pose_parameters=transforms, phenotype_kwargs=shape)["bone_poses"][:, :, :3, 3].numpy()
    heads = (heads - heads[:, :1]).astype(float)
    ours = joint_positions(poses)[:, : len(POSED_BONES)]
    assert np.abs(heads[:, [bones.index(b) for b in POSED_BONES]] - ours).max() < 3.0
    names = {ours: theirs for ours, theirs in OURS.items() if theirs in bones}
    names |= {"left_big_toe": "toe3-1.L", "right_big_toe": "toe3-1.R"}
    joints = {ours: heads[:, bones.index(theirs)] for ours, theirs in names.items()}
    off = off_deg(joints_of(retarget(joints)), joints)
    assert np.median(off, axis=0).max() < 3.0


# A BVH skeleton: name, parent, offset (cm, y up, facing +z). Its arms lie along x.
MIXAMO = [
    ("Hips", "", (0, 100, 0)), ("Spine", "Hips", (0, 20, 0)), ("Neck", "Spine", (0, 30, 0)),
    ("Head", "Neck", (0, 10, 0)),
    *(
        joint
        for side, x in (("Left", 1), ("Right", -1))
        for joint in (
            (f"{side}Shoulder", "Spine", (5 * x, 25, 0)), (f"{side}Arm", f"{side}Shoulder", (15 * x, 0, 0)),
            (f"{side}ForeArm", f"{side}Arm", (28 * x, 0, 0)), (f"{side}Hand", f"{side}ForeArm", (25 * x, 0, 0)),
            (f"{side}UpLeg", "Hips", (10 * x, 0, 0)), (f"{side}Leg", f"{side}UpLeg", (0, -42, 0)),
            (f"{side}Foot", f"{side}Leg", (0, -42, 0)), (f"{side}ToeBase", f"{side}Foot", (0, -6, 14)),
        )
    ),
]  # fmt: skip


def bvh(rotations, rename=lambda name: name):
    """The text of a BVH file; per frame a dict: joint -> (z, x, y) degrees."""

    def joint(name, offset, depth):
        kind = "JOINT" if depth else "ROOT"
        place = "" if depth else "Xposition Yposition Zposition "
        lines = [f"{kind} {rename(name)}", "{", "OFFSET {} {} {}".format(*offset)]
        lines += [f"CHANNELS {3 if depth else 6} {place}Zrotation Xrotation Yrotation"]
        children = [(n, o) for n, p, o in MIXAMO if p == name]
        order.append(name)
        for child in children:
            lines += joint(*child, depth + 1)
        return [*lines, *([] if children else ["End Site", "{", "OFFSET 0 8 0", "}"]), "}"]

    order = []
    lines = ["HIERARCHY", *joint("Hips", (0, 0, 0), 0), "MOTION", f"Frames: {len(rotations)}", "Frame Time: 0.0333"]
    for frame in rotations:
        values = [0, 100, 0] + [v for name in order for v in frame.get(name, (0, 0, 0))]
        lines.append(" ".join(map(str, values)))
    return "\n".join(lines) + "\n"


def test_bvh_positions_by_hand(tmp_path):
    (tmp_path / "a.bvh").write_text(bvh([{}, {"LeftArm": (90, 0, 0), "LeftForeArm": (0, 0, -90)}]))
    joints = read_bvh(tmp_path / "a.bvh")
    # y up, facing +z becomes z up, facing -y.
    np.testing.assert_allclose(joints["LeftHand"][0], (73, 0, 145), atol=1e-9)
    np.testing.assert_allclose(joints["LeftToeBase"][0], (10, -14, 10), atol=1e-9)
    np.testing.assert_allclose(joints["LeftForeArm"][1], (20, 0, 173), atol=1e-9)
    np.testing.assert_allclose(joints["LeftHand"][1], (20, -25, 173), atol=1e-9)
    np.testing.assert_allclose(joints["Head end"][0], (0, 0, 168), atol=1e-9)


@pytest.mark.parametrize(
    "rename",
    [
        lambda name: name,
        lambda name: f"mixamorig:{name}",
        lambda name: {
            "Arm": "Shoulder", "Shoulder": "Collar", "ForeArm": "Elbow", "Hand": "Wrist", "UpLeg": "Hip", "Leg": "Knee",
            "Foot": "Ankle", "ToeBase": "Toe",
        }.get(name.removeprefix("Left").removeprefix("Right"), name)
        .join(["Left" if name.startswith("Left") else "Right" if name.startswith("Right") else "", ""]),
        lambda name: {
            "Arm": "UpperArm", "Shoulder": "Shoulder", "ForeArm": "LowerArm", "UpLeg": "UpperLeg", "Leg": "LowerLeg",
            "ToeBase": "Toes",
        }.get(part := name.removeprefix("Left").removeprefix("Right"), part)
        + ("_L" if name.startswith("Left") else "_R" if name.startswith("Right") else ""),
    ],
    ids=["plain", "mixamo", "anatomical", "bones"],
)  # fmt: skip
def test_bvh_by_any_usual_names(tmp_path, rename):
    (tmp_path / "a.bvh").write_text(bvh([{"LeftArm": (60, 0, 0), "RightLeg": (0, 90, 0)}] * 2, rename))
    (poses,) = read_motions(tmp_path)
    assert poses.shape == (2, len(POSED_BONES), 3)
    joints = joints_of(poses)
    assert joints["left_wrist"][0, 2] > joints["right_wrist"][0, 2] + 300
    assert joints["right_ankle"][0, 1] > joints["right_knee"][0, 1] + 400
    straight = np.degrees(np.linalg.norm(poses[0, BONE["lowerleg01.L"]]))
    assert 5 < straight < 12  # a straight leg: Anny's rests a little bent


def test_npz_motion(tmp_path):
    joints = joints_of(some_poses(6))
    names = [j for j in MOTION_JOINTS if j in joints]
    clip = np.stack([joints[j] for j in names], axis=1).astype(np.float32)
    np.savez(tmp_path / "walks.npz", joints=np.array(names), one=clip, two=clip[:2])
    one, two = read_motions(tmp_path)
    np.testing.assert_allclose(one, retarget(joints), atol=1e-4)
    assert len(two) == 2


def test_no_folder_and_no_motion(tmp_path):
    with pytest.raises(TriposeError, match="is not a folder"):
        read_motions(tmp_path / "nowhere")
    (tmp_path / "notes.txt").write_text("walks")
    with pytest.raises(TriposeError, match="holds no motion"):
        read_motions(tmp_path)


@pytest.mark.parametrize(
    ("damage", "message"),
    [
        (lambda text: text[: len(text) // 2], "ends too early"),
        (lambda text: text[:-200], "ends too early"),
        (lambda text: text.replace("OFFSET 0 8 0", "OFFSET 0 x 0"), "could not convert"),
        (lambda text: text.replace("HIERARCHY", "HELLO"), "does not begin with HIERARCHY"),
        (lambda text: text.replace("Zrotation", "Wrotation"), "'Wrotation' stands where"),
        (lambda text: text.replace("Frames: 2", "Frames: many"), "invalid literal"),
        (lambda text: text.replace("RightForeArm", "Tail"), "no joint looks like the right elbow; its joints are Hips"),
        (lambda text: text.replace("Xrotation", "Zrotation"), "consecutive"),
        (lambda text: text.replace("ROOT Hips", "End Site", 1), "belongs to no joint"),
        (lambda text: "", "ends too early"),
    ],
)
def test_a_bad_bvh_is_one_sentence(tmp_path, damage, message):
    file = tmp_path / "bad.bvh"
    file.write_text(damage(bvh([{}, {}])))
    with pytest.raises(TriposeError, match=message) as error:
        read_motions(tmp_path)
    assert str(file) in str(error.value)
    assert "\n" not in str(error.value)


def test_bad_npz_files(tmp_path):
    file = tmp_path / "bad.npz"

    def refused(match):
        with pytest.raises(TriposeError, match=match) as error:
            read_motions(tmp_path)
        assert str(file) in str(error.value)

    file.write_bytes(b"PK\x03\x04 nothing more")
    refused("damaged")
    np.savez(file, walk=np.zeros((3, 17, 3)))
    refused("no array 'joints'")
    np.savez(file, joints=np.array(["left_hip"]), walk=np.zeros((3, 17, 3)))
    refused(r"'walk' must be numbers \[frame, 1, 3\], got float64 \(3, 17, 3\)")
    np.savez(file, joints=np.array(["left_hip"]), walk=np.zeros((3, 1, 3)))
    refused("is missing")
    np.savez(file, joints=np.array(["left_hip"]), walk=np.array([{}], dtype=object))
    refused("damaged or holds objects")
