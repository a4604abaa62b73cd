"""netCDF: nothing gets lost, and files of other programs are read."""

from __future__ import annotations

import tempfile
from pathlib import Path

import numpy as np
import pytest
import xarray as xr
from hypothesis import given, settings
from hypothesis import strategies as st
from hypothesis.extra.numpy import arrays

from tripose.errors import TriposeError
from tripose.formats.netcdf import read_netcdf, write_netcdf
from tripose.pose import Pose3D
from tripose.skeleton import COCO17, Skeleton

names = st.text(st.characters(codec="utf-8", exclude_characters="\0"), min_size=1, max_size=12)
numbers = st.floats(width=64)


@st.composite
def any_poses(draw: st.DrawFn) -> Pose3D:
    frames, people, views = (draw(st.integers(0, 3)) for _ in range(3))
    joints = tuple(draw(st.lists(names, min_size=1, max_size=4, unique=True)))
    shape = (frames, people, len(joints))
    joint = st.sampled_from(joints)
    skeleton = Skeleton(
        draw(names), joints, tuple(draw(st.lists(st.tuples(joint, joint), max_size=3))), draw(st.none() | joint)
    )

    def maybe(dtype: type, size: tuple[int, ...]) -> np.ndarray | None:
        elements = numbers if dtype is np.float64 else None
        return draw(st.none() | arrays(dtype, size, elements=elements))

    return Pose3D(
        position_mm=draw(arrays(np.float64, (*shape, 3), elements=numbers)),
        confidence=draw(arrays(np.float64, shape, elements=numbers)),
        skeleton=skeleton,
        fps=draw(st.floats(1, 1000)),
        persons=tuple(draw(st.lists(names, min_size=people, max_size=people, unique=True))),
        views=tuple(draw(st.lists(names, min_size=views, max_size=views, unique=True))),
        n_views=maybe(np.int64, shape),
        reprojection_px=maybe(np.float64, (frames, views, people, len(joints))),
        covariance_mm2=maybe(np.float64, (*shape, 3, 3)),
        up=draw(st.sampled_from([None, "x", "y", "z", "-x", "-y", "-z"])),
        notes=draw(st.dictionaries(st.text(max_size=9), st.text(max_size=30), max_size=3)),
    )


@settings(max_examples=25, deadline=None)
@given(any_poses())
def test_every_field_comes_back(poses: Pose3D) -> None:
    with tempfile.TemporaryDirectory() as folder:
        poses.save(Path(folder) / "a.nc")
        again = Pose3D.load(Path(folder) / "a.nc")
    for field in ("position_mm", "confidence", "n_views", "reprojection_px", "covariance_mm2"):
        expected, got = getattr(poses, field), getattr(again, field)
        if expected is None:
            assert got is None
        else:
            np.testing.assert_array_equal(got, expected, err_msg=field, strict=True)
    for field in ("skeleton", "fps", "persons", "views", "up", "notes"):
        assert getattr(again, field) == getattr(poses, field), field


def test_convention_of_movement(tmp_path: Path) -> None:
    poses = walk()
    write_netcdf(poses, tmp_path / "a.nc")
    with xr.open_dataset(tmp_path / "a.nc", engine="h5netcdf") as file:
        assert file["position"].dims == ("time", "space", "keypoint", "individual")
        assert file["confidence"].dims == ("time", "keypoint", "individual")
        assert list(file["space"].values) == ["x", "y", "z"]
        assert list(file["keypoint"].values) == list(COCO17.joints)
        assert list(file["individual"].values) == ["ann", "bob"]
        np.testing.assert_allclose(file["time"].values, [0, 0.04, 0.08])
        assert file["time"].dtype == np.float64  # neither dates nor durations
        for name, value in {
            "fps": 25.0,
            "time_unit": "seconds",
            "source_software": "tripose",
            "ds_type": "poses",
            "length_unit": "mm",
        }.items():
            assert file.attrs[name] == value
        one = file["position"].sel(individual="bob", keypoint="left_knee", space="z").values
    np.testing.assert_array_equal(one, poses.position_mm[:, 1, COCO17.index("left_knee"), 2])


def test_long_notes(tmp_path: Path) -> None:
    poses = walk(notes={"log": "x" * 200_000})
    poses.save(tmp_path / "a.nc")
    assert Pose3D.load(tmp_path / "a.nc").notes == poses.notes


@pytest.mark.parametrize("plural", [False, True])
def test_files_of_other_programs(tmp_path: Path, plural: bool) -> None:
    movement().rename({"keypoint": "keypoints", "individual": "individuals"} if plural else {}).to_netcdf(
        tmp_path / "m.nc", engine="h5netcdf"
    )
    poses = read_netcdf(tmp_path / "m.nc", unit="m")
    np.testing.assert_allclose(poses.position_mm[1, 0, 1], movement()["position"].values[1, :, 1, 0] * 1000)
    assert poses.skeleton.name == "DeepLabCut"
    assert poses.skeleton.bones == (("left_hip", "left_knee"),)
    assert (poses.persons, poses.fps, poses.up, poses.n_views) == (("id_0",), 50.0, None, None)
    np.testing.assert_array_equal(poses.confidence, 0.5)


def test_one_confidence_for_all_keypoints(tmp_path: Path) -> None:
    file = movement()
    file["confidence"] = (("time", "individual"), np.array([[0.25], [0.75]]))
    file.to_netcdf(tmp_path / "m.nc", engine="h5netcdf")
    np.testing.assert_array_equal(read_netcdf(tmp_path / "m.nc", "mm").confidence, [[[0.25] * 3], [[0.75] * 3]])


@pytest.mark.parametrize(
    ("change", "message"),
    [
        (lambda f: f, r"m\.nc does not say its length unit: pass unit='mm', 'cm' or 'm'"),
        (lambda f: f.assign_attrs(length_unit="furlong"), r"m\.nc: the length unit 'furlong' is unknown"),
        (lambda f: f.drop_vars("position"), r"m\.nc has no variable 'position'"),
        (lambda f: f.isel(space=[0, 1]).assign_attrs(length_unit="mm"), r"m\.nc holds positions in 2 dimensions"),
        (lambda f: f.drop_attrs().assign_attrs(length_unit="mm"), r"m\.nc does not say its frame rate"),
        (lambda f: f.isel(individual=0).assign_attrs(length_unit="mm"), r"m\.nc: 'position' has no dimension 'indiv"),
    ],
)
def test_mistakes_are_explained(tmp_path: Path, change: object, message: str) -> None:
    change(movement()).to_netcdf(tmp_path / "m.nc", engine="h5netcdf")  # type: ignore[operator]
    with pytest.raises(TriposeError, match=message):
        read_netcdf(tmp_path / "m.nc")


def test_files_that_are_none(tmp_path: Path) -> None:
    with pytest.raises(TriposeError, match=r"there is no file .*none\.nc"):
        read_netcdf(tmp_path / "none.nc")
    walk().save(tmp_path / "whole.nc")
    whole = (tmp_path / "whole.nc").read_bytes()
    for content in (b"", b"CDF\x01 an old format", whole[:200], whole[: len(whole) // 2]):
        (tmp_path / "bad.nc").write_bytes(content)
        with pytest.raises(TriposeError, match=r"bad\.nc cannot be read as netCDF-4"):
            read_netcdf(tmp_path / "bad.nc")


def walk(**changes: object) -> Pose3D:
    rng = np.random.default_rng(0)
    position = rng.normal(0, 1000, (3, 2, 17, 3))
    position[1, 0, 4] = np.nan
    return Pose3D(position, rng.random((3, 2, 17)), COCO17, 25.0, persons=("ann", "bob"), **changes)  # type: ignore[arg-type]


def movement() -> xr.Dataset:
    """What `movement.io.load_poses.from_numpy` makes."""
    position = np.random.default_rng(1).normal(size=(2, 3, 3, 1))
    return xr.Dataset(
        {
            "position": (("time", "space", "keypoint", "individual"), position),
            "confidence": (("time", "keypoint", "individual"), np.full((2, 3, 1), 0.5)),
        },
        coords={
            "time": [0.0, 0.02],
            "space": ["x", "y", "z"],
            "keypoint": ["left_hip", "left_knee", "tail"],
            "individual": ["id_0"],
        },
        attrs={"source_software": "DeepLabCut", "ds_type": "poses", "fps": 50.0, "time_unit": "seconds"},
    )
