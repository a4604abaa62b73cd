"""The original files of Human3.6M: what is read is what was written, and what is wrong with a file is said."""

from __future__ import annotations

import io
import shutil
import subprocess
import sys
import tarfile
import time

import h5py
import numpy as np
import pytest
import torch

from data.h36m_files import COLOURS, write_cdf, write_human36m, write_mat
from tripose.data.human36m.boxes import read_boxes
from tripose.data.human36m.originals import BOXES, POSES, VIDEOS, Archive, find_originals
from tripose.data.human36m.poses import read_poses_3d
from tripose.data.human36m.protocol import CAMERAS, original_name
from tripose.data.human36m.rig import read_cameras
from tripose.data.human36m.unpack import unpack, unpacked_bytes
from tripose.errors import TriposeError
from tripose.video import read_frames

SCENES = ("Directions-1", "Directions-2", "TakingPhoto-2")


@pytest.fixture(scope="module")
def miniature(tmp_path_factory):
    return write_human36m(tmp_path_factory.mktemp("h36m"), ("S1", "S11"), SCENES, frames=3)


@pytest.fixture
def tree(miniature, tmp_path):
    """A copy to spoil."""
    return shutil.copytree(miniature.folder, tmp_path / "h36m")


@pytest.fixture
def packed(miniature, tmp_path):
    """The archives of the miniature."""
    folder = tmp_path / "archives"
    folder.mkdir()
    for subject in ("S1", "S11"):
        for kind in (POSES, VIDEOS, BOXES):
            with tarfile.open(folder / kind.archive.format(subject), "w:gz") as tar:
                place = f"{subject}/{kind.folders[0]}"
                tar.add(miniature.folder / place, place)
    return folder


# --- What is written is read -----------------------------------------------------------------------------------------


@pytest.mark.slow
def test_the_whole_miniature_reads_as_written(miniature):
    found = find_originals(miniature.folder)
    assert [files.name for files in found.scenes] == [f"{s}/{n}" for s in ("S1", "S11") for n in SCENES]
    rigs = read_cameras(found.metadata)
    for files in found.scenes:
        poses = read_poses_3d(files.poses)
        np.testing.assert_array_equal(poses, miniature.poses_mm[files.name])
        for view, camera in enumerate(CAMERAS):
            truth = miniature.boxes_px[files.name][:, view]
            if files.name == "S11/Directions-2" and camera == "54138969":
                assert camera not in files.videos
                assert camera not in files.boxes
                assert np.isnan(truth).all()
                continue
            np.testing.assert_array_equal(read_boxes(files.boxes[camera]), truth)
            rig = rigs[files.subject].select([camera])
            points = [rig.project(torch.from_numpy(pose))[0][0].numpy() for pose in poses]
            images = [frame.image for frame in read_frames(files.videos[camera])]
            assert len(images) == len(poses)
            assert images[0].shape[1::-1] == tuple(rigs[files.subject].size_px[view].tolist())
            # The topmost discs, pelvis and right hip: nothing lies over them.
            for image, joints in zip(images, points, strict=True):
                x, y = np.round(joints[0]).astype(int)
                assert np.abs(image[y, x].astype(int) - COLOURS[0]).max() < 40
    assert found.archives == ()


def test_poses_of_an_uncompressed_column_major_double_file(tmp_path):
    import cdflib.cdfwrite

    poses = np.random.default_rng(0).normal(0, 1000, (7, 96))
    # The library writes bytes as they lie.
    columns = np.ascontiguousarray(poses.T).reshape(1, 7, 96)
    file = cdflib.cdfwrite.CDF(tmp_path / "a.cdf", cdf_spec={"Majority": "column_major"})
    file.write_var(
        {"Variable": "Pose", "Data_Type": 45, "Num_Elements": 1, "Rec_Vary": True, "Dim_Sizes": [7, 96]},
        var_data=columns,
    )
    file.close()
    np.testing.assert_array_equal(read_poses_3d(tmp_path / "a.cdf"), poses.reshape(7, 32, 3))


@pytest.mark.parametrize("dense", [False, True])
def test_boxes_are_tight_and_half_open(tmp_path, dense):
    masks = [np.zeros((20, 30), np.uint8) for _ in range(4)]
    masks[0][5:8, 10:12] = 1
    masks[1][0, 0] = 255
    masks[3][:] = 1
    masks[3][3, 4] = 0
    write_mat(tmp_path / "a.mat", masks, dense)
    expected = [[10, 5, 12, 8], [0, 0, 1, 1], [np.nan] * 4, [0, 0, 30, 20]]
    np.testing.assert_array_equal(read_boxes(tmp_path / "a.mat"), expected)


def test_boxes_are_read_one_at_a_time_and_fast(tmp_path):
    """A video has up to 6,000 frames, which are 6 GB of masks; one takes 2 ms."""
    mask = np.zeros((1002, 1000), np.uint8)
    mask[300:700, 400:600] = 1
    write_mat(tmp_path / "a.mat", [mask] * 60)
    start = time.process_time()
    assert (read_boxes(tmp_path / "a.mat") == [400, 300, 600, 700]).all()
    assert (time.process_time() - start) / 60 < 0.02


# --- What is missing -------------------------------------------------------------------------------------------------


def test_what_is_missing_is_said(tree):
    videos = tree / "S1" / "Videos"
    (videos / "Directions 1.54138969.mp4").unlink()
    (videos / "Directions.55011271.mp4").write_bytes(b"")
    (tree / "metadata.xml").unlink()
    shutil.rmtree(tree / "S11" / "MySegmentsMat")
    (tree / "S11" / "MyPoseFeatures" / "D3_Positions" / "Photo.cdf").unlink()
    found = find_originals(tree)
    assert found.metadata is None
    names = [files.name for files in found.scenes]
    assert names == [f"S1/{n}" for n in SCENES] + ["S11/Directions-1", "S11/Directions-2"]
    assert sorted(found.scenes[0].videos) == ["55011271", "58860488", "60457274"]
    assert sorted(found.scenes[1].videos) == ["54138969", "58860488", "60457274"]
    assert found.scenes[3].boxes == {}
    assert found.missing == (
        "there is no metadata.xml, which has the cameras; it is in the data set's code release",
        "S1: 27 files of 3D poses are missing: Discussion 1.cdf, Discussion.cdf, Eating 2.cdf and 24 more",
        "S1: 110 videos are missing: Directions 1.54138969.mp4, Directions.55011271.mp4, Discussion 1.54138969.mp4"
        " and 107 more",
        "S1: 108 files of boxes are missing: Discussion 1.54138969.mat, Discussion 1.55011271.mat,"
        " Discussion 1.58860488.mat and 105 more",
        "S11: 28 files of 3D poses are missing: Discussion 1.cdf, Discussion 2.cdf, Eating 1.cdf and 25 more",
        "S11: 108 videos are missing: Discussion 1.54138969.mp4, Discussion 1.55011271.mp4, Discussion 1.58860488.mp4"
        " and 105 more",
        "S11: there are no files of boxes; they come in Segments_mat_gt_bb_S11.tgz",
        "there is nothing of S5, S6, S7, S8, S9",
    )


def test_other_layouts_are_understood(tree, tmp_path):
    """Deeper down, poses in the folder of a usual script for unpacking, and S1's photos under other subjects' name."""
    deep = tmp_path / "data" / "extracted"
    deep.mkdir(parents=True)
    (tree / "S1").rename(deep / "S1")
    (deep / "S1" / "MyPoseFeatures" / "D3_Positions").rename(deep / "S1" / "Poses_D3_Positions")
    for file in deep.rglob("TakingPhoto*"):
        file.rename(file.with_name(file.name.removeprefix("Taking")))
    found = find_originals(tmp_path / "data", tmp_path / "nowhere", tree)
    assert [files.name for files in found.scenes] == [f"{s}/{n}" for s in ("S1", "S11") for n in SCENES]
    assert len(found.scenes[2].videos) == 4
    assert found.metadata == tree / "metadata.xml"


def test_nothing_of_human36m(tmp_path):
    (tmp_path / "S1").mkdir()
    with pytest.raises(
        TriposeError, match=r"there is nothing of Human3.6M here; expected .* Poses_D3_Positions_S1.tgz"
    ):
        find_originals(tmp_path)
    with pytest.raises(TriposeError, match="there is nothing of Human3"):
        find_originals(tmp_path / "gone")


# --- Archives --------------------------------------------------------------------------------------------------------


def test_archives_unpack_to_what_they_were_made_of(miniature, packed, tmp_path):
    found = find_originals(packed)
    assert len(found.archives) == 6
    assert found.scenes == ()
    # Not a word of what may be in the archives.
    assert [said.split(",")[0] for said in found.missing] == ["there is no metadata.xml", "there is nothing of S5"]
    told = []
    unpack(found.archives, tmp_path / "out", progress=lambda done, total: told.append((done, total)))
    assert told == sorted(told)
    assert told[-1][0] == told[-1][1] == sum(a.path.stat().st_size for a in found.archives)
    ours = {p.relative_to(tmp_path / "out") for p in (tmp_path / "out").rglob("*") if p.is_file()}
    theirs = {p.relative_to(miniature.folder) for p in miniature.folder.rglob("*") if p.is_file()}
    assert ours == {p for p in theirs if "D2_Positions" not in p.parts and p.stem not in ("_ALL 1", "metadata")}
    for file in ours:
        assert (tmp_path / "out" / file).read_bytes() == (miniature.folder / file).read_bytes()
    again = find_originals(tmp_path / "out", packed)
    assert [files.name for files in again.scenes] == [f"{s}/{n}" for s in ("S1", "S11") for n in SCENES]


def test_the_helper_packs_too(tmp_path):
    write_human36m(tmp_path, ("S9",), ("Waiting-1",), frames=2, archives=True)
    assert sorted(p.name for p in tmp_path.iterdir()) == [
        "Poses_D2_Positions_S9.tgz",
        "Poses_D3_Positions_S9.tgz",
        "Segments_mat_gt_bb_S9.tgz",
        "Videos_S9.tgz",
        "metadata.xml",
    ]
    unpack(find_originals(tmp_path).archives, tmp_path)
    (files,) = find_originals(tmp_path).scenes
    assert files.name == "S9/Waiting-1"
    assert len(files.videos) == len(files.boxes) == 4


def test_unpacking_goes_on_where_it_was_interrupted(packed, tmp_path):
    archives = find_originals(packed).archives

    class Stop(Exception):
        pass

    def stop(done, _total):
        if done > 5000:
            raise Stop

    with pytest.raises(Stop):
        unpack(archives, tmp_path / "out", progress=stop)
    there = {p: p.stat().st_mtime_ns for p in (tmp_path / "out").rglob("*") if p.is_file()}
    assert there
    left = find_originals(tmp_path / "out", packed).archives
    assert sum(len(a.wanted) for a in left) == sum(len(a.wanted) for a in archives) - len(there)
    unpack(archives, tmp_path / "out")
    assert {p: p.stat().st_mtime_ns for p in there} == there
    assert len(find_originals(tmp_path / "out").scenes) == 6


def test_a_complete_subject_is_not_opened(tmp_path):
    """All 30 files of poses are there: the archive beside them, which is none, is not looked into."""
    for name in {original_name("S9", f"{a}-{t}") for a in _actions() for t in (1, 2)}:
        write_cdf(tmp_path / "S9/MyPoseFeatures/D3_Positions" / f"{name}.cdf", np.zeros((1, 96)))
    (tmp_path / "Poses_D3_Positions_S9.tgz").write_text("no archive")
    found = find_originals(tmp_path)
    assert found.archives == ()
    unpack((Archive(tmp_path / "Poses_D3_Positions_S9.tgz", "S9", POSES, frozenset({"Photo.cdf"})),), tmp_path)


def _actions():
    from tripose.data.human36m.protocol import ACTIONS

    return ACTIONS


def _hostile(path, *members):
    with tarfile.open(path, "w:gz") as tar:
        for name, kind, content in members:
            member = tarfile.TarInfo(name)
            member.type, member.linkname, member.size = kind, "/etc/passwd", len(content)
            tar.addfile(member, io.BytesIO(content))


def test_nothing_gets_out_of_the_folder(tmp_path):
    source, out = tmp_path / "in", tmp_path / "a" / "out"
    source.mkdir()
    _hostile(
        source / "Poses_D3_Positions_S1.tgz",
        ("../../Directions.cdf", tarfile.REGTYPE, b"up"),
        ("/tmp/evil.cdf", tarfile.REGTYPE, b"root"),
        ("S1/Photo.cdf", tarfile.SYMTYPE, b""),
        ("S1/Waiting.cdf", tarfile.LNKTYPE, b""),
        ("S1/../../evil.cdf", tarfile.REGTYPE, b"evil"),
    )
    unpack(find_originals(source).archives, out)
    files = [p for p in tmp_path.rglob("*") if not p.is_dir() and p.parent != source]
    assert files == [out / "S1/MyPoseFeatures/D3_Positions/Directions.cdf"]
    assert files[0].read_bytes() == b"up"


@pytest.mark.parametrize("keep", [0.0, 0.3, 0.7, 0.99])
def test_an_archive_that_was_not_downloaded_to_its_end(packed, tmp_path, keep):
    path = packed / "Videos_S1.tgz"
    content = path.read_bytes()
    path.write_bytes(content[: int(len(content) * keep)])
    archives = [a for a in find_originals(packed).archives if a.path == path]
    with pytest.raises(TriposeError, match=r"Videos_S1.tgz is damaged or was not downloaded to its end"):
        unpack(archives, tmp_path / "out")
    # What is there is whole.
    for file in (tmp_path / "out").rglob("*.mp4"):
        assert len(list(read_frames(file))) == 3
    assert not [p for p in (tmp_path / "out").rglob(".*") if p.is_file()]


def test_the_room_is_told_and_asked_for_first(packed, tmp_path, monkeypatch):
    archives = find_originals(packed).archives
    for archive in archives:
        with tarfile.open(archive.path) as tar:
            files = sum(member.size for member in tar.getmembers())
        assert files <= unpacked_bytes([archive]) <= files + 50_000
    (tmp_path / "plain.tgz").write_bytes(bytes(1000))
    assert unpacked_bytes([Archive(tmp_path / "plain.tgz", "S1", POSES, frozenset())]) == 1000
    # Videos of 5.000 GB in a gzip file of as much: the length in the file is modulo 4 GiB.
    with (tmp_path / "large.tgz").open("wb") as file:
        file.write(b"\x1f\x8b")
        file.seek(5_000_500_000)
        file.write((5_000_000_000 % 2**32).to_bytes(4, "little"))
    assert unpacked_bytes([Archive(tmp_path / "large.tgz", "S1", VIDEOS, frozenset())]) == 5_000_000_000
    usage = shutil.disk_usage(tmp_path)
    monkeypatch.setattr(shutil, "disk_usage", lambda _: usage._replace(free=1000))
    with pytest.raises(TriposeError, match=r"unpacking 6 archives takes 0\.\d GB, and 0.0 GB are free"):
        unpack(archives, tmp_path / "out")
    assert not list((tmp_path / "out").iterdir())


# --- Files that are something else ------------------------------------------------------------------------------------


@pytest.mark.parametrize("compress", [0, 6])
@pytest.mark.parametrize("keep", [0.0, 0.01, 0.1, 0.5, 0.9])
def test_a_truncated_file_of_poses(tmp_path, keep, compress):
    write_cdf(tmp_path / "a.cdf", np.random.default_rng(0).normal(0, 1000, (50, 96)), compress)
    content = (tmp_path / "a.cdf").read_bytes()
    (tmp_path / "a.cdf").write_bytes(content[: int(len(content) * keep)])
    with pytest.raises(TriposeError, match=r"a.cdf cannot be read: it is truncated, damaged or no CDF file"):
        read_poses_3d(tmp_path / "a.cdf")


def test_other_files_of_poses(tmp_path):
    write_cdf(tmp_path / "a.cdf", np.zeros((5, 64)))
    with pytest.raises(
        TriposeError, match=r"a.cdf holds an array \[5, 64\], expected \[1, frames, 96\].* D3_Positions"
    ):
        read_poses_3d(tmp_path / "a.cdf")
    write_cdf(tmp_path / "b.cdf", np.full((5, 96), np.nan))
    with pytest.raises(TriposeError, match=r"b.cdf holds numbers that are not finite"):
        read_poses_3d(tmp_path / "b.cdf")
    (tmp_path / "c.cdf").write_text("hello " * 100)
    with pytest.raises(TriposeError, match=r"c.cdf cannot be read: it is truncated, damaged or no CDF file"):
        read_poses_3d(tmp_path / "c.cdf")
    with pytest.raises(TriposeError, match=r"gone.cdf: there is no such file of poses"):
        read_poses_3d(tmp_path / "gone.cdf")


def test_without_cdflib_one_line_names_the_command(tmp_path):
    code = (
        "import sys; sys.modules['cdflib'] = None\n"
        "from pathlib import Path\n"
        "from tripose.data.human36m.poses import read_poses_3d\n"
        "read_poses_3d(Path('a.cdf'))"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=False, cwd=tmp_path)
    assert done.stderr.splitlines()[-1].endswith("which is not installed: pip install 'tripose[h36m]'")


@pytest.mark.parametrize("keep", [0.0, 0.05, 0.5, 0.95])
def test_a_truncated_file_of_boxes(miniature, tmp_path, keep):
    content = (miniature.folder / "S1/MySegmentsMat/ground_truth_bb/Directions.54138969.mat").read_bytes()
    (tmp_path / "a.mat").write_bytes(content[: int(len(content) * keep)])
    with pytest.raises(
        TriposeError, match=r"a.mat cannot be read: it is truncated, damaged or no MAT file of version 7.3"
    ):
        read_boxes(tmp_path / "a.mat")


def test_other_files_of_boxes(tmp_path):
    with h5py.File(tmp_path / "a.mat", "w") as file:
        file["Feat"] = np.zeros(3)
    with pytest.raises(TriposeError, match=r"a.mat has no 'Masks': it is not a file of ground_truth_bb"):
        read_boxes(tmp_path / "a.mat")
    with h5py.File(tmp_path / "b.mat", "w") as file:
        file["Masks"] = np.zeros((3, 4))
    with pytest.raises(TriposeError, match=r"b.mat: 'Masks' has shape \(3, 4\), expected one mask for every frame"):
        read_boxes(tmp_path / "b.mat")
    with h5py.File(tmp_path / "c.mat", "w") as file:
        file.create_dataset("Masks", (3, 1), h5py.ref_dtype)
    with pytest.raises(TriposeError, match=r"c.mat cannot be read"):
        read_boxes(tmp_path / "c.mat")
    with h5py.File(tmp_path / "d.mat", "w") as file:
        file.create_group("Masks")
    with pytest.raises(TriposeError, match=r"d.mat: 'Masks' is a group"):
        read_boxes(tmp_path / "d.mat")
    with pytest.raises(TriposeError, match=r"gone.mat: there is no such file of boxes"):
        read_boxes(tmp_path / "gone.mat")
