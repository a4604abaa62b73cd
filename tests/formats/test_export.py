"""`export`: what each file says, read back by other libraries, and how it fails."""

from __future__ import annotations

import csv
import json
import os
import sys
import tempfile
import warnings
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from jaxtyping import TypeCheckError

from tripose.errors import TriposeError
from tripose.formats import c3d as c3d_module
from tripose.formats.export import export
from tripose.formats.trc import write_trc
from tripose.formats.writing import turn_up
from tripose.pose import Pose3D
from tripose.skeleton import COCO17, custom

DATA = Path(__file__).resolve().parents[2].parent / "shared" / "data"
ALL_SUFFIXES = (".nc", ".trc", ".c3d", ".csv", ".parquet", ".json")


def example(frames: int = 6, people: int = 1, fps: float = 29.97, **changes: object) -> Pose3D:
    """Poses within some metres of the origin of which about a fifth is missing, and surely the last joint at first."""
    rng = np.random.default_rng(0)
    shape = (frames, people, len(COCO17))
    missing = rng.random(shape) < 0.2
    missing[0, :, -1] = True
    position = rng.uniform(-4000, 4000, (*shape, 3))
    position[missing] = np.nan
    root = rng.normal(size=(*shape, 3, 3))
    covariance = root @ root.swapaxes(-1, -2)
    covariance[missing] = np.nan
    reprojection = rng.uniform(0, 5, (frames, 2, people, len(COCO17)))
    reprojection[:, 1, :, 0] = np.nan
    reprojection[:, :, :, 1] = np.nan
    reprojection[1, 1, :, 2] = np.inf  # behind the camera
    poses = Pose3D(
        position_mm=position,
        confidence=np.where(missing, np.nan, rng.random(shape)),
        skeleton=COCO17,
        fps=fps,
        persons=tuple(f"person_{i}" for i in range(people)),
        views=("left", "right"),
        n_views=np.where(missing, 0, 2),
        reprojection_px=reprojection,
        covariance_mm2=covariance,
        up="z",
        notes={"method": "ransac"},
    )
    return replace(poses, **changes)  # type: ignore[arg-type]


# --- TRC ---


def read_trc(path: Path) -> tuple[list[str], np.ndarray]:
    """The header lines, and one row per frame: number, time, and x y z of every marker."""
    lines = path.read_text().split("\n")
    assert lines[5] == ""
    assert lines[-1] == ""
    # a blank last cell would be lost without the tab at the end of the row
    rows = [line.removesuffix("\t").split("\t") for line in lines[6:-1]]
    return lines[:5], np.array([[float(cell or "nan") for cell in row] for row in rows])


def test_trc_header_is_the_field_s(tmp_path: Path) -> None:
    poses = example(frames=2, fps=60.0, skeleton=custom("two", ["left_knee", "right_knee"]), **small(2, 2))
    [path] = export(poses, tmp_path / "walk.trc")
    assert read_trc(path)[0] == [
        "PathFileType\t4\t(X/Y/Z)\twalk.trc",
        "DataRate\tCameraRate\tNumFrames\tNumMarkers\tUnits\tOrigDataRate\tOrigDataStartFrame\tOrigNumFrames",
        "60\t60\t2\t2\tm\t60\t1\t2",
        "Frame#\tTime\tleft_knee\t\t\tright_knee\t\t\t",
        "\t\tX1\tY1\tZ1\tX2\tY2\tZ2\t",
    ]


@pytest.mark.parametrize(("unit", "mm"), [("m", 1000.0), ("mm", 1.0)])
def test_trc_values(tmp_path: Path, unit: str, mm: float) -> None:
    poses = example()
    [path] = export(poses, tmp_path / "walk.trc", unit=unit)
    header, table = read_trc(path)
    assert header[2].split("\t")[4] == unit
    np.testing.assert_array_equal(table[:, 0], np.arange(1, 7))
    np.testing.assert_allclose(table[:, 1], np.arange(6) / 29.97, atol=1e-8)
    expected = poses.position_mm[:, 0][..., [1, 2, 0]]  # z up to y up
    assert np.isnan(expected).any()
    np.testing.assert_allclose(table[:, 2:].reshape(expected.shape) * mm, expected, atol=1e-4)


def test_trc_of_several_persons(tmp_path: Path) -> None:
    poses = example(people=2)
    files = export(poses, tmp_path / "walk.trc")
    assert files == [tmp_path / "walk_person_0.trc", tmp_path / "walk_person_1.trc"]
    assert sorted(tmp_path.iterdir()) == files
    assert files[1].read_text().startswith("PathFileType\t4\t(X/Y/Z)\twalk_person_1.trc\n")
    np.testing.assert_allclose(
        read_trc(files[1])[1][:, 2:].reshape(6, 17, 3), poses.position_mm[:, 1][..., [1, 2, 0]] / 1000, atol=1e-7
    )
    assert export(poses, tmp_path / "one.trc", person="person_1") == [tmp_path / "one.trc"]
    assert (tmp_path / "one.trc").read_text().split("\n")[5:] == files[1].read_text().split("\n")[5:]


def test_trc_agrees_with_pose2sim(tmp_path: Path) -> None:
    """A TRC of Pose2Sim, taken to its z-up world and written again, is the same table."""
    folder = DATA / "pose2sim_single" / "pose-3d"
    if not folder.is_dir():
        pytest.skip("shared data is not here")
    lines = (folder / "S00_P00_T01_BalancingTrial_0-100.trc").read_text().splitlines()
    names = lines[3].split("\t")[2::3]
    theirs = np.array([[float(c or "nan") for c in line.split("\t")] for line in lines[5:] if line.strip()])
    names = [name for name in names if name]
    file_m = theirs[:, 2 : 2 + 3 * len(names)].reshape(len(theirs), len(names), 3)
    world_mm = file_m[..., [2, 0, 1]] * 1000  # Pose2Sim: world x y z = z x y of the file
    poses = Pose3D(world_mm[:, None], np.ones((len(theirs), 1, len(names))), custom("p2s", names), 60.0, up="z")
    [path] = export(poses, tmp_path / "again.trc")
    header, table = read_trc(path)
    assert header[3].split("\t")[2::3][: len(names)] == names
    np.testing.assert_allclose(table[:, 2:].reshape(file_m.shape), file_m, atol=1e-6)


def small(frames: int, joints: int) -> dict[str, object]:
    return {
        "position_mm": np.ones((frames, 1, joints, 3)),
        "confidence": np.ones((frames, 1, joints)),
        "n_views": None,
        "reprojection_px": None,
        "covariance_mm2": None,
    }


# --- C3D ---


@pytest.mark.parametrize(("people", "fps"), [(1, 50.0), (2, 29.97), (16, 30000 / 1001)])
def test_c3d_read_by_ezc3d_and_c3d(tmp_path: Path, people: int, fps: float) -> None:
    ezc3d, c3d = pytest.importorskip("ezc3d"), pytest.importorskip("c3d")
    poses = example(people=people, fps=fps)
    [path] = export(poses, tmp_path / "walk.c3d")
    missing = np.isnan(poses.position_mm[..., 0])
    assert missing.any()

    file = ezc3d.c3d(str(path))
    point = file["parameters"]["POINT"]
    labels = [label for key in ("LABELS", "LABELS2") if key in point for label in point[key]["value"]]
    assert labels[0] == ("nose" if people == 1 else "person_0:nose")
    assert labels[-1] == ("right_ankle" if people == 1 else f"person_{people - 1}:right_ankle")
    assert len(labels) == people * 17
    assert point["UNITS"]["value"][0] == "mm"
    assert point["RATE"]["value"][0] == pytest.approx(fps, rel=1e-7)
    xyz = file["data"]["points"][:3].transpose(2, 1, 0).reshape(poses.position_mm.shape)
    np.testing.assert_allclose(xyz, poses.position_mm, atol=1e-3)  # NaN where NaN
    residuals = file["data"]["meta_points"]["residuals"][0].T.reshape(missing.shape)
    np.testing.assert_array_equal(residuals, np.where(missing, -1, 0))

    with path.open("rb") as handle, warnings.catch_warnings():
        warnings.simplefilter("ignore")  # "No analog data found in file."
        reader = c3d.Reader(handle)
        assert reader.point_rate == pytest.approx(fps, rel=1e-7)
        frames = np.array([points for _, points, _ in reader.read_frames(copy=True)])
        assert [label.strip() for label in reader.point_labels[:2]] == labels[:2]
    np.testing.assert_array_equal(frames[..., 3].reshape(missing.shape) < 0, missing)
    xyz = frames[..., :3].reshape(poses.position_mm.shape)
    np.testing.assert_allclose(xyz[~missing], poses.position_mm[~missing], atol=1e-3)


def test_c3d_counts_frames_up_to_its_limit(tmp_path: Path) -> None:
    ezc3d = pytest.importorskip("ezc3d")
    one = custom("one", ["nose"])
    longest = example(skeleton=one, **small(c3d_module.MAX_FRAMES, 1))
    export(longest, tmp_path / "long.c3d")
    assert ezc3d.c3d(str(tmp_path / "long.c3d"))["data"]["points"].shape[-1] == 65535
    for frames in (0, 65536):
        with pytest.raises(
            TriposeError, match=f"too.c3d: a C3D file holds 1 to 65535 frames and the poses have {frames}"
        ):
            export(example(skeleton=one, **small(frames, 1)), tmp_path / "too.c3d")


# --- tables ---


def test_csv(tmp_path: Path) -> None:
    poses = example(people=2)
    [path] = export(poses, tmp_path / "walk.csv")
    with path.open(newline="") as file:
        rows = list(csv.DictReader(file))
    assert len(rows) == 6 * 2 * 17
    assert list(rows[0])[:6] == ["frame", "time_s", "person", "joint", "x_mm", "y_mm"]
    assert list(rows[0])[6:10] == ["z_mm", "confidence", "n_views", "reprojection_px"]
    assert list(rows[0])[10:] == ["sigma_x_mm", "sigma_y_mm", "sigma_z_mm"]
    for time, person, joint in ((0, 0, 16), (3, 1, 0), (5, 1, 16)):
        row = rows[(time * 2 + person) * 17 + joint]
        assert (row["frame"], row["person"], row["joint"]) == (str(time), f"person_{person}", COCO17.joints[joint])
        assert float(row["time_s"]) == pytest.approx(time / 29.97, abs=1e-6)
        xyz = [float(row[f"{a}_mm"] or "nan") for a in "xyz"]
        np.testing.assert_allclose(xyz, poses.position_mm[time, person, joint], atol=1e-4)
        assert int(row["n_views"]) == poses.n_views[time, person, joint]
        sigma_y = np.sqrt(poses.covariance_mm2[time, person, joint, 1, 1])
        assert float(row["sigma_y_mm"] or "nan") == pytest.approx(sigma_y, abs=1e-4, nan_ok=True)
    missing = rows[16]
    assert [missing[key] for key in ("x_mm", "y_mm", "z_mm", "confidence", "sigma_x_mm")] == [""] * 5
    assert float(rows[0]["reprojection_px"]) == pytest.approx(poses.reprojection_px[0, 0, 0, 0], abs=1e-4)  # one view
    assert rows[1]["reprojection_px"] == ""  # no view
    behind = rows[2 * 17 + 2]
    assert float(behind["reprojection_px"]) == pytest.approx(poses.reprojection_px[1, 0, 0, 2], abs=1e-4)
    assert float(rows[2]["reprojection_px"]) == pytest.approx(poses.reprojection_px[0, :, 0, 2].mean(), abs=1e-4)


@given(st.lists(st.text(st.characters(codec="utf-8", exclude_characters="\0")), min_size=2, max_size=2, unique=True))
def test_csv_quotes_any_name(names: list[str]) -> None:
    with tempfile.TemporaryDirectory() as folder:
        [path] = export(example(frames=2, skeleton=custom("any", names), **small(2, 2)), Path(folder) / "walk.csv")
        with path.open(newline="", encoding="utf-8") as file:
            assert [row[3] for row in csv.reader(file)][1:] == names * 2


def test_parquet(tmp_path: Path) -> None:
    parquet = pytest.importorskip("pyarrow.parquet")
    poses = example(people=2)
    [path] = export(poses, tmp_path / "walk.parquet")
    table = parquet.read_table(path)
    about = {key.decode(): value.decode() for key, value in table.schema.metadata.items()}
    assert about["length_unit"] == "mm"
    assert float(about["fps"]) == 29.97
    assert about["up"] == "z"
    assert about["skeleton"] == "coco17"
    assert json.loads(about["notes"]) == {"method": "ransac"}
    assert table["x_mm"].null_count == np.isnan(poses.position_mm[..., 0]).sum() > 0
    np.testing.assert_array_equal(table["z_mm"].to_numpy(), poses.position_mm[..., 2].ravel())
    assert table["joint"][:17].to_pylist() == list(COCO17.joints)
    assert table["person"][16:18].to_pylist() == ["person_0", "person_1"]
    assert table["n_views"].to_pylist() == poses.n_views.ravel().tolist()


def test_json_is_strict(tmp_path: Path) -> None:
    poses = example(people=2, notes={"warning": "NaN in camera 'left'"})
    [path] = export(poses, tmp_path / "walk.json")
    data = json.loads(path.read_text(), parse_constant=lambda name: pytest.fail(f"{name} is not JSON"))
    assert (data["length_unit"], data["fps"], data["up"], data["skeleton"]) == ("mm", 29.97, "z", "coco17")
    assert data["persons"] == ["person_0", "person_1"]
    assert data["notes"] == poses.notes
    assert data["position_mm"][0][0][16] == [None, None, None]
    np.testing.assert_allclose(np.array(data["position_mm"], dtype=float), poses.position_mm, atol=1e-4)
    assert np.array(data["n_views"]).shape == (6, 2, 17)
    [bare] = export(replace(poses, covariance_mm2=None), tmp_path / "bare.json")
    assert json.loads(bare.read_text())["sigma_mm"] is None


# --- for every file ---


@pytest.mark.parametrize("suffix", [".nc", ".c3d", ".csv", ".parquet", ".json"])
def test_up_turns_every_file(tmp_path: Path, suffix: str) -> None:
    poses = example()
    export(poses, tmp_path / f"turned{suffix}", up="y")
    export(turn_up(poses, "y"), tmp_path / f"expected{suffix}")
    export(poses, tmp_path / f"kept{suffix}")
    if suffix != ".nc":  # HDF5 files hold no two equal bytes for sure
        turned, expected, kept = ((tmp_path / f"{n}{suffix}").read_bytes() for n in ("turned", "expected", "kept"))
        assert turned == expected != kept
    else:
        np.testing.assert_array_equal(Pose3D.load(tmp_path / "turned.nc").position_mm, turn_up(poses, "y").position_mm)


@pytest.mark.parametrize("suffix", ALL_SUFFIXES)
def test_a_suffix_may_be_in_capitals_and_old_files_are_replaced(tmp_path: Path, suffix: str) -> None:
    path = tmp_path / f"walk{suffix.upper()}"
    path.write_text("old")
    assert export(example(), str(path)) == [path]
    assert path.stat().st_size > 100
    assert list(tmp_path.iterdir()) == [path]
    assert path.stat().st_mode & 0o777 == 0o666 & ~umask()


def umask() -> int:
    mask = os.umask(0)
    os.umask(mask)
    return mask


@pytest.mark.parametrize("suffix", ALL_SUFFIXES)
def test_a_failure_leaves_the_old_file_and_nothing_else(
    tmp_path: Path, suffix: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    path = tmp_path / f"walk{suffix}"
    path.write_text("old")

    def full(*_: object) -> None:
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(os, "replace", full)
    with pytest.raises(TriposeError, match=rf"walk{suffix} cannot be written in .*: No space left on device"):
        export(example(), path)
    assert [p.read_text() for p in tmp_path.iterdir()] == ["old"]


@pytest.mark.parametrize("suffix", ALL_SUFFIXES)
def test_folders_that_cannot_be_written_to(tmp_path: Path, suffix: str, monkeypatch: pytest.MonkeyPatch) -> None:
    with pytest.raises(TriposeError, match=rf"walk{suffix} cannot be written: there is no folder .*nowhere"):
        export(example(), tmp_path / "nowhere" / f"walk{suffix}")
    (tmp_path / f"folder{suffix}").mkdir()
    with pytest.raises(TriposeError, match=rf"folder{suffix} cannot be written"):
        export(example(), tmp_path / f"folder{suffix}")

    def read_only(self: Path, *_: object) -> None:
        raise PermissionError(13, "Permission denied", str(self))

    monkeypatch.setattr(Path, "touch", read_only)  # chmod does not stop root
    with pytest.raises(TriposeError, match=rf"walk{suffix} cannot be written in .*: Permission denied"):
        export(example(), tmp_path / f"walk{suffix}")
    assert [p.name for p in tmp_path.iterdir()] == [f"folder{suffix}"]


@pytest.mark.parametrize(
    ("name", "options", "message"),
    [
        (
            "walk.bvh",
            {},
            r"walk\.bvh: the suffix '\.bvh' is unknown; known are \.trc \.nc \.c3d \.csv \.parquet \.json",
        ),
        ("walk", {}, r"the suffix '' is unknown"),
        ("walk.csv", {"unit": "m"}, r"walk\.csv: a \.csv file is always in mm, not in 'm'"),
        ("walk.c3d", {"person": "bob"}, r"no person 'bob'; they have person_0, person_1"),
    ],
)
def test_mistakes_are_explained(tmp_path: Path, name: str, options: dict[str, str], message: str) -> None:
    with pytest.raises(TriposeError, match=message):
        export(example(people=2), tmp_path / name, **options)  # type: ignore[arg-type]
    assert not list(tmp_path.iterdir())


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"unit": "inch"}, "walk.trc: a TRC file is in 'm' or 'mm', not in 'inch'"),
        ({"up": "up"}, "'up' is no axis that can point up; those are x, y, z, -x, -y, -z"),
        ({"world_up": "down"}, "'down' is no axis that can point up"),
    ],
)
def test_wrong_choices_are_explained(tmp_path: Path, options: dict[str, str], message: str) -> None:
    with pytest.raises((TriposeError, TypeCheckError)) as caught:
        export(example(), tmp_path / "walk.trc", **options)  # type: ignore[arg-type]
    assert isinstance(caught.value, TypeCheckError) or message in str(caught.value)
    assert not list(tmp_path.iterdir())


def test_unknown_up_axis(tmp_path: Path) -> None:
    poses = example(up=None)
    for name, up in (("walk.trc", None), ("walk.csv", "y")):
        with pytest.raises(TriposeError, match=r"do not say which world axis points up.*y up: pass world_up="):
            export(poses, tmp_path / name, up=up)  # type: ignore[arg-type]
    [told] = export(poses, tmp_path / "told.trc", world_up="z")
    [known] = export(example(up="z"), tmp_path / "known.trc")
    assert told.read_text().split("\n")[1:] == known.read_text().split("\n")[1:]


def test_persons_that_cannot_have_a_trc(tmp_path: Path) -> None:
    with pytest.raises(TriposeError, match=r"a TRC file holds one person; choose one of person_0, person_1"):
        write_trc(example(people=2), tmp_path / "walk.trc")
    with pytest.raises(TriposeError, match="choose one of nobody"):
        export(example(people=0), tmp_path / "walk.trc")
    with pytest.raises(TriposeError, match=r"person '\.\./bob' cannot be part of a file name"):
        export(example(people=2, persons=("ann", "../bob")), tmp_path / "walk.trc")
    assert not list(tmp_path.iterdir())


@pytest.mark.parametrize(("suffix", "library"), [(".c3d", "ezc3d"), (".parquet", "pyarrow")])
def test_missing_libraries(tmp_path: Path, suffix: str, library: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, library, None)
    with pytest.raises(TriposeError, match=rf"'{library}'.*pip install 'tripose\[export\]'"):
        export(example(), tmp_path / f"walk{suffix}")
