import json
import shutil
from pathlib import Path

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy.spatial.transform import Rotation

from tripose.cameras import Cameras
from tripose.errors import TriposeError
from tripose.formats.calibration import read_calibration, write_calibration_json, write_calibration_toml

SHARED = Path(__file__).resolve().parents[2].parent / "shared" / "data"
needs_data = pytest.mark.skipif(not SHARED.is_dir(), reason="the shared recordings are not here")

K = [[1000.0, 0.0, 320.0], [0.0, 1100.0, 240.0], [0.0, 0.0, 1.0]]


def toml_camera(section="cam_1", **changes):
    """A camera turned 90 degrees about z, 2 m in front of the world's origin, as TOML; None leaves a key out."""
    entries = {
        "name": '"left"',
        "size": "[640.0, 480.0]",
        "matrix": str(K),
        "distortions": "[0.1, 0.2, 0.3, 0.4]",
        "rotation": f"[0.0, 0.0, {np.pi / 2}]",
        "translation": "[0.5, 0.0, 2.0]",
        "fisheye": "false",
    } | changes
    return f"[{section}]\n" + "".join(f"{k} = {v}\n" for k, v in entries.items() if v is not None) + "\n"


def json_camera(**changes):
    entry = {"name": "a", "size_px": [640, 480], "K": K, "R": np.eye(3).tolist(), "t": [1, 2, 3], "distortion": []}
    return {k: v for k, v in (entry | changes).items() if v is not None}


def write(path, text):
    path.write_text(text, encoding="utf-8")
    return path


def write_json(path, *cameras, **changes):
    return write(path, json.dumps({"format": "tripose-cameras-1", "unit": "mm", "cameras": list(cameras)} | changes))


def yaml_matrix(key, value):
    array = np.atleast_2d(np.asarray(value, dtype=float))
    data = ", ".join(map(repr, array.ravel().tolist()))
    return f"{key}: !!opencv-matrix\n   rows: {len(array)}\n   cols: {array.shape[1]}\n   dt: d\n   data: [ {data} ]\n"


def yaml_camera(name="1", **changes):
    entries = {"K": K, "dist": [0.1, 0.2, 0.3, 0.4, 0.5], "Rot": np.eye(3), "T": [[1.0], [2.0], [3.0]]} | changes
    return "".join(yaml_matrix(f"{k}_{name}", v) for k, v in entries.items() if v is not None)


QCA = """<?xml version='1.0' encoding='ASCII'?>
<calibration type="regular"><cameras>
<camera active="1" model="{model}" serial="{serial}" viewrotation="{viewrotation}">
<fov_video bottom="499" left="10" right="649" top="20"/>
<transform r11="1" r12="0" r13="0" r21="0" r22="0" r23="1" r31="0" r32="-1" r33="0" x="100" y="-2000" z="{z}"/>
<intrinsic centerPointU="21120" centerPointV="16640" focalLengthU="64000" focalLengthV="{fv}" skew="0"
 radialDistortion1="-0.1" radialDistortion2="0.2" radialDistortion3="0.3"
 tangentalDistortion1="0.01" tangentalDistortion2="0.02"/>
</camera></cameras></calibration>"""


def qca(**changes):
    return QCA.format(
        **({"model": "Miqus Video", "serial": "21001", "viewrotation": "0", "z": "1500", "fv": "70400"} | changes)
    )


# -- known answers, one per format


def test_toml_known_answer(tmp_path):
    cameras = read_calibration(write(tmp_path / "c.toml", toml_camera() + "[metadata]\nerror = 0.0\n"))
    assert cameras.names == ("left",)
    assert cameras.size_px.tolist() == [[640, 480]]
    assert cameras.lens == ("opencv",)
    assert cameras.distortion[0, :5].tolist() == [0.1, 0.2, 0.3, 0.4, 0.0]
    np.testing.assert_allclose(cameras.R[0], [[0, -1, 0], [1, 0, 0], [0, 0, 1]], atol=1e-15)
    np.testing.assert_allclose(cameras.t[0], [500, 0, 2000])
    np.testing.assert_allclose(cameras.K[0], K)


def test_toml_accepts_matrix_rotation_fisheye_and_unit(tmp_path):
    text = toml_camera(rotation="[[0, -1, 0], [1, 0, 0], [0, 0, 1]]", fisheye="true")
    cameras = read_calibration(write(tmp_path / "c.toml", text), unit="mm")
    np.testing.assert_array_equal(cameras.R[0], [[0, -1, 0], [1, 0, 0], [0, 0, 1]])
    assert cameras.lens == ("fisheye",)
    np.testing.assert_allclose(cameras.t[0], [0.5, 0, 2])


def test_toml_names_that_are_not_unique_give_way_to_the_tables(tmp_path):
    cameras = read_calibration(write(tmp_path / "c.toml", toml_camera("a") + toml_camera("b")))
    assert cameras.names == ("a", "b")


def test_caliscope_leaves_out_cameras_that_are_not_posed(tmp_path):
    unposed = '[cameras.1]\ncam_id = 1\nsize = [640, 480]\nrotation_count = 1\nrotation = "null"\n'
    text = (
        toml_camera("cameras.0", name=None, fisheye=None, port="0", grid_count="9", rotation_count="0")
        + unposed
        + toml_camera("cameras.2", name=None, ignore="true")
        + toml_camera("cameras.3", name=None)
    )
    assert read_calibration(write(tmp_path / "camera_array.toml", text)).names == ("cam_0", "cam_3")
    with pytest.raises(TriposeError, match="none of the 1 cameras in this file has a rotation"):
        read_calibration(write(tmp_path / "c.toml", unposed))


def test_old_caliscope_config_holds_other_tables(tmp_path):
    text = (
        "CreationDate = 2023-03-31T09:56:43\n"
        + toml_camera("cam_0", name=None, port="0", fisheye=None)
        + toml_camera("cam_1", name=None, rotation=None, translation=None)
        + "[charuco]\ncolumns = 4\n[capture_volume]\nstage = 2\n"
    )
    assert read_calibration(write(tmp_path / "config.toml", text)).names == ("cam_0",)


def test_qualisys_known_answer(tmp_path):
    """The camera stands at y = -2 m, its x axis is the world's, its y axis (up) the world's z: it looks along +y."""
    cameras = read_calibration(write(tmp_path / "c.qca.txt", qca()))
    assert cameras.names == ("21001",)
    assert cameras.up == "z"
    assert cameras.size_px.tolist() == [[640, 480]]
    np.testing.assert_allclose(cameras.centers_mm[0], [100, -2000, 1500])
    np.testing.assert_allclose(cameras.R[0] @ torch.tensor([0.0, 1.0, 0.0]).double(), [0, 0, 1])
    np.testing.assert_allclose(cameras.K[0], [[1000, 0, 320], [0, 1100, 240], [0, 0, 1]])
    assert cameras.distortion[0, :5].tolist() == [-0.1, 0.2, 0.01, 0.02, 0.3]


def test_qualisys_reads_video_cameras_where_there_are_some(tmp_path):
    marker = qca(model="Arqus A12", serial="m").split("<cameras>")[1].split("</cameras>")[0]
    mixed = qca().replace("</cameras>", marker + "</cameras>")
    assert read_calibration(write(tmp_path / "a.qca.txt", mixed)).names == ("21001",)
    assert read_calibration(write(tmp_path / "b.qca.txt", qca(model="Arqus A12"))).names == ("21001",)


@pytest.mark.parametrize("header", ["%YAML:1.0\n---\n", "%YAML 1.0\n# made by hand\n---\n"])
def test_opencv_known_answer_under_a_path_beyond_ascii(tmp_path, header):
    folder = tmp_path / "动作 捕捉 é"
    folder.mkdir()
    rvec = [[0.0], [0.0], [np.pi / 2]]
    text = header + yaml_camera("1") + yaml_camera("b", Rot=None, R=rvec, dist=None, D=[0.1, 0.2], T=[4, 5, 6])
    text += "W_1: 640\nH_1: 480\nsize_b: [ 800, 600 ]\nnote: 3\n"
    cameras = read_calibration(write(folder / "rig é.yml", text))
    assert cameras.names == ("1", "b")
    assert cameras.size_px.tolist() == [[640, 480], [800, 600]]
    np.testing.assert_allclose(cameras.t, [[1000, 2000, 3000], [4000, 5000, 6000]])
    np.testing.assert_allclose(cameras.R[1], [[0, -1, 0], [1, 0, 0], [0, 0, 1]], atol=1e-15)
    assert cameras.distortion[:, :5].tolist() == [[0.1, 0.2, 0.3, 0.4, 0.5], [0.1, 0.2, 0, 0, 0]]


def test_opencv_file_that_opencv_wrote(tmp_path):
    import cv2

    for suffix in (".yml", ".xml"):
        path = tmp_path / f"rig{suffix}"
        storage = cv2.FileStorage(str(path), cv2.FILE_STORAGE_WRITE)
        for key, value in (("K", K), ("dist", [[0.1, 0.2, 0.3, 0.4, 0.5]]), ("R", np.eye(3)), ("T", [[1], [2], [3]])):
            storage.write(f"{key}_a", np.array(value, dtype=float))
        storage.release()
        cameras = read_calibration(path, unit="mm")
        assert cameras.names == ("a",)
        np.testing.assert_array_equal(cameras.t, [[1, 2, 3]])


def test_easymocap_pair_from_folder_or_either_file(tmp_path):
    names = '%YAML:1.0\n---\nnames:\n   - "2"\n   - "1"\n'
    write(tmp_path / "intri.yml", names + yaml_camera("1", Rot=None, T=None) + yaml_camera("2", Rot=None, T=None))
    write(tmp_path / "extri.yml", names + yaml_camera("1", K=None, dist=None) + yaml_camera("2", K=None, dist=None))
    for path in (tmp_path, tmp_path / "intri.yml", tmp_path / "extri.yml"):
        cameras = read_calibration(path, sizes_px={"1": (642, 482)})
        assert cameras.names == ("2", "1")
        assert cameras.size_px.tolist() == [[641, 481], [642, 482]]  # centred principal point; as told
    (tmp_path / "extri.yml").unlink()
    with pytest.raises(TriposeError, match=r"extri.yml is missing"):
        read_calibration(tmp_path)


def panoptic(path, *cameras):
    entry = {"name": "00_01", "type": "hd", "resolution": [1920, 1080], "K": K, "distCoef": [0, 0, 0, 0, 0.1]}
    entry |= {"R": np.eye(3).tolist(), "t": [[1], [2], [3]]}
    return write(path, json.dumps({"calibDataSource": "x", "cameras": [entry | c for c in cameras]}))


def test_panoptic_reads_hd_cameras_in_cm(tmp_path):
    cameras = read_calibration(panoptic(tmp_path / "c.json", {"type": "vga", "name": "01_01"}, {}))
    assert cameras.names == ("00_01",)
    assert cameras.up == "-y"
    assert cameras.t.tolist() == [[10, 20, 30]]
    assert cameras.distortion[0, 4] == 0.1


def test_shelf_layout_is_in_metres(tmp_path):
    table = {"K": np.ravel(K).tolist(), "RT": [1, 0, 0, 1, 0, 1, 0, 2, 0, 0, 1, 3], "imgSize": [640, 480]}
    cameras = read_calibration(write(tmp_path / "c.json", json.dumps({"0": table, "1": table})))
    assert cameras.names == ("0", "1")
    assert cameras.t[0].tolist() == [1000, 2000, 3000]


# -- writers


@st.composite
def rigs(draw):
    def reals(low, high, n):
        return draw(st.lists(st.floats(low, high), min_size=n, max_size=n))

    n = draw(st.integers(1, 3))
    text = st.text(st.characters(exclude_categories=["Cs"]), max_size=6)
    names = draw(st.lists(text, min_size=n, max_size=n, unique=True))
    intrinsics, rotations, lenses, fisheye = [], [], [], []
    for _ in range(n):
        fx, fy, skew = reals(1, 1e4, 3)
        cx, cy = reals(-10, 5e3, 2)
        intrinsics.append([[fx, skew, cx], [0, fy, cy], [0, 0, 1]])
        axis = np.array(reals(-1, 1, 3)) + np.array([0, 0, 1.01])
        angle = draw(st.sampled_from([0.0, 1e-9, np.pi - 1e-7, np.pi]) | st.floats(0, np.pi))
        rotations.append(Rotation.from_rotvec(axis / np.linalg.norm(axis) * angle).as_matrix())
        fisheye.append(draw(st.booleans()))
        lenses.append(reals(-1, 1, 4 if fisheye[-1] else draw(st.sampled_from([0, 2, 4, 5, 8, 12, 14]))))
    t_mm = [reals(-1e5, 1e5, 3) for _ in range(n)]
    sizes = draw(st.lists(st.tuples(st.integers(1, 9999), st.integers(1, 9999)), min_size=n, max_size=n))
    up = draw(st.sampled_from([None, "x", "y", "z", "-x", "-y", "-z"]))
    return Cameras.build(names, intrinsics, rotations, t_mm, sizes, lenses, fisheye, up)


def assert_same(a, b, **tolerance):
    assert (a.names, a.lens, a.up, a.size_px.tolist()) == (b.names, b.lens, b.up, b.size_px.tolist())
    for field in ("K", "R", "t", "distortion"):
        np.testing.assert_allclose(getattr(a, field), getattr(b, field), **tolerance)


@settings(max_examples=60, deadline=None)
@given(rigs(), st.sampled_from(["mm", "cm", "m"]))
def test_toml_round_trip(tmp_path_factory, cameras, unit):
    path = tmp_path_factory.mktemp("rig") / "rig.toml"
    write_calibration_toml(cameras, path, unit)
    assert_same(read_calibration(path), cameras, rtol=1e-9, atol=1e-12)


@settings(max_examples=30, deadline=None)
@given(rigs())
def test_json_round_trip_is_exact(tmp_path_factory, cameras):
    path = tmp_path_factory.mktemp("rig") / "rig.json"
    write_calibration_json(cameras, path)
    assert_same(read_calibration(path), cameras, rtol=0, atol=0)


def test_toml_has_what_anipose_and_pose2sim_ask_for(tmp_path):
    import tomllib

    cameras = Cameras.build(["b 1"], [K], [np.eye(3)], [[1000, 0, 0]], [[640, 480]], [[0.1, 0.0, 0.0, 0.0]], [True])
    write_calibration_toml(cameras, tmp_path / "c.toml")
    document = tomllib.loads((tmp_path / "c.toml").read_text())
    assert document["b 1"] == {
        "name": "b 1",
        "size": [640, 480],
        "matrix": K,
        "distortions": [0.1, 0.0, 0.0, 0.0],
        "rotation": [0.0, 0.0, 0.0],
        "translation": [1.0, 0.0, 0.0],
        "fisheye": True,
    }
    assert document["metadata"] == {"adjusted": False, "error": 0.0, "unit": "m"}


def test_a_failed_write_leaves_the_old_file(tmp_path, monkeypatch):
    path = write(tmp_path / "c.toml", "old")
    cameras = Cameras.build(["a"], [K], [np.eye(3)], [[0, 0, 0]], [[640, 480]])
    monkeypatch.setattr("os.replace", lambda *_: (_ for _ in ()).throw(OSError("disk full")))
    with pytest.raises(TriposeError, match=r"c.toml"):
        write_calibration_toml(cameras, path)
    assert path.read_text() == "old"
    assert [p.name for p in tmp_path.iterdir()] == ["c.toml"]


# -- mistakes: one sentence that names the file and the likely cause

MIRRORED = str(np.diag([1.0, 1.0, -1.0]).tolist())


@pytest.mark.parametrize(
    ("name", "text", "message"),
    [
        ("c.docx", "hello", r"unknown kind .* anipose, Pose2Sim or Caliscope"),
        ("c.txt", "hello", r"unknown kind"),
        ("c.toml", "", "empty"),
        ("c.toml", "[cam", "not a TOML file"),
        ("c.toml", "[metadata]\na = 1\n", "no camera"),
        ("c.toml", toml_camera(matrix=None), "camera 'left' has no 'matrix'"),
        ("c.toml", toml_camera(rotation=None), "camera 'left' has no 'rotation'"),
        ("c.toml", toml_camera(size=None), "camera 'left' has no 'size'"),
        ("c.toml", toml_camera(size="[1.0]"), r"'size' is \[1.0\], expected width and height"),
        ("c.toml", toml_camera(matrix='"text"'), "camera 'left': 'matrix' is not an array of numbers"),
        ("c.toml", toml_camera(matrix="[[1, 2], [3]]"), "camera 'left': 'matrix' is not an array of numbers"),
        ("c.toml", toml_camera(matrix="[[1, 2], [3, 4]]"), r"'matrix' has shape \(2, 2\), expected \(3, 3\)"),
        ("c.toml", toml_camera(matrix=str(np.transpose(K).tolist())), "looks transposed"),
        ("c.toml", toml_camera(translation="[nan, 0.0, 0.0]"), "'left': t holds a value that is not finite"),
        ("c.toml", toml_camera(rotation="[nan, 0.0, 0.0]"), "'left': R holds a value that is not finite"),
        ("c.toml", toml_camera(rotation=MIRRORED), r"det\(R\) = -1.000, a mirrored"),
        ("c.toml", toml_camera(distortions="[0.1, 0.2, 0.3]"), "has 3 distortion coefficients; the OpenCV model"),
        ("c.toml", toml_camera(fisheye="true", distortions="[1, 2, 3, 4, 5]"), "the fisheye model takes 0, 4"),
        ("c.toml", toml_camera() + '[metadata]\nunit = "feet"\n', "unknown unit 'feet'"),
        ("c.toml", toml_camera() + '[metadata]\nup = "w"\n', "up axis is 'w'"),
        ("c.toml", toml_camera() + toml_camera(), "not a TOML file"),
        ("c.json", "{", "not a JSON file"),
        ("c.json", "[1]", "this JSON is no calibration; known are"),
        ("c.json", '{"0": {"RT": [1, 2]}}', "'RT' has 2 numbers"),
        ("c.json", '{"0": {"RT": []}, "1": {}}', "'RT' has 0 numbers"),
        ("c.qca.txt", "<calibration>", "not an XML file"),
        ("c.qca.txt", "<calibration/>", "no cameras/camera element"),
        ("c.qca.txt", '<!DOCTYPE a [<!ENTITY b "c">]>' + "<a/>", "declares a document type"),
        ("c.qca.txt", qca(viewrotation="90"), "'21001': viewrotation 90 is not supported"),
        ("c.qca.txt", qca(fv="wide"), "'21001': 'focalLengthV' is 'wide', not a number"),
        ("c.qca.txt", qca(z="nan"), "'21001': t holds a value that is not finite"),
        ("c.qca.txt", qca().replace("fov_video", "fov"), "'21001' has no 'left' in its 'fov_video' element"),
        ("c.yml", "%YAML:1.0\n---\nK_1: [1, 2\n", "FileStorage"),
        ("c.yml", "hello", "FileStorage"),
        ("c.yml", "%YAML:1.0\n---\na: 1\n", "no list 'names' and no key 'K_<name>'"),
        ("c.yml", "%YAML:1.0\n---\n" + yaml_camera(Rot=None), "camera '1' has no 'Rot_1'"),
        ("c.yml", "%YAML:1.0\n---\n" + yaml_camera(dist=None), "camera '1' has no 'dist_1'"),
        ("c.yml", '%YAML:1.0\n---\nnames: [ "1", "1" ]\n' + yaml_camera(), "camera '1' more than once"),
        ("c.yml", "%YAML:1.0\n---\n" + yaml_camera(Rot=np.zeros((143, 3))), r"shape \(143, 3\).*one pose per camera"),
    ],
)
def test_mistakes(tmp_path, name, text, message):
    path = write(tmp_path / name, text)
    with pytest.raises(TriposeError, match=message) as error:
        read_calibration(path)
    assert str(error.value).startswith(f"{path}: ")
    assert "\n" not in str(error.value).split(": ", 1)[1][:60]


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"K": None}, "camera 'a' has no 'K'"),
        ({"R": np.zeros((143, 3, 1)).tolist()}, r"'R' has shape \(143, 3, 1\).*per-frame board poses"),
        ({"t": np.zeros((143, 3, 1)).tolist()}, r"'t' has shape \(143, 3, 1\).*per-frame board poses"),
        ({"t": [float("nan"), 0, 0]}, "'a': t holds a value that is not finite"),
        ({"K": [[float("nan")] * 3] * 3}, "'a': K holds a value that is not finite"),
        ({"name": None}, "camera number 0 has no 'name'"),
        ({"size_px": [10**400, 1]}, "'size_px' is not an array of numbers"),
    ],
)
def test_mistakes_in_our_json(tmp_path, changes, message):
    with pytest.raises(TriposeError, match=message):
        read_calibration(write_json(tmp_path / "c.json", json_camera(**changes)))


def test_more_mistakes(tmp_path):
    path = tmp_path / "c.json"
    with pytest.raises(TriposeError, match="camera 'a' more than once"):
        read_calibration(write_json(path, json_camera(), json_camera()))
    with pytest.raises(TriposeError, match="format is 'tripose-cameras-9'"):
        read_calibration(write_json(path, format="tripose-cameras-9"))
    with pytest.raises(TriposeError, match="holds no camera"):
        read_calibration(write_json(path))
    with pytest.raises(TriposeError, match="states its unit, 'mm', but it was to be read in 'm'"):
        read_calibration(write_json(path, json_camera()), unit="m")
    with pytest.raises(TriposeError, match="no camera of type 'hd'; the types in the file are kinect-color, vga"):
        read_calibration(panoptic(path, {"type": "vga"}, {"type": "kinect-color"}))
    with pytest.raises(TriposeError, match=r"gone.toml cannot be read: No such file"):
        read_calibration(tmp_path / "gone.toml")
    path.write_bytes(b"\xff\xfe{\x00}\x00")
    with pytest.raises(TriposeError, match="not a text file in UTF-8"):
        read_calibration(path)


# -- real files


@needs_data
def test_qualisys_file_agrees_with_pose2sims_conversion():
    """That conversion divides the distortion by 64 too, which is its mistake: coefficients have no unit."""
    folder = SHARED / "pose2sim_single" / "calibration"
    ours = read_calibration(folder / "Calib_a948c20.qca.txt")
    theirs = read_calibration(folder / "Calib_qualisys_a948c20.toml")
    assert ours.names == theirs.names
    assert ours.size_px.tolist() == theirs.size_px.tolist() == [[1088, 1920]] * 4
    np.testing.assert_allclose(ours.K, theirs.K, rtol=0, atol=1e-4)
    np.testing.assert_allclose(ours.t, theirs.t, rtol=0, atol=1e-3)
    np.testing.assert_allclose(ours.R, theirs.R, rtol=0, atol=1e-7)
    np.testing.assert_allclose(ours.distortion, theirs.distortion * 64, rtol=1e-12)


@needs_data
@pytest.mark.parametrize(
    ("file", "views", "size"),
    [
        ("pose2sim_single/calibration/Calib_scene_eca0229.toml", 4, [1088, 1920]),
        ("zju_lightstage_single", 23, None),
        ("shelf_4dassociation/calibration.json", 5, [1032, 776]),
        ("panoptic_band_mmpose/160906_band1/calibration_160906_band1.json", 31, [1920, 1080]),
        ("panoptic_band_mmpose/160906_band2/calibration_160906_band2.json", 31, [1920, 1080]),
        ("panoptic_171026_pose3_gt/calibration_171026_pose3.json", 31, [1920, 1080]),
    ],
)
def test_real_calibrations_load_and_survive_a_round_trip(tmp_path, file, views, size):
    cameras = read_calibration(SHARED / file)
    assert len(cameras) == views
    assert size is None or cameras.size_px.tolist() == [size] * views
    distance_mm = (cameras.centers_mm - cameras.centers_mm.mean(0)).norm(dim=1)
    assert 800 < distance_mm.min() < distance_mm.max() < 8000  # rooms, not doll's houses
    write_calibration_toml(cameras, tmp_path / "c.toml")
    again = read_calibration(tmp_path / "c.toml")
    # files print rotations with 7 to 10 digits, which a rotation vector cannot keep
    assert_same(again, cameras, rtol=1e-9, atol=2e-6)


@needs_data
def test_panoptic_people_are_inside_the_hd_images():
    data = np.load(SHARED / "panoptic_171026_pose3_gt" / "Panoptic_GT_171026_pose3.npz")
    joints_mm = data["poses"][::200].reshape(-1, 3) * 10
    joints_mm = torch.tensor(joints_mm[(joints_mm != 0).any(1)])
    cameras = read_calibration(SHARED / "panoptic_171026_pose3_gt" / "calibration_171026_pose3.json")
    pixels, in_front = cameras.project(joints_mm)
    inside = in_front & (pixels > 0).all(-1) & (pixels < cameras.size_px[:, None]).all(-1)
    assert inside.double().mean() > 0.9


@needs_data
def test_zju_landmarks_agree_between_views():
    """Weighted DLT of the detected landmarks reprojects with a median below 12 px, as the data's own check asks."""
    folder = SHARED / "zju_lightstage_single"
    names = ["1", "5", "13", "21"]
    rig = read_calibration(folder, sizes_px=dict.fromkeys(names, (1024, 1024))).select(names)
    assert rig.size_px.tolist() == [[1024, 1024]] * 4
    body = [11, 12, 13, 14, 15, 16, 23, 24, 25, 26, 27, 28]
    keypoints = np.nan_to_num(np.load(folder / "mediapipe_2d.npz")["keypoints"].astype(float)[:, ::20, body])
    pixels = torch.tensor(keypoints[..., :2]).reshape(4, -1, 2)
    weight = torch.tensor(np.where(keypoints[..., 2] > 0.5, keypoints[..., 2], 0)).reshape(4, -1, 1)
    P = rig.P[:, None]
    ideal = rig.undistort(pixels).nan_to_num()
    rows = [weight * (ideal[..., k, None] * P[..., 2, :] - P[..., k, :]) for k in (0, 1)]
    solution = torch.linalg.svd(torch.cat(rows).transpose(0, 1))[2][:, -1]
    points_mm = solution[:, :3] / solution[:, 3:]
    again, _ = rig.project(points_mm)
    seen = (weight[..., 0] > 0) & ((weight[..., 0] > 0).sum(0) >= 2)
    error = (again - pixels).norm(dim=-1)[seen]
    assert error.nanmedian() < 12
    assert 800 < points_mm[:, 2].nanmedian() < 1400  # metres, z up, the floor at 0


@needs_data
def test_easymocap_pair_in_a_folder_beyond_ascii(tmp_path):
    folder = tmp_path / "动作 捕捉 é"
    folder.mkdir()
    for name in ("intri.yml", "extri.yml"):
        shutil.copyfile(SHARED / "zju_lightstage_single" / name, folder / name)
    assert_same(read_calibration(folder), read_calibration(SHARED / "zju_lightstage_single"), rtol=0, atol=0)
