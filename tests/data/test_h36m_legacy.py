"""Files of the published code are read without running them, in every dialect of pickle, and bad ones are named."""

from __future__ import annotations

import collections
import os
import pickle
import pickletools
import random

import numpy as np
import pytest
import torch

from golden import FOLDER, golden
from tripose.data.human36m import pickles
from tripose.data.human36m.legacy import read_labels, read_results, write_results
from tripose.data.human36m.lens import opencv_coefficients
from tripose.data.human36m.pickles import array_of, read_pickle
from tripose.errors import TriposeError

NAMES = {
    "subject_names": ["S1", "S9"],
    "camera_names": ["54138969", "55011271", "58860488"],
    "action_names": ["Posing-1", "Posing-2"],
}
CAMERA = np.dtype([("R", "f4", (3, 3)), ("t", "f4", (3, 1)), ("K", "f4", (3, 3)), ("dist", "f4", (5,))])


def labels(rows=5, views=3):
    """A dictionary in the official layout."""
    table = np.zeros(
        rows,
        [
            ("subject_idx", "i1"),
            ("action_idx", "i1"),
            ("frame_idx", "i2"),
            ("keypoints", "f4", (17, 3)),
            ("bbox_by_camera_tlbr", "i2", (views, 4)),
        ],
    )
    table["subject_idx"], table["action_idx"], table["frame_idx"] = [0, 0, 1, 1, 1], [0, 1, 0, 0, 1], [0, 0, 0, 5, 64]
    table["keypoints"] = np.random.default_rng(0).normal((0, 0, 900), 400, (rows, 17, 3))
    table["bbox_by_camera_tlbr"] = [20, 300, 420, 700]  # top, left, bottom, right
    table["bbox_by_camera_tlbr"][4, 1] = 0
    cameras = np.zeros((2, views), CAMERA)
    cameras["R"], cameras["K"] = [[1, 0, 0], [0, 0, -1], [0, 1, 0]], [[1145, 0, 512], [0, 1143, 515], [0, 0, 1]]
    cameras["t"], cameras["dist"] = [[0], [900], [5000]], [-0.2, 0.24, -0.0014, -0.001, -0.003]
    cameras["t"][..., 0, 0] = np.arange(2 * views).reshape(2, views)
    return {**{key: np.array(value) for key, value in NAMES.items()}, "cameras": cameras, "table": table}


def dumped(path, content, protocol=4, numpy_1=False):
    data = pickle.dumps(content, protocol)
    if numpy_1:
        assert protocol < 4
        data = data.replace(b"cnumpy._core.", b"cnumpy.core.")
    path.write_bytes(data)
    return path


@pytest.fixture
def saved(tmp_path):
    np.save(tmp_path / "labels.npy", labels(), allow_pickle=True)
    return tmp_path / "labels.npy"


# --- Labels -----------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("name", [pytest.param("h36m_labels_synth", marks=golden)])
def test_the_recorded_labels(name):
    read = read_labels(FOLDER / f"{name}.npy", undistorted=True)
    with np.load(FOLDER / f"{name}.npz") as plain:
        content = dict(plain)
    table, cameras = content["table"], content["cameras"]
    for name in ("subject_names", "camera_names", "action_names"):
        assert getattr(read, name) == tuple(content[name].tolist())
    np.testing.assert_array_equal(read.keypoints_mm, table["keypoints"])
    np.testing.assert_array_equal(read.frame, table["frame_idx"])
    np.testing.assert_array_equal(read.subject, content["subject_names"][table["subject_idx"]])
    np.testing.assert_array_equal(read.scene, content["action_names"][table["action_idx"]])
    missing = np.isnan(read.box_px).all(-1)
    assert {*zip(read.subject[missing.any(1)], read.scene[missing.any(1)], strict=True)} == {("S11", "Directions-2")}
    assert missing[:, 0].sum() == missing.sum() > 0
    for rig, row in zip(read.cameras, cameras, strict=True):
        assert rig.names == read.camera_names
        for part in ("R", "K"):
            np.testing.assert_array_equal(getattr(rig, part).numpy(), row[part])
        np.testing.assert_array_equal(rig.t.numpy(), row["t"][..., 0])


def test_parts_of_the_labels(saved):
    read = read_labels(saved, undistorted=True)
    assert len(read) == 5
    assert read.subject.tolist() == ["S1", "S1", "S9", "S9", "S9"]
    assert read.scene.tolist() == ["Posing-1", "Posing-2", "Posing-1", "Posing-1", "Posing-2"]
    assert read.group[1] == "S1/Posing-2"
    assert read.frame.tolist() == [0, 0, 0, 5, 64]
    assert read.box_px[0, 0].tolist() == [300, 20, 700, 420]  # left, upper, right, lower
    assert np.isnan(read.box_px).sum() == 4
    assert np.isnan(read.box_px[4, 1]).all()
    assert [rig.size_px.tolist() for rig in read.cameras] == [[[1000, 1002], [1000, 1000], [1000, 1000]]] * 2
    assert {rig.up for rig in read.cameras} == {"z"}


def test_straightened_images_have_pinholes_and_original_ones_a_lens(saved):
    straight, original = (read_labels(saved, undistorted=u).cameras[1] for u in (True, False))
    assert set(straight.lens) == {"pinhole"}
    k1, k2, p1, p2, k3 = labels()["cameras"]["dist"][1, 0].tolist()
    np.testing.assert_allclose(original.distortion[0, :12], opencv_coefficients((k1, k2, k3), (p1, p2)))
    points = torch.from_numpy(labels()["table"]["keypoints"][0]).double()
    ideal, bent = straight.project(points)[0], original.project(points)[0]
    torch.testing.assert_close(original.distort(ideal), bent)
    assert 0.5 < (ideal - bent).norm(dim=-1).max() < 50


@pytest.mark.parametrize(("protocol", "numpy_1"), [*((p, False) for p in range(6)), *((p, True) for p in range(4))])
def test_every_dialect(tmp_path, protocol, numpy_1):
    """Protocol 2 and NumPy 1 in 2019, protocol 4 and NumPy 2 now; 5 is coming."""
    content = labels()
    content["cameras"] = np.asfortranarray(content["cameras"])
    read = read_pickle(dumped(tmp_path / "labels.npy", content, protocol, numpy_1))
    for name, value in labels().items():
        made = array_of(read, name, tmp_path)
        assert made.dtype == value.dtype
        np.testing.assert_array_equal(made, value)
    assert len(read_labels(tmp_path / "labels.npy", undistorted=True)) == 5


def test_names_may_be_lists(tmp_path):
    path = dumped(tmp_path / "labels.npy", {**labels(), **NAMES})
    assert read_labels(path, undistorted=True).action_names == ("Posing-1", "Posing-2")
    objects = {key: np.array(value, dtype=object) for key, value in NAMES.items()}
    assert read_labels(dumped(path, {**labels(), **objects}), undistorted=True).subject_names == ("S1", "S9")


def changed(column, value):
    content = labels()
    content["table"][column] = value
    return content


def without(*columns):
    content = labels()
    names = [name for name in content["table"].dtype.names if name not in columns]
    return {**content, "table": np.array(content["table"][names].tolist(), content["table"][names].dtype)}


def bad_camera():
    content = labels()
    content["cameras"]["R"][1, 2] *= 2
    return content


@pytest.mark.parametrize(
    ("content", "message"),
    [
        ({k: v for k, v in labels().items() if k != "cameras"}, "has no entry 'cameras'; it has 'subject_names'"),
        ({**labels(), "table": labels()["table"]["keypoints"]}, r"table is \[5, 17, 3\] float32, not a table"),
        (without("frame_idx"), "table has no column 'frame_idx'; it has subject_idx, action_idx, keypoints"),
        (
            {**labels(), "camera_names": ["a", "b"]},
            r"'bbox_by_camera_tlbr' of table is \[5, 3, 4\].*\[5, 2, 4\] numbers",
        ),
        ({**labels(), "camera_names": ["a", "b", "a"]}, "camera_names are not different names"),
        (
            {**labels(), "cameras": labels()["cameras"][:1]},
            r"the cameras are \[1, 3\], but there are 2 subjects, 3 views",
        ),
        (changed("action_idx", [0, 1, 0, 2, 0]), "a row is of action 2, but there are only 2"),
        (changed("subject_idx", -1), "a row is of subject -1"),
        (bad_camera(), "labels.npy, subject S9: calibration of camera '58860488': R is not a rotation"),
        ([labels()], "does not hold a dictionary"),
        ({1: labels()}, "does not hold a dictionary with names"),
    ],
)
def test_labels_that_are_not_whole_are_refused(tmp_path, content, message):
    with pytest.raises(TriposeError, match=message):
        read_labels(dumped(tmp_path / "labels.npy", content), undistorted=True)


def test_other_files_are_refused(tmp_path):
    path = tmp_path / "labels.npy"
    with pytest.raises(TriposeError, match=r"labels\.npy: there is no such file"):
        read_labels(path, undistorted=True)
    np.save(path, np.zeros((3, 4)))
    with pytest.raises(TriposeError, match="holds an array of float64, not a dictionary"):
        read_labels(path, undistorted=True)
    path.write_bytes(b"")
    with pytest.raises(TriposeError, match="is no pickle, or damaged, or not complete"):
        read_labels(path, undistorted=True)


def test_damaged_files_are_refused_and_nothing_else_happens(saved):
    whole = saved.read_bytes()
    for length in range(0, len(whole) - 1, 37):
        saved.write_bytes(whole[:length])
        with pytest.raises(TriposeError, match=r"labels\.npy"):
            read_labels(saved, undistorted=True)
    for seed in range(300):
        dice = random.Random(seed)
        flipped = bytearray(whole)
        for _ in range(3):
            flipped[dice.randrange(128, len(whole))] = dice.randrange(256)
        saved.write_bytes(flipped)
        try:
            read_labels(saved, undistorted=False)
        except TriposeError as error:
            assert "labels.npy" in str(error)  # noqa: PT017


# --- Pickles that want to run something -------------------------------------------------------------------------------


class Runs:
    """Pickled as a call."""

    def __init__(self, function, *arguments):
        self.call = function, arguments

    def __reduce__(self):
        return self.call


def shell(path):
    return f"touch {path}"


@pytest.mark.parametrize("protocol", range(6))
@pytest.mark.parametrize("where", ["alone", "value", "key", "in a list", "in an array", "in a defaultdict"])
def test_nothing_is_run(tmp_path, protocol, where):
    mark = tmp_path / "was_run"
    attack = Runs(os.system, shell(mark))
    boxed = np.empty(1, dtype=object)
    boxed[0] = attack
    content = {
        "alone": attack,
        "value": {**labels(), "more": attack},
        "key": {(1, attack): 1},
        "in a list": {**labels(), "table": [labels()["table"], [attack]]},
        "in an array": {"table": boxed},
        "in a defaultdict": collections.defaultdict(list, {"keypoints_3d": [attack]}),
    }[where]
    path = dumped(tmp_path / "evil.npy", content, protocol)
    for read in (lambda: read_labels(path, undistorted=True), lambda: read_results(path)):
        with pytest.raises(TriposeError, match=r"evil\.npy asks for the Python object (posix|nt)\.system, which could"):
            read()
    assert not mark.exists()
    pickle.loads(pickle.dumps(attack))  # it would have been
    assert mark.exists()


@pytest.mark.parametrize("function", [eval, exec, getattr, np.load, np.fromfile, np.frombuffer, pickle.loads, Runs])
def test_functions_are_named_and_refused(tmp_path, function):
    path = dumped(tmp_path / "evil.npy", {"table": Runs(function, "1 + 1")})
    with pytest.raises(TriposeError, match=rf"asks for the Python object [\w.]+\.{function.__name__}, which"):
        read_pickle(path)


@pytest.mark.parametrize(
    "program",
    [
        b"cos\nsystem\n(S'true'\ntR.",
        b"(S'true'\nios\nsystem\n.",  # INST
        b"(cos\nsystem\nS'true'\no.",  # OBJ
        b"c__builtin__\neval\n(S'1'\ntR.",  # as Python 2 called it
        b"\x80\x04\x8c\x05numpy\x8c\x0edtype.__init__\x93.",  # a way through a name that is allowed
        b"\x80\x04\x8c\x05numpy\x8c\x0dndarray.dumps\x93.",
        b"\x80\x02\x82\x01.",  # by a number
        b"Psomething\n.",  # a persistent name
        b"cnumpy\ndtype\n}(S'_make'\ncos\nsystem\nub.",
    ],
)
def test_written_by_hand(tmp_path, program):
    path = tmp_path / "evil.pkl"
    path.write_bytes(program)
    assert list(pickletools.genops(program))
    with pytest.raises(TriposeError, match=r"evil\.pkl"):
        read_pickle(path)


def test_a_pickle_cannot_change_what_the_next_is_read_with(tmp_path, saved):
    before = dict(pickles._ALLOWED)
    for name in ("dtype", "ndarray"):
        program = b"cnumpy\n" + name.encode() + b"\n(N}S'_make'\nS'abs'\nstb."
        (tmp_path / "evil.pkl").write_bytes(program)
        with pytest.raises(TriposeError):
            read_pickle(tmp_path / "evil.pkl")
    assert before == pickles._ALLOWED
    assert len(read_labels(saved, undistorted=True)) == 5


class Told:
    """Pickled as an array that is described by hand."""

    def __init__(self, shape, dtype, content):
        self.told = 1, shape, dtype, False, content

    def __reduce__(self):
        return np.zeros(0).__reduce__()[0], (np.ndarray, (0,), b"b"), self.told


class ToldType:
    """Pickled as a data type that is described by hand."""

    def __init__(self, spec, *told):
        self.spec, self.told = spec, told

    def __reduce__(self):
        return np.dtype, (self.spec, False, True), (3, "<", *self.told)


F8 = ToldType("f8", None, None, None, -1, -1, 0)
POINTER = ToldType("O8", None, None, None, -1, -1, 0)  # without the flag that it holds objects


@pytest.mark.parametrize(
    "told",
    [
        Told((1,), POINTER, b"\x41" * 8),
        Told((1,), ToldType("V8", None, ("a",), {"a": (POINTER, 0)}, 8, 1, 0), b"\x41" * 8),
        Told((1,), ToldType("V8", (POINTER, (1,)), None, None, 8, 1, 0), b"\x41" * 8),
        Told((1,), ToldType("V8", None, ("a",), {"a": (F8, 64)}, 8, 1, 0), b"\x41" * 8),  # outside of itself
        Told((1,), ToldType("V8", None, None, None, 8, 1, 0), b"\x41" * 8),
        Told((1000,), F8, b"\x41" * 8),
        Told((1,), F8, b"\x41" * 16),
        Told((-1,), F8, b""),
        Told((2**62, 4), F8, b""),
        Told("no shape", F8, b"\x41" * 8),
        Told((1,), "f8", b"\x41" * 8),
        Told((2,), POINTER, [1]),
        Told((), F8, [1]),
    ],
)
def test_forged_arrays_are_refused(tmp_path, told):
    """NumPy itself would take the bytes of the first three for addresses of objects."""
    path = dumped(tmp_path / "evil.pkl", {"table": told})
    with pytest.raises(TriposeError, match=r"evil\.pkl: the entry 'table' is no array"):
        array_of(read_pickle(path), "table", path)


# --- Predictions ------------------------------------------------------------------------------------------------------


def found(rows=6, joints=17):
    return np.random.default_rng(1).normal(0, 500, (rows, joints, 3)).astype(np.float32)


def official_results(keypoints, index):
    results = collections.defaultdict(list)
    results["keypoints_3d"], results["indexes"] = keypoints, index
    return results


ORDER = [3, 0, 5, 1, 4, 2]


@pytest.mark.parametrize("protocol", range(6))
@pytest.mark.parametrize("form", ["arrays", "lists of arrays", "lists of lists", "list of numbers"])
def test_predictions_come_in_the_order_of_the_rows(tmp_path, protocol, form):
    parts = [found()[ORDER[:4]], found()[ORDER[4:]]]
    keypoints, index = {
        "arrays": (np.concatenate(parts), np.array(ORDER)),
        "lists of arrays": (parts, [np.array(ORDER[:4]), np.array(ORDER[4:])]),
        "lists of lists": (parts, [ORDER[:4], ORDER[4:]]),
        "list of numbers": (parts, [np.int64(i) for i in ORDER]),
    }[form]
    path = dumped(tmp_path / "results.pkl", official_results(keypoints, index), protocol)
    np.testing.assert_array_equal(read_results(path), found())
    np.testing.assert_array_equal(read_results(path, rows=6), found())


@pytest.mark.parametrize(
    ("index", "rows", "message"),
    [
        (ORDER, 7, "predictions for 6 rows, but the labels have 7: they were made for another split"),
        ([3, 0, 5, 1, 4, 4], 6, "more than one prediction for row 4"),
        ([3, 0, 6, 1, 4, 2], 6, "one prediction is for row 6, but there are 6 predictions"),
        ([3, 0, -1, 1, 4, 2], None, "one prediction is for row -1"),
        (ORDER[:5], None, r"indexes are \[5\] int64, but there are predictions for 6 rows"),
        (np.array(ORDER) / 2, None, r"indexes are \[6\] float64"),
        ([], None, r"indexes are \[0\]"),
    ],
)
def test_predictions_that_are_not_one_for_each_row_are_refused(tmp_path, index, rows, message):
    path = dumped(tmp_path / "results.pkl", official_results(found(), index))
    with pytest.raises(TriposeError, match=message):
        read_results(path, rows)


@pytest.mark.parametrize(
    ("content", "message"),
    [
        ({"indexes": ORDER}, "has no entry 'keypoints_3d'; it has 'indexes'"),
        ({"keypoints_3d": found(), "index": ORDER}, "has no entry 'indexes'"),
        ({"keypoints_3d": found()[..., :2], "indexes": ORDER}, r"keypoints_3d are \[6, 17, 2\] float32, not positions"),
        ({"keypoints_3d": [found(), found(joints=16)], "indexes": ORDER}, "'keypoints_3d' is no array, nor a list of"),
        ({"keypoints_3d": {"a": 1}, "indexes": ORDER}, "'keypoints_3d' is no array"),
        ({"keypoints_3d": [[[found()]]], "indexes": ORDER}, "a list in a list"),
        ({"keypoints_3d": np.array([None]), "indexes": ORDER}, "'keypoints_3d' is no array"),
        ({}, "it has none"),
    ],
)
def test_other_results_are_refused(tmp_path, content, message):
    with pytest.raises(TriposeError, match=message):
        read_results(dumped(tmp_path / "results.pkl", content))


def test_what_is_written_is_read(tmp_path):
    path = tmp_path / "results.pkl"
    keypoints = found().astype(np.float64)
    keypoints[2, 3] = np.nan
    write_results(path, keypoints)
    np.testing.assert_array_equal(read_results(path, rows=6), keypoints.astype(np.float32))
    assert [p.name for p in tmp_path.iterdir()] == ["results.pkl"]
    with pytest.raises(TriposeError, match="there is no folder"):
        write_results(tmp_path / "none" / "results.pkl", keypoints)


@pytest.mark.filterwarnings("ignore:numpy.core is deprecated:DeprecationWarning")
def test_the_published_code_reads_what_is_written(tmp_path):
    """By the same calls; and NumPy 1 knows all that the pickle asks for."""
    path = tmp_path / "results.pkl"
    write_results(path, found())
    results = np.load(path, allow_pickle=True)
    keypoints = results["keypoints_3d"][np.argsort(results["indexes"])]
    assert keypoints.dtype == np.float32
    np.testing.assert_array_equal(keypoints, found())
    asked = {arg for op, arg, _ in pickletools.genops(path.read_bytes()) if op.name == "GLOBAL"}
    assert asked == {"numpy.core.multiarray _reconstruct", "numpy ndarray", "numpy dtype"}
