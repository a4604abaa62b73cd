import json
import os
import pickle
from pathlib import Path

import h5py
import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from tripose.errors import TriposeError
from tripose.formats.keypoints import read_keypoints, read_keypoints_npz, write_keypoints_npz
from tripose.formats.keypoints_names import joint_name, skeleton_from_names
from tripose.pose import Pose2D
from tripose.skeleton import BODY25B, COCO17, HALPE26, SKELETONS, custom

SHARED = Path(__file__).resolve().parents[2].parent / "shared" / "data"
needs_data = pytest.mark.skipif(not SHARED.is_dir(), reason="the shared recordings are not here")
DATA = Path(__file__).resolve().parents[1] / "data"

NAN = float("nan")
TWO = custom("two", ["nose", "left_knee"])


def person(x, score=0.5, n=2):
    """Keypoint k of a person lies at (x + k, 10 x + k)."""
    return [v for k in range(n) for v in (x + k, 10 * x + k, score)]


def openpose(folder, files):
    """One file per entry: name -> people, each a flat list."""
    folder.mkdir(exist_ok=True)
    for name, people in files.items():
        document = {"version": 1.3, "people": [{"person_id": [-1], "pose_keypoints_2d": p} for p in people]}
        (folder / name).write_text(json.dumps(document))
    return folder


def write_json(path, document):
    path.write_text(json.dumps(document))
    return path


# -- OpenPose


def test_openpose_known_answer(tmp_path):
    """Frame 4 has no file, frame 5 nobody, one person in frame 6 has too few keypoints."""
    folder = openpose(
        tmp_path / "cam7_json",
        {
            "cam7.0003.json": [person(100), person(200, score=1.5)],
            "cam7.0005.json": [],
            "cam7.0006.json": [person(50, n=1), [], [0, 0, 0, 7, 8, 0.25]],
            "del_000000_0.json": [person(999)],
            "readme.json": [person(999)],
        },
    )
    pose = read_keypoints(folder, TWO, fps=60.0)
    assert pose.views == ("cam7",)
    assert pose.fps == 60
    assert pose.points_px.dtype == pose.confidence.dtype == np.float64
    expected = np.full((4, 1, 2, 2, 2), NAN)
    expected[0, 0] = [[[100, 1000], [101, 1001]], [[200, 2000], [201, 2001]]]
    expected[3, 0, 0, 1] = [7, 8]
    np.testing.assert_array_equal(pose.points_px, expected)
    assert pose.confidence[:, 0].tolist() == [
        [[0.5, 0.5], [1.0, 1.0]],
        [[0, 0], [0, 0]],
        [[0, 0], [0, 0]],
        [[0, 0.25], [0, 0]],
    ]


def test_openpose_numbers_are_the_last_digits_before_the_suffix(tmp_path):
    files = {f"video2_{i:012d}_keypoints.json": [person(i, n=17)] for i in (9, 10, 11)}
    pose = read_keypoints(openpose(tmp_path / "v", files))
    assert pose.skeleton is COCO17
    assert pose.fps == 30
    assert pose.points_px[:, 0, 0, 0, 0].tolist() == [9, 10, 11]


def test_normalised_coordinates_need_the_image_size(tmp_path):
    folder = openpose(tmp_path / "v", {"0.json": [[0, 0, 0, 1.0, 0.5, 0.9]]})
    with pytest.raises(TriposeError, match=r"0\.\.1, so they are normalised: give the image size"):
        read_keypoints(folder, TWO)
    pose = read_keypoints(folder, TWO, size_px=(641, 481))
    np.testing.assert_array_equal(pose.points_px[0, 0, 0], [[NAN, NAN], [640, 240]])


# -- COCO and AlphaPose


def test_coco_results_count_from_frame_zero(tmp_path):
    """Such a list names no frame without people: if it started with its first one, views would be shifted."""
    results = [
        {"image_id": 4, "category_id": 1, "keypoints": person(40, n=17), "score": 0.9},
        {"image_id": 2, "category_id": 1, "keypoints": person(20, n=17), "score": 0.9},
        {"image_id": 4, "category_id": 1, "keypoints": person(41, n=17), "score": 0.3},
    ]
    pose = read_keypoints(write_json(tmp_path / "cam1.json", results))
    assert pose.skeleton is COCO17
    np.testing.assert_array_equal(
        pose.points_px[:, 0, :, 0, 0], [[NAN, NAN], [NAN, NAN], [20, NAN], [NAN, NAN], [40, 41]]
    )


def test_alphapose_scores_are_cut_to_one(tmp_path):
    people = [
        {"image_id": f"{i}.jpg", "category_id": 1, "keypoints": person(i, 2.75, n=26), "score": 3.1, "idx": 1}
        for i in (0, 2)
    ]
    pose = read_keypoints(write_json(tmp_path / "cam1.json", people))
    assert pose.skeleton is HALPE26
    assert pose.confidence[:, 0, 0, 0].tolist() == [1, 0, 1]


def test_coco_data_set_names_its_frames_and_joints(tmp_path):
    document = {
        "images": [{"id": 70, "file_name": "a/img_0012.png"}, {"id": 50, "file_name": "a/img_0010.png"}],
        "annotations": [
            {"id": 1, "image_id": 70, "category_id": 1, "keypoints": [5, 6, 2, 0, 0, 0]},
            {"id": 2, "image_id": 70, "category_id": 1, "bbox": [0, 0, 9, 9]},
        ],
        "categories": [{"id": 1, "name": "person", "keypoints": ["Nose", "L_Knee"]}],
    }
    pose = read_keypoints(write_json(tmp_path / "cam1.json", document))
    assert pose.skeleton.joints == ("nose", "left_knee")
    np.testing.assert_array_equal(pose.points_px[:, 0, 0, 0], [[NAN, NAN], [NAN, NAN], [5, 6]])
    np.testing.assert_array_equal(pose.confidence[2, 0, 0], [1, 0])
    document["images"][0]["file_name"] = document["images"][1]["file_name"] = "same.png"
    pose = read_keypoints(write_json(tmp_path / "cam1.json", document))
    np.testing.assert_array_equal(pose.points_px[:, 0, 0, 0], [[NAN, NAN], [5, 6]])


# -- DeepLabCut


@pytest.mark.parametrize("suffix", ["csv", "h5"])
def test_deeplabcut_single(suffix):
    """The files, written by pandas, hold 100 + the number of the cell; nose is empty in frame 1, likelihood 0 in 2."""
    pose = read_keypoints(DATA / f"deeplabcut_single.{suffix}")
    assert pose.views == ("deeplabcut_single",)
    assert pose.skeleton.joints == ("nose", "left_knee", "tail base")
    expected = 100 + np.arange(36.0).reshape(4, 3, 3)
    expected[1:3, 0] = NAN
    np.testing.assert_array_equal(pose.points_px[:, 0, 0], expected[..., :2])
    np.testing.assert_array_equal(pose.confidence[:, 0, 0], np.where(np.isnan(expected[..., 0]), 0, 0.75))


@pytest.mark.parametrize("suffix", ["csv", "h5"])
def test_deeplabcut_multi(suffix):
    pose = read_keypoints(DATA / f"deeplabcut_multi.{suffix}", COCO17, fps=50.0)
    assert pose.skeleton is COCO17
    expected = 100 + np.arange(72.0).reshape(4, 2, 3, 3)
    expected[1:3, 0, 0] = NAN
    np.testing.assert_array_equal(pose.points_px[:, 0, :, COCO17.index("nose")], expected[:, :, 0, :2])
    np.testing.assert_array_equal(pose.points_px[:, 0, :, COCO17.index("left_knee")], expected[:, :, 1, :2])
    assert np.isnan(pose.points_px[:, :, :, COCO17.index("right_knee")]).all()


def test_deeplabcut_labels(tmp_path):
    """Hand-made labels have three index columns, image names and no likelihood."""
    text = "scorer,,,me,me\nbodyparts,,,nose,nose\ncoords,,,x,y\n"
    text += "labeled-data,v,img07.png,3,4\nlabeled-data,v,img09.png,5,\n"
    (tmp_path / "cam1DLC_resnet50_x.csv").write_text(text)
    pose = read_keypoints(tmp_path / "cam1DLC_resnet50_x.csv")
    assert pose.views == ("cam1",)
    np.testing.assert_array_equal(pose.points_px[:, 0, 0, 0], [[3, 4], [NAN, NAN], [NAN, NAN]])
    assert pose.confidence.ravel().tolist() == [1, 0, 0]


@pytest.mark.parametrize(
    ("theirs", "ours"),
    [
        *((n, "left_knee") for n in ("LeftKnee", "left knee", "L_knee", "Lknee", "KNEE.L", "knee-left", "left_knee")),
        ("RBigToe", "right_big_toe"),
        ("MidHip", "pelvis"),
        ("REar", "right_ear"),
        ("rear", "rear"),
        ("Rear", "Rear"),
        ("tail base", "tail base"),
        ("lefty", "lefty"),
    ],
)
def test_joint_names(theirs, ours):
    assert joint_name(theirs) == ours


def test_joint_names_leave_every_standard_skeleton_alone():
    for skeleton in SKELETONS.values():
        assert skeleton_from_names("x", skeleton.joints) is skeleton
    openpose_names = "Nose LEye REye LEar REar LShoulder RShoulder LElbow RElbow LWrist RWrist LHip RHip LKnee RKnee"
    assert skeleton_from_names("x", f"{openpose_names} LAnkle RAnkle".split()) is COCO17
    assert skeleton_from_names("x", ["LKnee", "left_knee"]).joints == ("LKnee", "left_knee")


class Bomb:
    def __init__(self, target):
        self.target = target

    def __reduce__(self):
        return os.mkdir, (self.target,)


def hdf_with_names(path, pickled):
    with h5py.File(path, "w") as file:
        group = file.create_group("df_with_missing")
        group.attrs["pandas_type"] = np.bytes_(b"frame_table")
        table = np.zeros(1, dtype=[("index", "i8"), ("values_block_0", "f8", (3,))])
        dataset = group.create_dataset("table", data=table)
        dataset.attrs["values_block_0_kind"] = np.bytes_(pickled)
    return path


def test_nothing_is_unpickled(tmp_path):
    target = tmp_path / "made"
    for protocol in (0, 2, 4):
        bomb = pickle.dumps([Bomb(str(target))], protocol=protocol)
        with pytest.raises(TriposeError, match="DeepLabCut writes the same table as CSV: read that"):
            read_keypoints(hdf_with_names(tmp_path / "a.h5", bomb))
    np.savez(tmp_path / "b.npz", format=np.array([Bomb(str(target))], dtype=object))
    with pytest.raises(TriposeError, match="not a keypoint file of tripose"):
        read_keypoints_npz(tmp_path / "b.npz")
    with h5py.File(tmp_path / "c.h5", "w") as file:
        group = file.create_group("df_with_missing")
        group.attrs.update({"pandas_type": "frame", "nblocks": 1, "block0_items_nlevels": 1})
        group.create_dataset("block0_items_level0", (1,), dtype=h5py.vlen_dtype(np.uint8))
    with pytest.raises(TriposeError, match="holds pickled objects, which are not read"):
        read_keypoints(tmp_path / "c.h5")
    assert not target.exists()


# -- our own file


@st.composite
def poses(draw):
    time, view, person = draw(st.tuples(*[st.integers(1, 3)] * 3))
    joints = draw(st.lists(st.sampled_from(["nose", "left knee", "é", "左"]), min_size=1, unique=True))
    skeleton = draw(st.sampled_from([COCO17, custom("mine", joints)]))
    rng = np.random.default_rng(draw(st.integers(0, 2**32 - 1)))
    points = rng.normal(500, 300, (time, view, person, len(skeleton), 2))
    points[rng.random(points.shape[:-1]) < 0.3] = NAN
    confidence = np.where(np.isnan(points[..., 0]), 0, rng.random(points.shape[:-1]))
    fps = draw(st.sampled_from([30.0, 59.94, 30000 / 1001]))
    return Pose2D(points, confidence, skeleton, tuple(f"cam {i} é" for i in range(view)), fps)


@settings(max_examples=40, deadline=None)
@given(poses())
def test_npz_round_trip_is_exact(tmp_path_factory, pose):
    path = tmp_path_factory.mktemp("k") / "keypoints é.npz"
    write_keypoints_npz(pose, path)
    again = read_keypoints_npz(path)
    assert (again.skeleton, again.views, again.fps) == (pose.skeleton, pose.views, pose.fps)
    np.testing.assert_array_equal(again.points_px, pose.points_px)
    np.testing.assert_array_equal(again.confidence, pose.confidence)


def test_npz_mistakes(tmp_path):
    np.savez(tmp_path / "other.npz", a=np.zeros(2))
    (tmp_path / "text.npz").write_text("hello")
    (tmp_path / "empty.npz").touch()
    for name in ("other", "text", "empty"):
        with pytest.raises(TriposeError, match=f"{name}.npz: not a keypoint file of tripose"):
            read_keypoints_npz(tmp_path / f"{name}.npz")
    with pytest.raises(TriposeError, match=r"gone.npz: cannot be read: No such file"):
        read_keypoints_npz(tmp_path / "gone.npz")
    with pytest.raises(TriposeError, match="no folder"):
        write_keypoints_npz(read_keypoints(DATA / "deeplabcut_single.csv"), tmp_path / "no" / "a.npz")


# -- mistakes


@pytest.mark.parametrize(
    ("files", "skeleton", "message"),
    [
        ({}, None, "no file like video_000000000012_keypoints.json"),
        ({"0.json": []}, None, "no person in any frame, so the skeleton is unknown"),
        ({"0.json": [[]]}, None, "no person in any frame, so the skeleton is unknown"),
        ({"0.json": [person(5, n=25)]}, None, "25 keypoints, which could be 'body25' or 'body25b': name the skeleton"),
        ({"0.json": [person(5, n=18)]}, None, "COCO-18 is not supported"),
        ({"0.json": [person(5, n=23)]}, None, "no known skeleton has so many"),
        ({"0.json": [person(5, n=26)]}, COCO17, "have 26 keypoints, but skeleton 'coco17' has 17; is it 'halpe26'"),
        ({"0.json": [[1, 2, 3, 4]]}, COCO17, "0.json: 4 numbers are not x, y, score"),
        ({"0.json": [["a", "b", "c"]]}, COCO17, "0.json: the keypoints are not a list of numbers"),
        ({"a_0.json": [], "b_0.json": []}, COCO17, r"several series of frames: a_\*, b_\*"),
        ({"a_1.json": [], "a_01_keypoints.json": []}, COCO17, "are the same frame"),
        ({"0.json": [], "99999999.json": []}, COCO17, "0 to 99999999 are no frame numbers of one video"),
    ],
)
def test_openpose_mistakes(tmp_path, files, skeleton, message):
    folder = openpose(tmp_path / "v_json", files)
    with pytest.raises(TriposeError, match=message) as error:
        read_keypoints(folder, skeleton)
    assert str(error.value).startswith(f"{folder}: ")


@pytest.mark.parametrize(
    ("name", "text", "message"),
    [
        ("a.mp4", "x", "unknown kind of keypoints; known are a folder of OpenPose"),
        ("a.npz", "x", "our own .* hold all views: read_keypoints_npz"),
        ("a.json", "", "a.json is not a JSON file, or cut short"),
        ("a.json", "[{", "a.json is not a JSON file, or cut short"),
        ("a.json", "{}", "neither a list of COCO or AlphaPose results nor a COCO data set"),
        ("a.json", '{"people": []}', "give the folder that holds all frames"),
        ("a.json", "[]", "no person in any frame"),
        ("a.json", "[1]", "entry 0 has no 'image_id'"),
        ("a.json", '[{"image_id": 0}]', "entry 0 has no 'keypoints'"),
        ("a.json", '[{"image_id": [0], "keypoints": []}]', r"entry 0: 'image_id' is \[0\], neither"),
        ("a.json", '[{"image_id": "x.jpg", "keypoints": []}]', "no frame number in the name 'x.jpg'"),
        ("a.json", '[{"image_id": -1, "keypoints": [1, 2, 3]}]', "people have 1 keypoints"),
        ("a.json", json.dumps([{"image_id": -1, "keypoints": [5] * 51}]), "-1 to -1 are no frame numbers"),
        ("a.json", '{"images": [], "annotations": [{"image_id": 3}]}', "image 3, which is not among the images"),
        ("a.csv", "", "no DeepLabCut table"),
        ("a.csv", "frame,x,y\n0,1,2\n", "no DeepLabCut table"),
        ("a.csv", "scorer,s,s\nbodyparts,n,n\ncoords,x,y\n", "holds no frame"),
        ("a.csv", "scorer,s,s\nbodyparts,n,n\ncoords,x,y\n0,1\n", "row 4 has 2 cells, but the first one has 3"),
        ("a.csv", "scorer,s,s\nbodyparts,n\ncoords,x,y\n0,1,2\n", "row 2 has 2 cells"),
        ("a.csv", "scorer,s,s\nbodyparts,n,n\ncoords,x,y\n0,1,b\n", "a cell is no number .*'b'"),
        ("a.csv", "scorer,s,s\nbodyparts,n,n\ncoords,x,z\n0,1,2\n", "coordinate 'z'; expected x, y and likelihood"),
        ("a.csv", "scorer,s,t\nbodyparts,n,n\ncoords,x,x\n0,1,2\n", "column twice"),
        ("a.csv", "scorer,s,s\nbodyparts,n,n\ncoords,x,y\n0,1,2\n0,1,2\n", "two rows of the table are frame 0"),
        ("a.csv", "scorer,s,s\nbodyparts,n,n\ncoords,x,y\n0,1,2\n1700000000,1,2\n", "are no frame numbers"),
        ("a.h5", "x", "no HDF5 table of DeepLabCut"),
    ],
)
def test_file_mistakes(tmp_path, name, text, message):
    path = tmp_path / name
    path.write_text(text)
    with pytest.raises(TriposeError, match=message) as error:
        read_keypoints(path)
    assert str(error.value).startswith(f"{path}: ")


def test_more_mistakes(tmp_path):
    with pytest.raises(TriposeError, match="there is no such file or folder"):
        read_keypoints(tmp_path / "gone")
    folder = openpose(tmp_path / "v", {"0.json": []})
    (folder / "1.json").write_text('{"people": [{"pose_keypo')
    with pytest.raises(TriposeError, match=r"1.json is not a JSON file, or cut short"):
        read_keypoints(folder, COCO17)
    (folder / "1.json").write_text("[]")
    with pytest.raises(TriposeError, match=r"1.json has no list 'people'"):
        read_keypoints(folder, COCO17)
    with pytest.raises(TriposeError, match="none of the joints nose, left_knee, tail base belongs to skeleton 'feet'"):
        read_keypoints(DATA / "deeplabcut_single.csv", custom("feet", ["left_heel"]))
    with h5py.File(tmp_path / "a.h5", "w"):
        pass
    with pytest.raises(TriposeError, match="holds 0 pandas tables"):
        read_keypoints(tmp_path / "a.h5")


# -- real files


@needs_data
def test_pose2sim_demo_person():
    """Value for value the numbers in the files, read as the data's own check reads them."""
    for view in ("cam01", "cam04"):
        folder = SHARED / "pose2sim_single" / "pose-associated" / f"{view}_json"
        pose = read_keypoints(folder, BODY25B, fps=60.0)
        assert pose.views == (view,)
        assert pose.points_px.shape == (100, 1, 1, 25, 2)
        raw = np.zeros((100, 25, 3))
        for i, path in enumerate(sorted(folder.glob("*.json"))):
            people = json.loads(path.read_text())["people"]
            if people and len(people[0].get("pose_keypoints_2d") or []) == 75:
                raw[i] = np.reshape(people[0]["pose_keypoints_2d"], (25, 3))
        np.testing.assert_array_equal(pose.confidence[:, 0, 0], raw[..., 2])
        np.testing.assert_array_equal(pose.points_px[:, 0, 0], np.where(raw[..., 2:] > 0, raw[..., :2], NAN))


@needs_data
def test_pose2sim_demo_everybody():
    """cam01 sees up to three people; the folder of cam03 also holds two stray files named del_000000_0.json."""
    people = {
        view: read_keypoints(SHARED / "pose2sim_single" / "pose" / f"{view}_json", BODY25B).points_px.shape
        for view in ("cam01", "cam03")
    }
    assert people == {"cam01": (100, 1, 3, 25, 2), "cam03": (100, 1, 1, 25, 2)}
    with pytest.raises(TriposeError, match="'body25' or 'body25b'"):
        read_keypoints(SHARED / "pose2sim_single" / "pose" / "cam01_json")
