"""CMU Panoptic: in miniature, with damaged files, and the real files where they lie beside the repository."""

from __future__ import annotations

import json
import random
import re
import shutil
import tarfile
import time
from dataclasses import replace
from pathlib import Path

import cv2
import numpy as np
import pytest
import torch

from clips import number_of
from data.panoptic_files import CAMERAS, SIZE_PX, write_panoptic
from tripose.data.footage import SceneFootage
from tripose.data.joints import TRANSFER_JOINTS, to_joints
from tripose.data.panoptic.originals import open_sequence, sequence_folders
from tripose.data.panoptic.poses import POSES, above_score, first_person, pose_frames, read_poses
from tripose.data.panoptic.protocol import ADAFUSE_CAMERAS, HD_CAMERAS, MULTI_PERSON, SINGLE_PERSON, Split
from tripose.data.panoptic.scenes import protocol_people, protocol_scene
from tripose.data.scenes import read_index, write_index
from tripose.data.views import in_image
from tripose.errors import TriposeError
from tripose.formats.calibration import read_calibration
from tripose.skeleton import COCO17, H36M17, LIMB_JOINTS, PANOPTIC19

DATA = Path(__file__).resolve().parents[2].parent / "shared" / "data"
NAME = "171204_pose1"


@pytest.fixture(scope="module")
def mini(tmp_path_factory):
    """Two people, videos, unpacked poses."""
    folder = tmp_path_factory.mktemp("panoptic")
    return folder, write_panoptic(folder, people=2)[NAME]


@pytest.fixture
def copy(mini, tmp_path):
    """A sequence of its own to damage."""
    return Path(shutil.copytree(mini[0] / NAME, tmp_path / NAME))


def pose_file(sequence: Path, frame: int) -> Path:
    return sequence / POSES / f"body3DScene_{frame:08d}.json"


def change(path: Path, edit) -> None:
    document = json.loads(path.read_text())
    edit(document)
    path.write_text(json.dumps(document))


# Poses


@pytest.mark.parametrize("tar", [False, True])
def test_poses_are_what_the_files_say(tmp_path, tar):
    truth = write_panoptic(tmp_path, people=2, cameras=[], tar=tar)[NAME]
    poses = read_poses(tmp_path / NAME / (f"{POSES}.tar" if tar else POSES))
    np.testing.assert_array_equal(poses.frame, truth.frame)
    np.testing.assert_array_equal(poses.person, truth.person)
    np.testing.assert_allclose(poses.keypoints_mm, truth.keypoints_mm, rtol=0, atol=1e-9)
    assert poses.keypoints_mm.dtype == np.float64
    missing = np.isnan(poses.keypoints_mm).all(-1)
    assert missing.sum() == 1
    assert_left_is_left(poses.keypoints_mm)
    np.testing.assert_array_equal(poses.score, np.where(missing, 0, 0.55))


def test_missing_is_by_score_and_by_zeros(copy):
    def edit(document):
        joints = document["bodies"][0]["joints19"]
        joints[3] = 0.0  # neck, score 0
        joints[4:8] = [0, 0, 0, 0.9]  # nose, all zero

    change(pose_file(copy, 4), edit)
    poses = read_poses(copy / POSES)
    assert np.isnan(poses.keypoints_mm[0, :2]).all()
    assert (poses.score[0, :2] == 0).all()
    assert np.isfinite(poses.keypoints_mm[0, 2:]).all()


def test_every_nth_file_and_spans_do_not_open_the_others(copy):
    for frame in (5, 6, 8, 9, 11):
        pose_file(copy, frame).write_text("{")
    assert sorted(set(read_poses(copy / POSES, every=3).frame)) == [4, 7, 10]
    assert sorted(set(read_poses(copy / POSES, spans=[(3, 4), (10, 10)]).frame)) == [4, 10]
    assert sorted(set(read_poses(copy / POSES, every=2, spans=[(4, 5), (7, 8)]).frame)) == [4, 7]
    assert len(read_poses(copy / POSES, spans=[(100, 200)])) == 0
    np.testing.assert_array_equal(pose_frames(copy / POSES), range(4, 12))


def test_frames_without_people_are_no_rows(copy):
    change(pose_file(copy, 6), lambda d: d.update(bodies=[]))
    assert 6 not in read_poses(copy / POSES).frame
    assert 6 in pose_frames(copy / POSES)


def test_people_that_count(copy):
    change(pose_file(copy, 6), lambda d: d["bodies"].reverse())
    change(pose_file(copy, 7), lambda d: d["bodies"][1]["joints19"].__setitem__(2 * 4 + 3, 0.1))
    poses = read_poses(copy / POSES)
    first = first_person(poses)
    np.testing.assert_array_equal(first.frame, range(4, 12))
    np.testing.assert_array_equal(first.person, [0, 0, 1, 0, 0, 0, 0, 0])
    sure = above_score(poses, 0.1)
    assert len(sure) == len(poses) - 1
    assert not ((sure.frame == 7) & (sure.person == 1)).any()
    assert len(protocol_people(poses, SINGLE_PERSON)) == 8
    assert len(protocol_people(poses, MULTI_PERSON)) == 15


@pytest.mark.parametrize(
    ("content", "said"),
    [
        (lambda text: text[: len(text) // 2], "cut off"),
        (lambda text: "", "cut off"),
        (lambda text: "\x00" * 2000, "cut off"),
        (lambda text: "[" * 100_000, "cut off"),
        (lambda text: "[]", "no list of bodies"),
        (lambda text: '{"people": []}', "no list of bodies"),
        (lambda text: text.replace('"joints19"', '"joints15"'), "older hdPose3d_stage1 has 15 joints"),
        (lambda text: text.replace("0.55]", "0.55, 1, 2, 3, 1]"), "80 numbers"),
        (lambda text: text.replace("0.55]", "NaN]", 1), "body 0 are not all numbers"),
        (lambda text: text.replace("0.55]", '"high"]'), "body 0 are not all numbers"),
        (lambda text: text.replace("0.55]", "[1, 2]]"), "body 0 are not all numbers"),
        (lambda text: text.replace('"id": 1', '"id": 0'), "same id"),
        (lambda text: text.replace('"id": 1', '"id": "1"'), "whose id is '1'"),
    ],
)
def test_damaged_poses_are_named(copy, content, said):
    file = pose_file(copy, 7)
    file.write_text(content(file.read_text()))
    with pytest.raises(TriposeError, match=said) as error:
        read_poses(copy / POSES)
    assert "body3DScene_00000007.json" in str(error.value)
    assert "\n" not in str(error.value)


def test_places_without_poses_are_named(tmp_path):
    (tmp_path / POSES).mkdir()
    for path, said in ((tmp_path / "nothing", "no such folder"), (tmp_path / POSES, "holds no poses")):
        with pytest.raises(TriposeError, match=said):
            pose_frames(path)


def test_archives_cut_anywhere_are_no_archives_of_fewer_frames(tmp_path):
    truth = write_panoptic(tmp_path, cameras=[], tar=True)[NAME]
    path = tmp_path / NAME / f"{POSES}.tar"
    whole = path.read_bytes()
    end = len(whole.rstrip(b"\0"))
    dice = random.Random(0)
    for length in {0, 1, 511, *range(512, end, 512), *(dice.randrange(end) for _ in range(50))}:
        path.write_bytes(whole[:length])
        with pytest.raises(TriposeError, match="cut off"):
            read_poses(path)
    path.write_bytes(whole)
    assert len(read_poses(path)) == len(truth.frame)


@pytest.mark.filterwarnings("ignore::RuntimeWarning")
def test_archives_with_flipped_bytes_give_poses_or_one_sentence(tmp_path):
    write_panoptic(tmp_path, cameras=[], tar=True)
    path = tmp_path / NAME / f"{POSES}.tar"
    whole, dice = path.read_bytes(), random.Random(1)
    for _ in range(300):
        damaged = bytearray(whole)
        for _ in range(dice.choice([1, 3, 20])):
            damaged[dice.randrange(len(whole))] = dice.randrange(256)
        path.write_bytes(damaged)
        said = None
        try:
            read_poses(path)
        except TriposeError as error:
            said = str(error)
        assert said is None or str(path) in said


def test_archives_are_read_in_place_and_only_their_files_of_poses(tmp_path):
    outside = tmp_path / "outside.json"
    outside.write_text('{"bodies": []}')
    content = json.dumps({"bodies": []}).encode()
    path = tmp_path / f"{POSES}.tar"
    (tmp_path / "a").write_bytes(content)
    with tarfile.open(path, "w") as archive:
        archive.add(tmp_path / "a", f"{POSES}/body3DScene_00000001.json")
        archive.add(tmp_path / "a", f"../../{POSES}/body3DScene_00000002.json")
        archive.add(tmp_path / "a", f"{POSES}/._body3DScene_00000004.json")
        link = tarfile.TarInfo(f"{POSES}/body3DScene_00000003.json")
        link.type, link.linkname = tarfile.SYMTYPE, str(outside)
        archive.addfile(link)
    before = sorted(tmp_path.rglob("*"))
    np.testing.assert_array_equal(pose_frames(path), [1, 2])
    assert len(read_poses(path)) == 0
    assert sorted(tmp_path.rglob("*")) == before


@pytest.mark.slow
@pytest.mark.parametrize("tar", [False, True])
def test_ten_thousand_files_take_seconds(tmp_path, tar):
    write_panoptic(tmp_path, cameras=[], frames=range(10_000), tar=tar)
    path = tmp_path / NAME / (f"{POSES}.tar" if tar else POSES)
    start = time.process_time()
    assert len(read_poses(path)) == 10_000
    assert time.process_time() - start < 6  # 0.6 s measured


# Joints


def test_coco_joints_are_seventeen_of_the_nineteen(mini):
    keypoints = mini[1].keypoints_mm
    coco = to_joints(keypoints, PANOPTIC19, COCO17)
    # The map of the published protocol, see `tripose.data.panoptic.protocol`.
    published = [1, 15, 17, 16, 18, 3, 9, 4, 10, 5, 11, 6, 12, 7, 13, 8, 14]
    np.testing.assert_array_equal(coco, keypoints[:, published])
    back = to_joints(coco, COCO17, PANOPTIC19)
    np.testing.assert_allclose(back, keypoints, atol=1e-3)  # the neck is the middle of the shoulders here


def test_human36m_has_neither_the_neck_nor_the_nose_of_cmu(mini):
    human = to_joints(mini[1].keypoints_mm[:1], PANOPTIC19, H36M17)
    known = {j for i, j in enumerate(H36M17.joints) if np.isfinite(human[0, i]).all()}
    assert known == {*LIMB_JOINTS, "pelvis"}
    assert set(TRANSFER_JOINTS) < known
    back = to_joints(human, H36M17, COCO17)
    assert {j for i, j in enumerate(COCO17.joints) if np.isfinite(back[0, i]).all()} == set(LIMB_JOINTS)
    pelvis = to_joints(to_joints(human, H36M17, COCO17), COCO17, H36M17)[0, H36M17.index("pelvis")]
    np.testing.assert_allclose(pelvis, human[0, H36M17.index("pelvis")])
    same = to_joints(human, H36M17, H36M17)
    np.testing.assert_array_equal(same, human)


# Protocols


def test_the_protocols_tables_hold_together():
    single, several = SINGLE_PERSON.splits, MULTI_PERSON.splits
    for splits in (single, several):
        assert not set(splits["train"].sequences) & set(splits["val"].sequences)
        for split in splits.values():
            assert set(split.cameras) <= set(HD_CAMERAS)
            assert split.views[0] <= split.views[1] <= len(split.cameras)
            for spans in split.spans.values():
                flat = [frame for span in spans for frame in span]
                assert flat == sorted(set(flat))
    assert not set(single["train"].cameras) & set(single["val"].cameras)
    assert (len(single["train"].cameras), len(single["val"].cameras)) == (27, 4)
    assert len(SINGLE_PERSON.joints) == 17
    assert "neck" not in SINGLE_PERSON.joints
    assert set(MULTI_PERSON.joints) <= set(PANOPTIC19.joints)
    assert len(MULTI_PERSON.joints) == 15
    assert several["val"].cameras == ("00_03", "00_06", "00_12", "00_13", "00_23")
    assert ADAFUSE_CAMERAS[4] == CAMERAS


# What is there


@pytest.mark.parametrize("images", ["videos", "images"])
def test_a_sequence_is_found_with_its_images(tmp_path, images):
    written = write_panoptic(tmp_path, ["171204_pose1", "171204_pose2"], images=images, tar=images == "images")
    (tmp_path / "notes").mkdir()
    folders = sequence_folders(tmp_path)
    assert list(folders) == ["171204_pose1", "171204_pose2"]
    assert list(sequence_folders(tmp_path, ["171204_pose2", "171204_pose9"])) == ["171204_pose2"]
    assert sequence_folders(tmp_path / NAME) == {NAME: tmp_path / NAME}
    for name, folder in folders.items():
        found, truth = open_sequence(folder), written[name]
        assert found.problems == (
            f"{folder}: no images of {', '.join(c for c in HD_CAMERAS if c not in CAMERAS)}: neither"
            " hdVideos/hd_00_00.mp4 nor images in hdImgs/00_00/",
        )
        assert found.cameras.names == CAMERAS
        assert found.cameras.up == "-y"
        expected = truth.cameras.select(CAMERAS)
        np.testing.assert_allclose(found.cameras.P, expected.P, rtol=1e-12)
        np.testing.assert_array_equal(found.frame, range(4, 12))
        assert all(list(numbers) == list(range(12)) for numbers in found.images.values())
        assert found.has_image(np.array([0, 11, 12]), CAMERAS).tolist() == [[True] * 4, [True] * 4, [False] * 4]


@pytest.mark.parametrize("images", ["videos", "images"])
def test_poses_number_the_images_and_joints_are_where_images_show_them(tmp_path, images):
    truth = write_panoptic(tmp_path, images=images, people=2)[NAME]
    everything = Split((NAME,), HD_CAMERAS, (4, 4))
    scene = protocol_scene(open_sequence(tmp_path / NAME), MULTI_PERSON, everything)
    footage = SceneFootage(scene, tmp_path)
    for row in (0, 6, 15):
        shown = footage.at(int(scene.frame[row]))
        assert [number_of(image) for image in shown] == [scene.frame[row]] * 4
        inside = in_image(scene.cameras, scene.keypoints_mm[row])
        assert inside.mean() > 0.9
        points = scene.cameras.project(torch.from_numpy(scene.keypoints_mm[row]))[0].numpy()
        for view, image in enumerate(shown):
            for x, y in points[view][inside[view]].round().astype(int):
                r, g, b = image[min(max(y, 0), SIZE_PX[1] - 1), min(max(x, 0), SIZE_PX[0] - 1)].astype(int)
                assert g > r + 30
                assert g > b + 30
    np.testing.assert_array_equal(scene.frame, truth.frame)


def test_scenes_of_both_protocols_survive_the_index(tmp_path):
    truth = write_panoptic(tmp_path, [NAME, "171204_pose5"], people=2)[NAME]
    spans = {NAME: ((5, 6), (9, 30))}
    one = replace(SINGLE_PERSON.splits["val"], spans=spans)
    scene = protocol_scene(open_sequence(tmp_path / NAME), SINGLE_PERSON, one)
    assert scene.frame.tolist() == [5, 6, 9, 10, 11]
    np.testing.assert_allclose(
        scene.keypoints_mm, truth.keypoints_mm[(truth.person == 0) & np.isin(truth.frame, scene.frame)]
    )
    several = Split((NAME,), ("00_13", "00_01", "00_30"), (2, 2), every=3)
    other = protocol_scene(open_sequence(tmp_path / "171204_pose5"), MULTI_PERSON, several)
    assert other.frame.tolist() == [4, 4, 7, 7, 10, 10]
    assert other.cameras.names == ("00_01", "00_13")
    write_index([scene, other], tmp_path / "index.npz")
    again = read_index(tmp_path / "index.npz")
    assert [s.name for s in again] == [NAME, "171204_pose5"]
    assert again[0].sources["00_10"] == tmp_path / NAME / "hdVideos" / "hd_00_10.mp4"
    np.testing.assert_allclose(again[1].keypoints_mm, other.keypoints_mm, atol=1e-3)


def test_frames_that_were_not_extracted_are_left_out(tmp_path):
    write_panoptic(tmp_path, images="images")
    for file in (tmp_path / NAME / "hdImgs").rglob("*.jpg"):
        number = int(file.stem[-8:])
        if number % 3 or (number == 9 and "00_01" not in file.name):
            file.unlink()
    found = open_sequence(tmp_path / NAME, CAMERAS)
    scene = protocol_scene(found, SINGLE_PERSON, replace(SINGLE_PERSON.splits["val"], spans={}))
    assert scene.frame.tolist() == [6, 9]
    assert found.has_image(scene.frame, CAMERAS).tolist() == [[True] * 4, [True, False, False, False]]
    assert len(found.problems) == 4  # poses go on to frame 11, images to 9 or 6
    assert "ends at frame 6, and the poses are of frames 4 to 11" in found.problems[1]


@pytest.mark.parametrize(
    ("damage", "said"),
    [
        (lambda s: (s / f"calibration_{NAME}.json").unlink(), f"calibration_{NAME}.json is missing"),
        (
            lambda s: (s / f"calibration_{NAME}.json").rename(s / "calibration_171026_pose3.json"),
            "there is calibration_171026_pose3.json: a folder has to be called as its sequence",
        ),
        (
            lambda s: (s / f"calibration_{NAME}.json").write_text('{"cameras": ['),
            f"calibration_{NAME}.json: not a JSON",
        ),
        (lambda s: shutil.rmtree(s / POSES), "the poses are missing: neither"),
        (lambda s: (s / POSES).rename(s / "hdPose3d_stage1"), "hdPose3d_stage1 has the older 15 joints"),
        (lambda s: shutil.rmtree(s / "hdVideos"), "no camera has images"),
        (lambda s: (s / f"{POSES}.tar").write_bytes(b"<html>"), "no tar archive, or cut off"),
    ],
)
def test_a_sequence_that_cannot_be_used_is_one_sentence(copy, damage, said):
    damage(copy)
    with pytest.raises(TriposeError, match=said) as error:
        open_sequence(copy)
    assert str(copy) in str(error.value)
    assert "\n" not in str(error.value)


def test_single_videos_that_cannot_be_used_are_told_and_the_rest_goes_on(copy):
    videos = copy / "hdVideos"
    whole = (videos / "hd_00_01.mp4").read_bytes()
    (videos / "hd_00_01.mp4").write_bytes(whole[: len(whole) // 2])
    (videos / "hd_00_02.mp4").write_bytes(b"")
    cv2.imwrite(str(copy / "00_10_00000004.jpg"), np.zeros((90, 160, 3), np.uint8))
    (copy / "hdImgs" / "00_10").mkdir(parents=True)
    (copy / "00_10_00000004.jpg").rename(copy / "hdImgs" / "00_10" / "00_10_00000004.jpg")
    found = open_sequence(copy, [*CAMERAS, "00_31"])
    assert found.cameras.names == ("00_13",)
    assert len(found.problems) == 4
    for problem, said in zip(
        found.problems,
        ("no HD camera 00_31", "hd_00_01.mp4", "hd_00_02.mp4: the file is empty", "160 x 90 px .* 320 x 180"),
        strict=True,
    ):
        assert str(copy) in problem
        assert re.search(said, problem), problem


def test_the_video_that_is_damaged_on_the_server_is_known(tmp_path):
    write_panoptic(tmp_path, ["160906_band3"], ["00_03", "00_06"])
    (tmp_path / "160906_band3" / "hdVideos" / "hd_00_03.mp4").write_bytes(b"\0\0\0\x18ftypmp42" + bytes(100))
    found = open_sequence(tmp_path / "160906_band3", ["00_03", "00_06"])
    assert len(found.problems) == 1
    assert "it is known to be damaged on the server too" in found.problems[0]


def test_sources_without_sequences_are_named(tmp_path):
    (tmp_path / "S1").mkdir()
    write_panoptic(tmp_path / "panoptic", cameras=["00_01"])
    for place, wanted, said in (
        (tmp_path / "nowhere", None, "no such folder"),
        (tmp_path / "S1", None, "holds no sequence of CMU Panoptic"),
        (tmp_path / "panoptic", ["171026_pose3"], f"holds {NAME}, and not 171026_pose3"),
    ):
        with pytest.raises(TriposeError, match=said):
            sequence_folders(place, wanted)
    found = open_sequence(tmp_path / "panoptic" / NAME)
    with pytest.raises(TriposeError, match="there are no images of 00_03, 00_06"):
        protocol_scene(found, MULTI_PERSON, MULTI_PERSON.splits["val"])
    with pytest.raises(TriposeError, match="both a person and an image"):
        protocol_scene(found, SINGLE_PERSON, replace(SINGLE_PERSON.splits["val"], spans={NAME: ((90, 99),)}))


# The real files


def assert_left_is_left(keypoints_mm):
    """Of everything that has sides, seen from the person who looks ahead of the ears."""
    joint = {name: keypoints_mm[:, i] for i, name in enumerate(PANOPTIC19.joints)}
    ahead = joint["nose"] - (joint["left_ear"] + joint["right_ear"]) / 2
    left = np.cross([0, -1, 0], ahead)
    for part in ("eye", "ear", "shoulder", "hip"):
        across = joint[f"left_{part}"] - joint[f"right_{part}"]
        assert np.nanmedian((across * left).sum(1)) > 0, part
    # Eyes lie ahead of the ears: converters that take one for the other turn this round.
    for side in ("left", "right"):
        assert np.nanmedian(((joint[f"{side}_eye"] - joint[f"{side}_ear"]) * ahead).sum(1)) > 0, side


@pytest.mark.skipif(not (DATA / "panoptic_band_mmpose").exists(), reason="panoptic_band_mmpose is not here")
@pytest.mark.parametrize(("name", "first"), [("160906_band1", 168), ("160906_band2", 139)])
def test_band_parses_with_all_cameras_and_most_joints_in_the_images(name, first):
    folder = DATA / "panoptic_band_mmpose" / name
    cameras, poses = read_calibration(folder / f"calibration_{name}.json"), read_poses(folder / POSES)
    assert cameras.names == HD_CAMERAS
    assert cameras.up == "-y"
    assert (cameras.size_px.numpy() == [1920, 1080]).all()
    np.testing.assert_array_equal(np.unique(poses.frame), first + np.arange(20))
    assert set(poses.person) == {0, 1, 2}
    known = np.isfinite(poses.keypoints_mm).all(-1)
    assert in_image(cameras, poses.keypoints_mm[known]).mean() == pytest.approx(0.88, abs=0.005)
    assert np.nanmin(poses.keypoints_mm[..., 1]) > -1400
    assert np.nanmax(poses.keypoints_mm[..., 1]) < 0
    assert_left_is_left(poses.keypoints_mm)
    with pytest.raises(TriposeError, match="no camera has images"):
        open_sequence(folder)


@pytest.mark.skipif(not (DATA / "panoptic_171026_pose3_gt").exists(), reason="panoptic_171026_pose3_gt is not here")
def test_pose3_has_its_size_and_its_place_in_the_images(tmp_path):
    folder = DATA / "panoptic_171026_pose3_gt"
    cameras = read_calibration(folder / "calibration_171026_pose3.json")
    with np.load(folder / "Panoptic_GT_171026_pose3.npz") as file:
        frames, centimetres = file["frames"], file["poses"]
    place = tmp_path / POSES  # as its original files say it
    place.mkdir()
    for frame, pose in zip(frames[::20], centimetres[::20], strict=True):
        score = np.where((pose == 0).all(-1), -1.0, 0.5)
        bodies = [{"id": 0, "joints19": np.c_[pose, score].ravel().tolist()}]
        (place / f"body3DScene_{frame:08d}.json").write_text(json.dumps({"bodies": bodies}))
    poses = read_poses(place)
    np.testing.assert_array_equal(poses.frame, frames[::20])
    assert sorted(cameras.names) == list(HD_CAMERAS)  # 21 comes before 20 in this file
    known = np.isfinite(poses.keypoints_mm).all(-1)
    assert in_image(cameras, poses.keypoints_mm[known]).mean() == pytest.approx(0.93, abs=0.005)
    hip, knee = (poses.keypoints_mm[:, PANOPTIC19.index(f"left_{joint}")] for joint in ("hip", "knee"))
    assert_left_is_left(poses.keypoints_mm)
    thigh = np.linalg.norm(hip - knee, axis=1)
    assert np.nanmedian(thigh) == pytest.approx(368, abs=1)
    assert np.nanstd(thigh) == pytest.approx(11, abs=1)
    pelvis = to_joints(poses.keypoints_mm, PANOPTIC19, COCO17)[:, [11, 12]].mean(1)
    off = np.linalg.norm(pelvis - poses.keypoints_mm[:, PANOPTIC19.index("pelvis")], axis=1)
    assert np.nanmedian(off) < 0.01
